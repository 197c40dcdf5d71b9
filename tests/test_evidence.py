import importlib.util
from pathlib import Path
from types import ModuleType

from robustbench_ft import published

ROOT = Path(__file__).resolve().parents[1]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("evidence", ROOT / "scripts" / "evidence.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_figures_give() -> None:
    module = script()
    boards = published.boards(published.read_all(ROOT / "submissions"))
    assert (ROOT / module.PAGE).read_text() == module.page(boards)
