from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from robustbench_ft import method, spaces
from robustbench_ft.errors import UnknownName, UsageError

SOUPS = ("uniform_soup", "greedy_soup", "learned_soup", "model_stock", "ensemble")
RANGES = {"lr": (1e-6, 1e-4), "weight_decay": (8e-5, 0.53), "epochs": (4, 16), "label_smoothing": (0, 0.25), "mixup": (0, 0.9)}


def made(given: Any, name: str = "uniform_soup") -> list[dict[str, Any]]:
    """The dumps of the ingredients of a soup that was given these."""
    dumps: list[dict[str, Any]] = method.configure(name, recipe_table="mini", overrides=[("ingredients", given)]).dump()[
        "ingredients"
    ]
    return dumps


def search(**fields: Any) -> dict[str, Any]:
    return {"space": "model-soups", "count": 16} | fields


@pytest.mark.parametrize("name", SOUPS)
def test_every_soup_takes_a_search_and_shows_its_ingredients_in_full(name: str) -> None:
    dumps = made(search(), name)
    assert len(dumps) == 16 and {one["method"] for one in dumps} == {"ft"}
    again = method.configure(name, recipe_table="mini", overrides=[("ingredients", json.loads(json.dumps(dumps)))])
    assert again.dump()["ingredients"] == dumps


def test_a_search_is_its_seed_and_a_longer_one_begins_with_the_shorter() -> None:
    assert made(search(seed=3)) == made(search(seed=3)) != made(search(seed=4))
    assert made(search(seed=3, count=30))[:16] == made(search(seed=3))
    assert len({json.dumps(one) for one in made(search(count=30))}) == 30


def test_draws_lie_in_the_space_and_fill_it() -> None:
    recipes = [one["recipe"] for one in made(search(count=400))]
    for name, (low, high) in RANGES.items():
        values = [recipe[name] for recipe in recipes]
        assert low <= min(values) and max(values) <= high, name
    rates = np.log10([recipe["lr"] for recipe in recipes])
    assert abs(rates.mean() + 5) < 0.1 and np.histogram(rates, 4, (-6, -4))[0].min() > 70  # uniform on a log axis
    assert {recipe["epochs"] for recipe in recipes} == set(range(4, 17))
    for name in ("label_smoothing", "mixup"):
        assert np.mean([recipe[name] == 0 for recipe in recipes]) == pytest.approx(0.55, abs=0.08)
    drawn = [recipe["randaugment"] for recipe in recipes]
    assert np.mean([one is None for one in drawn]) == pytest.approx(0.38, abs=0.08)
    assert {one.split("-")[2] for one in drawn if one} == {"n0", "n1", "n2"}
    assert {int(one.split("-")[1][1:]) for one in drawn if one} == set(range(1, 21))


def test_fields_are_drawn_apart() -> None:
    """A space whose fields shared a draw would tie large rates to long runs."""
    recipes = [one["recipe"] for one in made(search(count=400))]
    rates, epochs = [math.log(one["lr"]) for one in recipes], [one["epochs"] for one in recipes]
    smoothing, mixup = [one["label_smoothing"] > 0 for one in recipes], [one["mixup"] > 0 for one in recipes]
    assert abs(np.corrcoef(rates, epochs)[0, 1]) < 0.15 and abs(np.corrcoef(smoothing, mixup)[0, 1]) < 0.15


def test_what_a_space_does_not_name_is_the_suite_s_own() -> None:
    plain = method.configure("ft", recipe_table="mini").dump()["recipe"]
    assert {one["recipe"]["batch_size"] for one in made(search())} == {plain["batch_size"]}


def test_ingredients_may_be_of_another_method_with_fields_of_its_own() -> None:
    dumps = made(search(of={"method": "l2sp", "strength": 0.5, "recipe": {"batch_size": 8}}, count=2))
    assert [(one["method"], one["strength"], one["recipe"]["batch_size"]) for one in dumps] == [("l2sp", 0.5, 8)] * 2
    assert dumps[0]["recipe"]["lr"] == made(search())[0]["recipe"]["lr"]


def test_a_grid_is_every_combination_the_last_field_fastest() -> None:
    dumps = made({"grid": {"recipe.lr": [1e-5, 3e-5], "recipe.epochs": [1, 2, 3]}, "of": "flyp"})
    found = [(one["method"], one["recipe"]["lr"], one["recipe"]["epochs"]) for one in dumps]
    assert found == [("flyp", lr, epochs) for lr in (1e-5, 3e-5) for epochs in (1, 2, 3)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": "model-soups"}, "count: Field required"),
        ({"space": "model-soups", "count": 0}, "count: .*greater than 0"),
        ({"grid": {}}, "grid: .*at least 1"),
        ({"grid": {"recipe.lr": []}}, "recipe.lr: .*at least 1"),
        ({"grid": {"recipe.lr": [1]}, "count": 3}, "count: unknown field"),
        ({"grid": {"recipe.lrr": [1]}}, "lrr"),
        ([], "at least 1"),
    ],
)
def test_a_wrong_search_is_named(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(given)


def test_an_unknown_space_lists_the_known() -> None:
    with pytest.raises(UnknownName, match="'model-soup'.*Did you mean model-soups"):
        made({"space": "model-soup", "count": 2})


def test_every_space_names_fields_of_a_plain_fine_tune() -> None:
    for name in spaces._spaces():
        made({"space": name, "count": 3})


def test_the_command_line_takes_ingredients_before_what_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from robustbench_ft import cli, evaluation

    orders: list[evaluation.Order] = []
    monkeypatch.setattr(evaluation, "evaluate", lambda order, **_: orders.append(order) or "done")
    words = ["--method", "greedy_soup", "--set", "ingredients.1.recipe.lr=0.5", "--ingredients", json.dumps(search(count=2))]
    monkeypatch.setattr(sys, "argv", ["rbft", "evaluate", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code and [name for name, _ in orders[0].overrides] == ["ingredients", "ingredients.1.recipe.lr"]
    given = method.configure(
        "greedy_soup", recipe_table="mini", overrides=[(name, evaluation._value(value)) for name, value in orders[0].overrides]
    )
    rates = [one["recipe"]["lr"] for one in given.dump()["ingredients"]]
    assert rates == [made(search(count=2))[0]["recipe"]["lr"], 0.5]
    assert evaluation._selection(orders[0])["ingredients"] == "unstated"
