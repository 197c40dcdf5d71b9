from __future__ import annotations

import inspect
import re

import pytest

from robustbench_ft import errors
from robustbench_ft.errors import RbftError, UnknownName


def test_exit_codes_are_those_of_the_tree_in_the_module_s_docstring() -> None:
    told = dict(re.findall(r"(\w+Error|MissingData|UnknownName)\s+exit (\d)", errors.__doc__ or ""))
    kinds = {n: k for n, k in vars(errors).items() if inspect.isclass(k) and issubclass(k, RbftError)}
    assert {name: str(kind.exit_code) for name, kind in kinds.items()} == told


def test_an_error_carries_its_hint() -> None:
    error = RbftError("what", hint="do that")
    assert str(error) == "what" and error.hint == "do that" and RbftError("what").hint == ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("wisft", "unknown method 'wisft'. Did you mean wiseft? Known: ft, lp, wiseft."),
        ("WISEFT-", "unknown method 'WISEFT-'. Did you mean wiseft? Known: ft, lp, wiseft."),
        ("zzz", "unknown method 'zzz'. Known: ft, lp, wiseft."),
    ],
)
def test_an_unknown_name_gets_the_nearest_and_all_known(given: str, message: str) -> None:
    assert str(UnknownName("method", given, ["wiseft", "lp", "ft"])) == message


def test_with_nothing_known_it_says_so() -> None:
    assert str(UnknownName("suite", "x", [])) == "unknown suite 'x'. Known: none."


def test_of_many_known_names_only_the_near_ones_are_shown() -> None:
    text = str(UnknownName("model", "ViT-B-23", [f"RN{n}" for n in range(200)] + ["ViT-B-32", "ViT-B-16"]))
    assert "Did you mean ViT-B-32?" in text and "RN150" not in text and "200 more" in text and len(text) < 300
