"""``rbft data``, ``rbft list datasets`` and ``rbft show`` of data sets, as they are typed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from miniatures.pets import N, archive, pictures, tar, write_dataset, write_files

from robustbench_ft import asked, cli, datafiles, metrics, suites
from robustbench_ft.errors import UnknownName, UsageError

FILES, TRAIN = pictures(), pictures("train")
VERBS = ("status", "prepare", "verify", "index")


class Said(NamedTuple):
    code: int
    out: str
    err: str


Rbft = Callable[..., Said]


@pytest.fixture
def rbft(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rbft:
    """Calls the command in this process, in a folder with ``pets.toml`` (test, and train as an extra) and an empty ``data``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RBFT_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("RBFT_DATA", raising=False)
    datafiles._parse.cache_clear()
    entries = [
        archive("pets.tar", tar(FILES), splits=["test"]),
        archive("train.tar", tar(TRAIN), splits=["train"], optional=True),
    ]
    write_dataset(tmp_path, entries, splits=("test", "train"), how="Ask the authors for pets.tar.")
    (tmp_path / "data").mkdir()

    def call(*words: object) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["rbft", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Said(int(ended.value.code or 0), out, err)

    return call


def test_from_missing_to_verified(rbft: Rbft, tmp_path: Path) -> None:
    said = rbft("data", "status", "pets.toml", "--data", "data")
    assert said.code == 0 and "0 of 6" in said.out and "no (optional)" in said.out and "Ask the authors" in said.out
    assert rbft("data", "status", "pets.toml", "--data", "data", "--check").code == 3
    said = rbft("data", "prepare", "pets.toml", "--data", "data")
    assert said.code == 3 and "no pets.tar" in said.err and "Ask the authors" in said.err and said.out == ""
    write_files(tmp_path, {"pets.tar": tar(FILES)})
    said = rbft("data", "prepare", "pets.toml", "--data", "data", "--from", "pets.tar")
    assert said.code == 0 and "yes" in said.out
    assert rbft("data", "status", "pets.toml", "--data", "data", "--check").code == 0
    said = rbft("data", "verify", "pets.toml", "--data", "data", "--workers", 0)
    assert said.code == 0 and "all open" in said.out
    said = rbft("data", "verify", "pets.toml", "--data", "data")
    assert said.code == 0 and "every image was opened today; --again" in said.err
    assert rbft("data", "verify", "pets.toml/train", "--data", "data").code == 3, "asked for by name"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_prints_one_json_document(verb: str, rbft: Rbft, tmp_path: Path) -> None:
    write_files(tmp_path / "data", FILES)
    said = rbft("data", verb, "pets.toml", "--data", "data", "--json")
    found = json.loads(said.out)
    rows = found["sets"] if verb == "verify" else found
    assert said.code == 0 and rows[0]["set"] == "pets/test" and rows[0]["digest"]
    if verb != "index":
        assert [(row["found"], row["expected"], row["there"]) for row in rows] == [(N, N, "yes"), (None, N, "no")]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_its_folder_from_the_environment(
    verb: str, rbft: Rbft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "data", FILES)
    monkeypatch.setenv("RBFT_DATA", "data")
    assert rbft("data", verb, "pets.toml").code == 0


def test_evaluate_takes_its_folder_from_the_environment(rbft: Rbft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RBFT_DATA", "not/there")
    said = rbft("evaluate", "--method", "ft", "--suite", "mini")
    assert said.code == 2 and "--data not/there: no such folder" in said.err


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["pets.toml"], 3, "no data folder was given", "RBFT_DATA=DIR"),
        (["pets.toml", "--data", "not/there"], 3, "--data not/there: no such folder", "mkdir -p not/there"),
        (["imagenet-w", "--data", "data"], 2, "unknown data set 'imagenet-w'", "path/to/dataset.toml"),
        (["imagenet/vall", "--data", "data"], 2, "Did you mean val?", "rbft show imagenet"),
        (["gone.toml", "--data", "data"], 2, "no data set file at gone.toml", "rbft list datasets"),
        (["mini", "--data", "data"], 2, "unknown data set 'mini'", "--suite mini"),
        (["pets.toml", "--suite", "mini", "--data", "data"], 2, "names and --suite", ""),
        (["--suite", "imagnet", "--data", "data"], 2, "unknown suite 'imagnet'", "suite.toml"),
    ],
)
def test_what_a_user_types_wrong(verb: str, words: list[str], code: int, message: str, hint: str, rbft: Rbft) -> None:
    said = rbft("data", verb, *words)
    assert said.code == code and message in said.err and hint in said.err and said.out == ""


@pytest.mark.parametrize("verb", ["prepare", "verify", "index"])
def test_only_status_is_of_everything(verb: str, rbft: Rbft) -> None:
    said = rbft("data", verb, "--data", "data")
    assert said.code == 2 and "no data set was named" in said.err
    with pytest.raises(UsageError):
        asked.asked([])


