from __future__ import annotations

from pathlib import Path

import pytest

from robustbench_ft import method, recipes
from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.train import Recipe

TABLES = {
    "t": {
        "ft": {"recipe": {"lr": 0.5, "epochs": 3}},
        "flyp": {"recipe": {"lr": 0.25}},
        "l2sp": {"recipe": {"lr": 0.125}},
        "wiseft": {"alpha": 0.75},
        "uniform_soup": "soup",
        "soup": {"ingredients": [{"method": "ft"}, {"method": "ft", "recipe": {"lr": 0.0625}}, {"method": "flyp"}]},
    }
}


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_tables", lambda: TABLES)


SOURCE = '''
"""A method."""

from typing import ClassVar

from robustbench_ft.method import Method


class {name}(Method):
    """{doc}

    More.
    """

    deterministic: ClassVar[bool] = True
    rate: float = 2 * 0.5
    size: int

    def adapt(self, start, task):
        return start
'''


def written(file: Path, *, name: str = "Own", doc: str = "What it is.") -> Path:
    file.write_text(SOURCE.format(name=name, doc=doc))
    return file


# Names and files


@pytest.mark.parametrize("name", ["wiseft", "WiSE-FT", "wise_ft", "WISEFT", "wise ft"])
def test_names_are_taken_with_or_without_dashes_underscores_and_capitals(name: str) -> None:
    assert method.load(name).__name__ == "WiseFT" and method.load(name).name == "wiseft"


def test_an_underscored_file_answers_to_its_dashed_name() -> None:
    assert method.load("greedy-soup") is method.load("greedy_soup") is method.load("GreedySoup")


def test_the_folder_is_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b_one", "a_two", "_helper", "__init__"):
        written(tmp_path / f"{name}.py")
    monkeypatch.setattr(method, "folder", lambda: tmp_path)
    assert method.names() == ["a_two", "b_one"]


def test_every_method_is_described_without_being_imported() -> None:
    for name in method.names():
        kind, told = method.load(name), method.describe(method.folder() / f"{name}.py")
        assert told.name == name and list(told.fields) == list(kind.model_fields), name
        assert told.summary == (kind.__doc__ or "").partition("\n")[0] != ""


def test_a_description_runs_nothing(tmp_path: Path) -> None:
    file = written(tmp_path / "own.py")
    file.write_text(file.read_text() + "\nraise RuntimeError\n")
    assert method.describe(file) == ("own", "What it is.", {"rate": "2 * 0.5", "size": ""})


def test_a_file_of_one_s_own_is_loaded_by_path_then_by_name(tmp_path: Path) -> None:
    kind = method.load(str(written(tmp_path / "own_by_path.py")))
    assert kind.name == "own_by_path" and kind.source == tmp_path / "own_by_path.py"
    assert method.load("own_by_path") is kind is method.load(str(tmp_path / "own_by_path.py"))


def test_a_file_of_the_folder_given_by_path_is_that_method() -> None:
    assert method.load(str(method.folder() / "ft.py")) is method.load("ft")


