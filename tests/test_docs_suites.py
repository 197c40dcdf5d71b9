"""docs/suites.md, done as it says."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_ft import cli

DOC = Path(__file__).parents[1] / "docs" / "suites.md"


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for k in range(20):
        for number, name in enumerate(("moon", "heart")):
            picture(tmp_path / f"photos/pets/train/{name}/{k:03}.jpg", 100 * number + k)
    for k in range(5):
        for number, name in enumerate(("moon", "heart")):
            picture(tmp_path / f"photos/pets/test/{name}/{k:03}.jpg", 1000 + 100 * number + k)
    for k in range(3):
        for number, name in enumerate(("moon", "heart")):
            picture(tmp_path / f"photos/drawings/{name}/{k}.png", 2000 + 100 * number + k)
    (tmp_path / "pets.toml").write_text(re.findall(r"```toml\n(.*?)```", DOC.read_text(), re.DOTALL)[0])
    monkeypatch.setenv("RBFT_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rbft(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", line.split())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_example_runs_as_it_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [line for line in DOC.read_text().splitlines() if line.startswith("rbft ") and "pets.toml" in line]
    assert len(commands) == 2
    for command in commands:
        code, printed = rbft(f"{command} --json", monkeypatch), capsys.readouterr()
        assert code == 0, printed.err
    rows = json.loads(printed.out)["rows"]
    assert len(rows) == 11 and {tuple(row["scores"]) for row in rows} == {("pets", "pets-drawings")}


def test_a_wrong_number_of_images_is_said_with_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "photos/pets/test/moon/004.jpg").unlink()
    shutil.rmtree(folder / "photos/drawings/heart")
    assert rbft("rbft evaluate --suite pets.toml --data photos --method zeroshot", monkeypatch) == 3
    assert "pets: 9 examples, expected 10" in capsys.readouterr().err
    picture(folder / "photos/pets/test/moon/004.jpg", 5)
    assert rbft("rbft evaluate --suite pets.toml --data photos --method zeroshot", monkeypatch) == 3
    assert "drawings: no heart" in capsys.readouterr().err