def test_status_of_everything_lists_every_split_that_rbft_knows(rbft: Rbft) -> None:
    said = rbft("data", "status", "--data", "data", "--json")
    rows = json.loads(said.out)
    assert said.code == 0 and {row["there"] for row in rows} == {"no"}
    assert [row["set"] for row in rows] == [
        f"{name}/{split}" for name in datafiles.names() for split in datafiles.load(name).splits
    ]
    assert all(row["next"] for row in rows)
    table = rbft("data", "status", "--data", "data").out
    assert "by hand: ILSVRC2012_img_train.tar, 147.9 GB" in table and "rbft data prepare imagenet-r" in table


@pytest.mark.parametrize("suite", suites.names())
def test_status_of_every_suite(suite: str, rbft: Rbft) -> None:
    said = rbft("data", "status", "--suite", suite, "--data", "data", "--json")
    found = suites.load(suite)
    rows = {row["set"] for row in json.loads(said.out)}
    assert said.code == 0 and {found.train.name, found.val.name, found.test.name} <= rows
    assert rows <= {spec.name for spec in (found.train, found.val, *found.tests)}


def damage_short(root: Path) -> None:
    (root / "pets/test/dog/2.png").unlink()


def damage_long(root: Path) -> None:
    shutil.copy(root / "pets/test/dog/2.png", root / "pets/test/dog/3.png")


def damage_foreign(root: Path) -> None:
    (root / "pets/test/fox").mkdir()


@pytest.mark.parametrize(
    ("damage", "there", "message"),
    [
        (damage_short, "short", "5 examples, expected 6"),
        (damage_long, "wrong", "7 examples, expected 6"),
        (damage_foreign, "wrong", "unknown fox"),
    ],
)
def test_what_is_short_or_wrong_is_said_by_each_verb(
    damage: Callable[[Path], None], there: str, message: str, rbft: Rbft, tmp_path: Path
) -> None:
    write_files(tmp_path / "data", FILES)
    damage(tmp_path / "data")
    said = rbft("data", "status", "pets.toml/test", "--data", "data")
    assert said.code == 0 and there in said.out and message in said.out and "next:" in said.out
    assert rbft("data", "status", "pets.toml", "--data", "data", "--check").code == 3
    for verb in ("verify", "index"):
        said = rbft("data", verb, "pets.toml", "--data", "data")
        assert said.code == 3 and message in said.err and "next:" in said.err


def test_a_broken_image_is_exit_code_3_and_in_the_json(rbft: Rbft, tmp_path: Path) -> None:
    write_files(tmp_path / "data", FILES)
    (tmp_path / "data/pets/test/cat/1.png").write_bytes(b"x")
    said = rbft("data", "verify", "pets.toml", "--data", "data")
    assert said.code == 3 and "1 broken image: test/cat/1.png" in said.err and "1 broken" in said.out
    said = rbft("data", "verify", "pets.toml", "--data", "data", "--json")
    found = json.loads(said.out)
    assert said.code == found["exit_code"] == 3 and list(found["sets"][0]["broken"]) == ["test/cat/1.png"]
    assert "broken image" in found["error"] and found["hint"]


def test_index_prints_hash_ends_and_ids(rbft: Rbft, tmp_path: Path) -> None:
    write_files(tmp_path / "data", FILES)
    said = rbft("data", "index", "pets.toml", "--data", "data")
    assert said.code == 0
    for word in ("test/cat/0.png", "test/dog/2.png", str(tmp_path / "store" / "index")):
        assert word in said.out
    said = rbft("data", "index", "pets.toml/test", "--data", "data", "--ids")
    lines = [line.split("\t") for line in said.out.splitlines()]
    assert [line[0] for line in lines] == sorted(name.removeprefix("pets/") for name in FILES)
    assert [line[1] for line in lines] == ["0", "0", "0", "1", "1", "1"]
    assert json.loads(rbft("data", "index", "pets.toml", "--data", "data", "--ids", "--json").out)[0] == ["test/cat/0.png", 0]
    write_files(tmp_path / "data", TRAIN)
    said = rbft("data", "index", "pets.toml", "--data", "data", "--ids")
    assert said.code == 2 and "--ids is for one split" in said.err


SUITE = """
name = "pets"
title = "Pets"
start = "mini-clip"
recipes = "mini"
[train]
set = "pets.toml/train"
name = "pets-train"
part = "train"
val_per_class = 1
n = 4
[val]
set = "pets.toml/train"
name = "pets-val"
part = "val"
val_per_class = 1
n = 2
[test]
set = "pets.toml/test"
"""