@pytest.mark.parametrize("name", ["ft", "WiSE-FT", "start"])
def test_a_file_may_not_take_the_name_of_a_method_of_the_package(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is taken"):
        method.load(str(written(tmp_path / f"{name}.py")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "defines 0 methods"),
        (SOURCE.format(name="A", doc="a") + SOURCE.format(name="B", doc="b"), "defines 2 methods"),
        ("import nothing_of_that_name\n", "cannot be imported: ModuleNotFoundError"),
        ("def broken(:\n", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_that_is_no_method_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(text)
    for _ in range(2):
        with pytest.raises(UsageError, match=message):
            method.load(str(tmp_path / "wrong.py"))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UnknownName, match=r"'wisft'.*Did you mean wiseft\?.*zeroshot"):
        method.load("wisft")


# Fields: the recipe table, then the class; overrides over both


def test_fields_come_from_the_table_and_the_rest_from_the_class(tables: None) -> None:
    made = method.configure("ft", recipe_table="t")
    assert made.recipe == Recipe(lr=0.5, epochs=3)  # type: ignore[attr-defined]


def test_what_a_table_leaves_out_of_a_recipe_stays_the_class_s_own(tables: None) -> None:
    """FLYP does not clip, and L2-SP has no weight decay, whatever rate a table gives them."""
    flyp, l2sp = (method.configure(name, recipe_table="t") for name in ("flyp", "l2sp"))
    assert flyp.recipe == Recipe(lr=0.25, clip=None)  # type: ignore[attr-defined]
    assert l2sp.recipe == Recipe(lr=0.125, weight_decay=0.0)  # type: ignore[attr-defined]
    assert method.load("flyp").model_validate({"recipe": {"epochs": 2}}).recipe.clip is None


def test_nested_methods_take_their_own_fields_from_the_table(tables: None) -> None:
    made = method.configure("wiseft", recipe_table="t")
    assert made.alpha == 0.75 and made.base.recipe == Recipe(lr=0.5, epochs=3)  # type: ignore[attr-defined]
    over_flyp = method.configure("wiseft", recipe_table="t", overrides=[("base", "flyp")])
    assert over_flyp.base == method.configure("flyp", recipe_table="t")  # type: ignore[attr-defined]
    soup = method.configure("uniform_soup", recipe_table="t")
    rates = [one.recipe.lr for one in soup.ingredients]  # type: ignore[attr-defined]
    assert rates == [0.5, 0.0625, 0.25] and soup.ingredients[1].recipe.epochs == 3  # type: ignore[attr-defined]


def test_overrides_are_applied_in_order_and_leave_the_rest(tables: None) -> None:
    made = method.configure(
        "wiseft", recipe_table="t", overrides=[("base", "flyp"), ("base.recipe.lr", 0.1), ("alpha", 0.2), ("alpha", 0.3)]
    )
    assert made.alpha == 0.3 and made.base.recipe == Recipe(lr=0.1, clip=None)  # type: ignore[attr-defined]
    soup = method.configure(
        "uniform_soup", recipe_table="t", overrides=[("ingredients.1.recipe.lr", 0.2), ("ingredients.0", "lp")]
    )
    assert [one.name for one in soup.ingredients] == ["lp", "ft", "flyp"]  # type: ignore[attr-defined]
    assert soup.ingredients[1].recipe == Recipe(lr=0.2, epochs=3)  # type: ignore[attr-defined]


def test_a_value_of_none_can_be_given(tables: None) -> None:
    assert method.configure("ft", recipe_table="t", overrides=[("recipe.clip", None)]).recipe.clip is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("wiseft", "alpha", 1.5, r"wiseft: alpha: .*less than or equal to 1, got 1\.5"),
        ("wiseft", "alpah", 1, r"'alpah'. Did you mean alpha\? Known: alpha, base, choose_alpha, fisher, path_steps"),
        ("wiseft", "base.recipe.lrr", 1, r"wiseft, base\.recipe: 'lrr'. Did you mean lr\?"),
        ("wiseft", "alpha.x", 1, "'x'. Known: none"),
        ("wiseft", "base", 3, "base: .*expected a method.*got 3"),
        ("wiseft", "base", {"recipe": {}}, "base: .*expected a method"),
        ("wiseft", "base", "flpy", "Did you mean flyp"),
        ("uniform_soup", "ingredients.7", "ft", "'7'. Known: 0, 1, 2"),
        ("uniform_soup", "ingredients.0.recipe.lr", 0, r"ingredients\.0\.recipe\.lr: .*greater than 0, got 0"),
        ("l2sp", "strength", float("inf"), "strength: .*finite"),
    ],
)
def test_a_wrong_field_or_value_is_named(name: str, field: str, value: object, message: str, tables: None) -> None:
    with pytest.raises(UsageError, match=message):
        method.configure(name, recipe_table="t", overrides=[(field, value)])


def test_a_table_that_is_not_there_is_named(tables: None) -> None:
    with pytest.raises(UnknownName, match="recipe table 'u'.*Known: t"):
        method.configure("ft", recipe_table="u")


def test_a_task_with_another_seed_differs_in_nothing_else() -> None:
    task = method.Task("s", None, None, ("a",), ("{}",), 3)  # type: ignore[arg-type]
    assert task.with_seed(4) == method.Task("s", None, None, ("a",), ("{}",), 4)  # type: ignore[arg-type]
    assert task.seed == 3
