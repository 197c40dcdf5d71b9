"""Ingredients as a search: a grid, or seeded random draws from a declared space (``data/spaces.toml``). No torch.

    {"grid": {"recipe.lr": [1e-5, 3e-5], "recipe.epochs": [4, 10]}, "of": "ft"}
    {"space": "model-soups", "count": 16, "seed": 0, "of": "ft"}

Both become a list of methods where a field takes them in, so a dump and a store key show every ingredient in full.
"""

from __future__ import annotations

import itertools
import tomllib
from functools import cache
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError, model_validator

from robustbench_ft import recipes
from robustbench_ft.errors import UnknownName
from robustbench_ft.files import DATA
from robustbench_ft.values import Value, fault

Dump = dict[str, Any]
Pair = tuple[float, float]


class Grid(Value):
    """Every combination of the values of some fields, the last field fastest."""

    grid: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]
    of: str | Dump = "ft"

    def points(self) -> list[Dump]:
        """Field to value, for each ingredient."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


class Search(Value):
    """``count`` draws from a space; of two searches under one seed the longer begins with the shorter."""

    space: str
    count: Annotated[int, Field(gt=0)]
    seed: Annotated[int, Field(ge=0)] = 0
    of: str | Dump = "ft"

    def points(self) -> list[Dump]:
        """Field to value, for each ingredient."""
        axes = space(self.space)
        points: list[Dump] = []
        for number in range(self.count):
            draws = np.random.Generator(np.random.PCG64([self.seed, number])).random((len(axes), 3)).tolist()
            points.append({name: axis.at(*draw) for (name, axis), draw in zip(axes.items(), draws, strict=True)})
        return points


class Axis(Value):
    """How a field is drawn; one of ``log`` (log-uniform), ``uniform`` and ``integers`` gives the range, ends included."""

    log: Pair | None = None
    uniform: Pair | None = None
    integers: Annotated[tuple[tuple[int, int], ...], Field(min_length=1, max_length=2)] | None = None
    """One range, or the two of a ``pattern``."""
    pattern: str | None = None
    """Text that the integers are put into."""
    off: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How often there is none in place of a draw: 0, or null for a pattern."""

    @model_validator(mode="after")
    def _one_range(self) -> Axis:
        if sum(given is not None for given in (self.log, self.uniform, self.integers)) != 1:
            raise ValueError("expected one of log, uniform and integers")
        return self

    def at(self, first: float, second: float, switch: float) -> float | int | str | None:
        """The value for three draws from [0, 1); to 4 digits, so that a dump can be read."""
        if switch < self.off:
            return None if self.pattern else 0.0
        if self.integers is not None:
            found = [
                low + int(draw * (high - low + 1)) for draw, (low, high) in zip((first, second), self.integers, strict=False)
            ]
            return self.pattern.format(*found) if self.pattern else found[0]
        if self.log is not None:
            return float(f"{self.log[0] * (self.log[1] / self.log[0]) ** first:.4g}")
        assert self.uniform is not None
        return float(f"{self.uniform[0] + first * (self.uniform[1] - self.uniform[0]):.4g}")


def expand(given: Any) -> Any:
    """A grid or a search as the dumps of its ingredients; anything else as it is.

    ValueError says what is wrong with it, UnknownName lists the spaces.
    """
    if not isinstance(given, dict) or "method" in given:
        return given
    try:
        asked: Grid | Search = Grid.model_validate(given) if "grid" in given else Search.model_validate(given)
    except ValidationError as error:
        raise ValueError(f"expected methods, a grid or a search of a space: {fault(error)}") from error
    base = {"method": asked.of} if isinstance(asked.of, str) else asked.of
    return [recipes.merge(base, _nested(point)) for point in asked.points()]


def space(name: str) -> dict[str, Axis]:
    """The space of that name: how each field is drawn; UnknownName lists the known ones."""
    if name not in _spaces():
        raise UnknownName("space of ingredients", name, _spaces())
    return _spaces()[name]


@cache
def _spaces() -> dict[str, dict[str, Axis]]:
    tables = tomllib.loads((DATA / "spaces.toml").read_text(encoding="utf-8"))
    return {name: {field: Axis.model_validate(axis) for field, axis in axes.items()} for name, axes in tables.items()}


def _nested(point: Dump) -> Dump:
    """``{"recipe.lr": 1}`` as ``{"recipe": {"lr": 1}}``."""
    found: Dump = {}
    for path, value in point.items():
        *parents, last = path.split(".")
        at = found
        for part in parents:
            at = at.setdefault(part, {})
        at[last] = value
    return found