def test_index_of_a_suite_keeps_its_right_answers(rbft: Rbft, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(SUITE)
    write_files(tmp_path / "data", FILES | TRAIN)
    suite = suites.load("suite.toml")
    assert rbft("data", "index", "--suite", "suite.toml", "--data", "data").code == 0
    truth = metrics.truth_of(metrics.key_of(suite, tmp_path / "store"), "pets-test")
    assert truth is not None and truth.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_suite_s_sets_are_prepared_from_the_data_set_file_beside_it(rbft: Rbft, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(SUITE)
    write_files(tmp_path / "data", {"pets.tar": tar(FILES), "train.tar": tar(TRAIN)})
    said = rbft("data", "prepare", "--suite", "suite.toml", "--data", "data", "--json")
    assert said.code == 0 and {row["set"]: row["found"] for row in json.loads(said.out)} == {
        "pets-train": 4, "pets-val": 2, "pets-test": 6,
    }  # fmt: skip


def test_list_datasets(rbft: Rbft) -> None:
    rows = json.loads(rbft("list", "datasets", "--json").out)
    assert [row["dataset"] for row in rows] == datafiles.names()
    imagenet = next(row for row in rows if row["dataset"] == "imagenet")
    assert imagenet["classes"] == 1000 and imagenet["fetched"] == "by hand"
    said = rbft("list", "datasets")
    assert said.code == 0 and "imagenet-r" in said.out and "ImageNet-R" in said.out


def test_show_a_data_set(rbft: Rbft) -> None:
    said = rbft("show", "imagenet-r")
    for word in ("ImageNet-R", "30,000", "top1", "2.2 GB", "sha256:18c6bf49", "imagenet-r.tar", "200 classes", "licence"):
        assert word in said.out, word
    found = json.loads(rbft("show", "objectnet", "--json").out)
    assert len(found["classes"]) == 113 and found["splits"]["test"]["n"] == 18574


def test_a_name_of_a_suite_and_a_data_set_shows_both(rbft: Rbft) -> None:
    said = rbft("show", "imagenet")
    assert said.code == 0 and said.out.startswith("Suite imagenet: ") and "baseline imagenet-testbed@1" in said.out
    assert said.out.index("Suite imagenet") < said.out.index("Data set imagenet: ") < said.out.index("ILSVRC2012_devkit")
    found = json.loads(rbft("show", "imagenet", "--json").out)
    assert found["baseline"] == "imagenet-testbed@1" and found["dataset"]["format"] == "class_folders"


def test_show_a_file_of_one_s_own(rbft: Rbft, tmp_path: Path) -> None:
    said = rbft("show", "pets.toml")
    assert said.code == 0 and "Pets" in said.out and "train.tar" in said.out and "optional" in said.out
    (tmp_path / "suite.toml").write_text(SUITE)
    assert "start mini-clip" in rbft("show", "suite.toml").out


@pytest.mark.parametrize("name", datafiles.names())
def test_every_data_set_can_be_shown_and_every_line_of_it_fits(name: str, rbft: Rbft) -> None:
    said = rbft("show", name)
    assert said.code == 0 and datafiles.load(name).title in said.out


def test_names_may_be_splits_files_and_in_any_case(rbft: Rbft) -> None:
    assert [split.name for split in asked.asked(["ImageNet-R", "imagenet-r/test", "imagenet/val"])] == [
        "imagenet-r/test",
        "imagenet/val",
    ]
    with pytest.raises(UnknownName):
        asked.asked(["imagenet-r/train"])


def test_no_verb_imports_torch_and_help_is_quick(rbft: Rbft, tmp_path: Path) -> None:
    write_files(tmp_path / "data", {"pets.tar": tar(FILES)})
    script = """
import sys
from robustbench_ft import cli
for words in (["prepare", "pets.toml"], ["status"], ["status", "pets.toml"], ["index", "pets.toml"], ["verify", "pets.toml"]):
    sys.argv = ["rbft", "data", *words, "--data", "data"]
    try:
        cli.main()
    except SystemExit as ended:
        assert ended.code == 0, (words, ended.code)
    for heavy in ("torch", "torchvision", "open_clip", "matplotlib", "pandas", "sklearn", "wilds", "scipy.io"):
        assert heavy not in sys.modules, (words, heavy)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    command = [sys.executable, "-m", "robustbench_ft", "data", "--help"]
    seconds = []
    for _ in range(3):
        begun = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.monotonic() - begun)
    assert min(seconds) < 0.5


def test_interrupted_is_130_and_the_same_command_continues(rbft: Rbft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path / "data", FILES)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("robustbench_ft.verify._open_chunk", interrupt)
        said = rbft("data", "verify", "pets.toml", "--data", "data", "--workers", 0)
    assert said.code == 130 and "the same command continues" in said.err
    assert rbft("data", "verify", "pets.toml", "--data", "data", "--workers", 0).code == 0
