"""Every command of docs/data.md, as it is typed there, on an empty folder."""

import re
from pathlib import Path
from typing import Any

import pytest

from robustbench_ft import cli
from robustbench_ft.errors import DataError

DOC = Path(__file__).parents[1] / "docs" / "data.md"
COMMANDS = [line.partition("#")[0].split() for line in re.findall(r"^rbft .*$", DOC.read_text(), re.MULTILINE)]


def test_there_are_commands() -> None:
    assert {words[2] for words in COMMANDS if words[1] == "data"} == {"status", "prepare", "verify", "index"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_docs_is_understood(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(url: str, *_: Any, **__: Any) -> None:
        raise DataError(f"{url} was not fetched", hint="another time")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").mkdir()
    (tmp_path / "archives").mkdir()
    (tmp_path / "labels.json").write_text("{}")
    monkeypatch.setattr("robustbench_ft.prepare.fetch", refuse)
    monkeypatch.setattr("sys.argv", [word.replace("/mnt/archives", str(tmp_path / "archives")) for word in words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    missing = words[1] == "data" and words[2] != "status"
    assert ended.value.code == (3 if missing else 0), said.err
    assert not missing or "next:" in said.err
