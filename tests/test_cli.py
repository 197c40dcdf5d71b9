from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from robustbench_ft import cli, evaluation, method, records, store, suites
from robustbench_ft.errors import CheckError, DataError, LeakError, PartialError, ProtocolError, TrainingError
from robustbench_ft.metrics import PACK, RECORD


class Said(NamedTuple):
    code: int
    out: str
    err: str


Rbft = Callable[..., Said]
QUICK = ("--set", "base.recipe.epochs=1", "--set", "path_steps=1")


@pytest.fixture
def rbft(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Rbft:
    """Calls the command in this process, in an empty folder and with a store that the tests of this file share."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RBFT_STORE", str(tmp_path_factory.getbasetemp() / "cli-store"))

    def call(*words: object) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["rbft", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Said(int(ended.value.code or 0), out, err)

    return call


def strict(text: str) -> Any:
    """One JSON document, with nothing beside it and no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


# What a user types wrong


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["evaluate", "--method", "wisft"], 2, "unknown method 'wisft'. Did you mean wiseft?", "path/to/file.py"),
        (["evaluate", "--method", "nothing.py"], 2, "no method file at", "rbft list methods"),
        (["evaluate"], 2, "--method", "rbft evaluate --help"),
        (["evalute"], 2, "No such command 'evalute'", "rbft --help"),
        (["evaluate", "--method", "ft", "--sed", "3"], 2, "--sed", "rbft evaluate --help"),
        (["evaluate", "--method", "ft", "--seed", "-1"], 2, "--seed", "rbft evaluate --help"),
        (["evaluate", "--method", "ft", "--seed", "one"], 2, "--seed", "rbft evaluate --help"),
        (["evaluate", "--method", "ft", "--batch-size", "0"], 2, "--batch-size", "rbft evaluate --help"),
        (["evaluate", "--method", "ft", "--precision", "fp8"], 2, "fp8", "rbft evaluate --help"),
        (["evaluate", "--method", "ft", "--device", "cudda"], 2, "--device cudda", "rbft doctor"),
        (["evaluate", "--method", "ft", "--data", "not/there"], 2, "--data not/there: no such folder", "data sets"),
        (["evaluate", "--method", "ft", "--suite", "imagnet"], 2, "unknown suite 'imagnet'", "suite.toml"),
        (["evaluate", "--method", "ft", "--suite", "a.toml"], 2, "no suite file at a.toml", "rbft list suites"),
        (["evaluate", "--method", "ft", "--model", "mini_clip"], 2, "Did you mean mini-clip?", "rbft list models"),
        (["evaluate", "--method", "ft", "--model", "ViT-B-32"], 2, "which weights of ViT-B-32?", "--pretrained"),
        (["evaluate", "--method", "ft", "--model", "x.safetensors"], 3, "no start model at x.safetensors", "list models"),
        (["evaluate", "--method", "wiseft", "--set", "alpha=1.5"], 2, "alpha: .*less than or equal to 1, got 1.5", ""),
        (["evaluate", "--method", "wiseft", "--set", "alpha=half"], 2, "alpha: Input should be a valid number", "show wiseft"),
        (["evaluate", "--method", "wiseft", "--set", "alpha=NaN"], 2, "alpha: Input should be a finite number", "show wiseft"),
        (["evaluate", "--method", "wiseft", "--set", "alpha"], 2, "--set 'alpha': expected FIELD=VALUE", "--set alpha=0.3"),
        (["evaluate", "--method", "wiseft", "--set", "=0.3"], 2, "expected FIELD=VALUE", "--set alpha=0.3"),
        (["evaluate", "--method", "wiseft", "--set", "alhpa=0.3"], 2, "'alhpa'. Did you mean alpha?", "rbft show wiseft"),
        (["evaluate", "--method", "wiseft", "--set", "base=flpy"], 2, "'flpy'. Did you mean flyp?", ""),
        (["evaluate", "--method", "wiseft", "--set", "base=3"], 2, "base: .*expected a method", "rbft show wiseft"),
        (["evaluate", "--method", "wiseft", "--set", 'base={"lr":1}'], 2, "base: .*expected a method", "show wiseft"),
        (["evaluate", "--method", "wiseft", "--set", "base.recipe.lrr=1"], 2, "'lrr'. Did you mean lr?", "show wiseft"),
        (["evaluate", "--method", "wiseft", "--set", "base.recipe.lr=-1"], 2, "base.recipe.lr: .*greater than 0, got -1", ""),
        (["evaluate", "--method", "wiseft", "--set", "base.recipe.lr=Infinity"], 2, "base.recipe.lr: .*finite", ""),
        (["evaluate", "--method", "ft", "--set", "recipe.lr=0.1", "--chosen-by", "recipe.lr=luck"], 2, "one of default", ""),
        (["evaluate", "--method", "ft", "--chosen-by", "recipe.lr=id_val"], 2, "was not given by --set", "--set recipe.lr="),
        (["list", "method"], 2, "Did you mean methods?", "rbft list methods"),
        (["show", "wisft"], 2, "Did you mean wiseft?", ""),
        (["score", "nothing"], 3, "nothing: no such file or folder", "rbft score"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_gets_what_was_given_what_is_known_and_what_to_do(
    words: list[str], code: int, message: str, hint: str, rbft: Rbft, tiny_file: Path
) -> None:
    import re

    suite = ["--suite", str(tiny_file)] if words[0] in ("evaluate", "show") and "--suite" not in words else []
    said = rbft(*words, *suite)
    assert said.code == code, said
    text, _, following = said.err.partition("next:")
    assert re.search(message.replace("?", r"\?").replace(".*", "\0").replace(".", r"\.").replace("\0", ".*"), text), said.err
    assert hint in following
    assert said.out == ""
    assert not list(Path.cwd().iterdir())


def test_a_mistake_with_json_is_one_document_on_stdout(rbft: Rbft, tiny_file: Path) -> None:
    for words, code in (
        (["evaluate", "--method", "wisft", "--suite", tiny_file], 2),
        (["evaluate"], 2),
        (["score", "nothing"], 3),
        (["list", "method"], 2),
    ):
        said = rbft(*words, "--json")
        found = strict(said.out)
        assert said.code == found["exit_code"] == code
        assert found["error"] and found["error"] in said.err and found.keys() == {"error", "hint", "exit_code"}


def test_rbft_alone_and_with_help_says_what_it_can_do(rbft: Rbft) -> None:
    for words, code in (([], 2), (["--help"], 0)):
        said = rbft(*words)
        assert said.code == code
        for verb in ("evaluate", "score", "leaderboard", "list", "show", "doctor"):
            assert verb in said.out


# Errors while running


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (TrainingError("the loss is nan", hint="a lower rate"), 1, ["the loss is nan", "a lower rate"]),
        (LeakError("a method opened mini-a"), 1, ["a method opened mini-a"]),
        (DataError("short"), 3, ["short"]),
        (ProtocolError("two protocols"), 4, ["two protocols"]),
        (PartialError("partial"), 5, ["partial"]),
        (CheckError("stale"), 6, ["stale"]),
        (OSError(errno.ENOSPC, "No space left on device"), 1, ["the disk is full", "--store DIR"]),
        (OSError("Not enough free space to write 8 bytes"), 1, ["the disk is full", "--store DIR"]),  # numpy's own words
        (MemoryError(), 1, ["smaller --batch-size"]),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), 1, ["out of memory", "smaller --batch-size"]),
        (ValueError("odd"), 1, ["ValueError: odd", "--debug"]),
        (KeyboardInterrupt(), 130, ["interrupted; the same command continues"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_while_running_has_its_exit_code_and_its_advice(
    error: BaseException, code: int, words: list[str], rbft: Rbft, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(evaluation, "evaluate", fail)
    for flags in ([], ["--json"]):
        said = rbft("evaluate", "--method", "ft", *flags)
        assert said.code == code and all(word in said.err for word in words), said.err
        assert (strict(said.out)["exit_code"] == code) if flags else said.out == ""


def test_debug_shows_where(rbft: Rbft, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise ValueError("odd")

    monkeypatch.setattr(evaluation, "evaluate", fail)
    monkeypatch.setattr(sys, "argv", ["rbft", "evaluate", "--method", "ft", "--debug"])
    with pytest.raises(ValueError, match="odd"):
        cli.main()


@pytest.mark.parametrize("where", ["os.replace", "save_file"])
def test_a_full_disk_is_named_leaves_nothing_half_and_the_same_command_then_works(
    where: str, rbft: Rbft, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        if where == "save_file":  # safetensors wraps the system's error
            from safetensors import SafetensorError

            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        raise OSError(errno.ENOSPC, "No space left on device")

    words = ["evaluate", "--method", "zeroshot", "--suite", tiny_file, "--store", tmp_path / "s", "--out", tmp_path / "o"]
    with monkeypatch.context() as patch:
        patch.setattr(*(os, "replace") if where == "os.replace" else (store, "save_file"), full)
        said = rbft(*words)
    assert said.code == 1 and "the disk is full" in said.err and "--store DIR" in said.err
    assert not list(tmp_path.rglob(RECORD)) and not list(tmp_path.rglob("fit.json"))
    assert rbft(*words).code == 0


# The main job


def test_evaluate_prints_the_table_and_where_things_are(rbft: Rbft, tiny_file: Path) -> None:
    said = rbft("evaluate", "--method", "WiSE-FT", "--suite", tiny_file, *QUICK, "--out", "o")
    assert said.code == 0
    for word in ("alpha=0.5", "alpha=1", "OOD mean", "o/record.json", "o/curve.png", "rbft score o"):
        assert word in said.out
    assert Path("o/curve.png").stat().st_size > 1000 and Path("o", PACK).is_file()
    record = records.load(Path("o", RECORD))
    assert record.method == "wiseft"
    assert record.selection == {
        "alpha": "default", "base": "default", "choose_alpha": "default", "fisher": "default",
        "path_steps": "unstated", "base.recipe.epochs": "unstated",
    }  # fmt: skip


def test_evaluate_json_is_one_document_and_all_else_is_on_stderr(rbft: Rbft, tiny_file: Path) -> None:
    said = rbft("evaluate", "--method", "wiseft", "--suite", tiny_file, *QUICK, "--out", "o", "--json")
    found = strict(said.out)
    assert said.code == 0 and found["method"] == "wiseft" and found["record"] == "o/record.json"
    assert [row["point"] for row in found["rows"]] == ["start", "alpha=0.5", "alpha=1"]
    record = records.load(Path("o", RECORD))
    for row, point in zip(found["rows"], record.points, strict=True):
        counts = point.counts["tiny-test/own"]
        assert row["id"] == pytest.approx(counts.k / counts.n)
    scored = rbft("score", "o", "--suite", tiny_file, "--json")
    assert strict(scored.out)["rows"] == found["rows"]


def test_a_nested_method_and_its_fields_are_set_by_dotted_names(rbft: Rbft, tiny_file: Path) -> None:
    words = ["evaluate", "--method", "wiseft", "--suite", tiny_file, "--out", "o"]
    said = rbft(*words, "--set", "base=flyp", *QUICK, "--set", "base.recipe.lr=1e-4", "--set", "alpha=.3")
    assert said.code == 0, said.err
    record = records.load(Path("o", RECORD))
    assert record.config["base"]["method"] == "flyp" and record.config["alpha"] == 0.3
    assert record.config["base"]["recipe"]["lr"] == 1e-4 and record.config["base"]["recipe"]["clip"] is None
    assert record.headline.alpha == 0.3 and record.selection["base.recipe.lr"] == "unstated"


def test_chosen_by_says_how_a_field_was_chosen(rbft: Rbft, tiny_file: Path) -> None:
    words = ["evaluate", "--method", "wiseft", "--suite", tiny_file, *QUICK, "--out", "o", "--set", "alpha=0.4"]
    assert rbft(*words, "--chosen-by", "alpha=id_val:grid of 0.1").code == 0
    assert records.load(Path("o", RECORD)).selection["alpha"] == "id_val:grid of 0.1"


def test_a_method_file_of_one_s_own_runs(rbft: Rbft, tiny_file: Path) -> None:
    text = method.load("zeroshot").source.read_text()
    Path("mine.py").write_text(text)
    said = rbft("evaluate", "--method", "mine.py", "--suite", tiny_file, "--out", "o")
    assert said.code == 0, said.err
    assert records.load(Path("o", RECORD)).method == "mine"
    Path("ft.py").write_text(text)
    said = rbft("evaluate", "--method", "ft.py", "--suite", tiny_file)
    assert said.code == 2 and "the name ft is taken" in said.err


def test_a_spoilt_pack_fails_the_score(rbft: Rbft, tiny_file: Path) -> None:
    rbft("evaluate", "--method", "zeroshot", "--suite", tiny_file, "--out", "o")
    assert rbft("score", "o", "--suite", tiny_file).code == 0
    pack = bytearray(Path("o", PACK).read_bytes())
    pack[-2] ^= 1
    Path("o", PACK).write_bytes(pack)
    said = rbft("score", "o", "--suite", tiny_file)
    assert said.code == 6 and "SHA-256" in said.err


def test_the_default_folder_tells_runs_apart(tiny_file: Path) -> None:
    suite = suites.parse(tiny_file)

    def folder(alpha: float = 0.5, **fields: Any) -> str:
        order = evaluation.Order(method="wiseft", suite=str(tiny_file), **fields)
        plain = method.configure("wiseft", recipe_table=suite.recipes, overrides=[("alpha", alpha)])
        return str(evaluation.default_out(suite, plain, order))

    assert folder() == "runs/tiny/wiseft/seed-0" and folder(seed=2) == "runs/tiny/wiseft/seed-2"
    others = [folder(alpha=0.3), folder(model="x.safetensors"), folder(model="y.safetensors"), folder(pretrained="z")]
    assert len({*others, folder()}) == 5 and all(other.startswith("runs/tiny/wiseft-") for other in others)


# What must be quick


def test_help_list_show_and_score_import_no_torch(tiny_file: Path, rbft: Rbft, tmp_path: Path) -> None:
    assert rbft("evaluate", "--method", "zeroshot", "--suite", tiny_file, "--out", "o").code == 0
    script = f"""
import sys
from robustbench_ft import cli
import robustbench_ft
for words in (["--help"], ["evaluate", "--help"], ["list", "methods"], ["list", "suites"], ["list", "baselines"],
              ["score", {str(tmp_path / "o")!r}, "--suite", {str(tiny_file)!r}], ["evaluate", "--method", "nothing"]):
    sys.argv = ["rbft", *words]
    try:
        cli.main()
    except SystemExit as ended:
        assert ended.code == (2 if "nothing" in words else 0), (words, ended.code)
    for heavy in ("torch", "torchvision", "open_clip", "timm", "scipy.stats", "matplotlib", "pandas", "sklearn", "wilds"):
        assert heavy not in sys.modules, (words, heavy)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr


def test_the_installed_command_runs() -> None:
    command = Path(sys.executable).with_name("rbft")
    found = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0 and "evaluate" in found.stdout and found.stderr == ""
