"""Zero-shot weights: what they were pretrained on, and how robust that made them, from published figures.

The figures are open_clip's, in ``data/start_models.csv``; ``docs/start-models.md`` says how its rows were classified.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from robustbench_ft import suites, yardstick
from robustbench_ft.files import DATA
from robustbench_ft.lines import logit
from robustbench_ft.records import Figure
from robustbench_ft.robustness import MAX_BEYOND
from robustbench_ft.rows import MeanRho, Row, Scores, Subject, score
from robustbench_ft.statistics import Interval, t_quantile
from robustbench_ft.suites import Panel
from robustbench_ft.values import Value
from robustbench_ft.yardstick import own

TABLE = DATA / "start_models.csv"
SUITE = "imagenet"
COMMON_ID = 0.75
"""Where data sets are compared: an ID accuracy that most of those with a trend reach."""
STEP = (0.70, 0.80)
MIN_WEIGHTS = 4
"""Fewer weights give a data set no trend."""

SETS = (
    *("YFCC-15M", "CC12M", "WIT-400M"),
    *("LAION-400M", "LAION-2B", "LAION-Aesthetics", "LAION-5B", "LAION-2B + LAION-5B"),
    *("CommonPool-S", "CommonPool-M", "CommonPool-L", "CommonPool-XL"),
    *("DataComp-S", "DataComp-M", "DataComp-L", "DataComp-1B"),
    *("DFN-2B", "DFN-5B", "MetaCLIP-400M", "MetaCLIP-2.5B", "WebLI"),
    *("LAION-400M + EVA", "LAION-2B + EVA", "Merged-2B + EVA"),
)
"""The pretraining data sets, in the order of tables and pictures. EVA: an image tower that was pretrained before."""


class StartModel(Value):
    """One set of weights, and its zero-shot accuracies."""

    model: str
    """open_clip's names of the architecture and of the weights."""
    pretrained: str
    data: str
    """One of ``SETS``, with the part or the filter that was used in parentheses."""
    pool_millions: float | None
    """Image-text pairs of the data set; None where nobody published it, as for ``samples_billions``."""
    samples_billions: float | None
    samples_source: str | None
    params_millions: float
    source: str
    accuracies: dict[str, Decimal]
    """Per test set, a fraction with as many decimals as were printed."""

    @property
    def data_set(self) -> str:
        """The one of ``SETS``."""
        return self.data.split(" (")[0]


class Entry(NamedTuple):
    """Weights and their scores; every row of the table has all shifts."""

    model: StartModel
    row: Row

    @property
    def id(self) -> float:
        """ID accuracy."""
        assert self.row.id
        return self.row.id.value

    @property
    def rho(self) -> MeanRho:
        """Mean effective robustness over the shifts whose line is usable in every row."""
        assert self.row.effective_mean
        return self.row.effective_mean

    @property
    def distance(self) -> float:
        """The same in logits: logit(OOD) minus the line, mean over those shifts."""
        lines = {name: scored().yardstick.lines[name][self.row.effective[name].axis] for name in self.rho.over}
        pairs = [(self.row.scores[name].value, line.at(self.id)(self.id)) for name, line in lines.items()]
        return sum(logit(ood) - logit(predicted) for ood, predicted in pairs) / len(pairs)


class Trend(NamedTuple):
    """Least squares of a value on logit(ID accuracy) over the weights of one data set, with 95% intervals."""

    n: int
    slope: float
    """Per logit."""
    value: Interval
    """At ``COMMON_ID``."""
    rise: Interval
    """From one end of ``STEP`` to the other."""
    inside: bool
    """Whether the ID accuracies of the weights reach ``COMMON_ID``, to ``MAX_BEYOND``."""

    def at(self, id_accuracy: float) -> float:
        """The fitted value there."""
        return self.value.value + self.slope * (logit(id_accuracy) - logit(COMMON_ID))


def panel() -> Panel:
    """The suite's sets but ObjectNet: read with its own class names, it may not share a column, nor a line, with the
    reference models' answers through their ImageNet head (DESIGN 5).
    """
    found = suites.panel(SUITE)
    assert isinstance(found, Panel)
    return found.model_copy(update={"shifts": tuple(spec for spec in found.shifts if spec.name != "objectnet")})


@functools.cache
def load() -> tuple[StartModel, ...]:
    """The weights by data set, the most accurate first."""
    with open(TABLE, newline="", encoding="utf-8") as file:
        found = [_read(row) for row in csv.DictReader(file)]
    test = panel().test.name
    return tuple(sorted(found, key=lambda model: (SETS.index(model.data_set), -model.accuracies[test])))


def _read(row: dict[str, str]) -> StartModel:
    about = {name: text or None for name, text in row.items() if name in StartModel.model_fields}
    return StartModel.model_validate({**about, "accuracies": {n: t for n, t in row.items() if n not in about}})


@functools.cache
def scored() -> Scores:
    """The rows of ``load`` against the suite's baseline."""
    n = {spec.name: spec.n for spec in panel().tests}
    subjects = []
    for model in load():
        figures = {own(name): Figure(value=value, n=n[name]) for name, value in model.accuracies.items()}
        subjects.append(Subject(f"{model.model} {model.pretrained}", [figures]))
    return score(subjects, yardstick.of(panel()))


def entries() -> list[Entry]:
    """The weights with their scores, in the order of ``load``."""
    return [Entry(model, row) for model, row in zip(load(), scored().rows, strict=True)]


def by_data_set() -> dict[str, list[Entry]]:
    """The entries of each of ``SETS``."""
    return {name: [entry for entry in entries() if entry.model.data_set == name] for name in SETS}


def trend(items: Sequence[Entry], of: Callable[[Entry], float] = lambda entry: entry.rho.value) -> Trend | None:
    """The trend over the weights whose line is not extrapolated; None where they are too few."""
    items = [entry for entry in items if not entry.rho.extrapolated]
    if len(items) < MIN_WEIGHTS:
        return None
    ids = [entry.id for entry in items]
    x, y = np.array([logit(p) for p in ids]), np.array([of(entry) for entry in items])
    dx, df = x - x.mean(), len(x) - 2
    sxx = float((dx**2).sum())
    slope = float((dx * y).sum()) / sxx
    reach = t_quantile(df) * math.sqrt(float(((y - y.mean() - slope * dx) ** 2).sum()) / df)
    beyond, step = logit(COMMON_ID) - float(x.mean()), logit(STEP[1]) - logit(STEP[0])
    value = _around(float(y.mean()) + slope * beyond, reach * math.sqrt(1 / len(x) + beyond**2 / sxx))
    rise = _around(slope * step, reach * step / math.sqrt(sxx))
    inside = min(ids) - MAX_BEYOND <= COMMON_ID <= max(ids) + MAX_BEYOND
    return Trend(len(x), slope, value, rise, inside)


def _around(value: float, half: float) -> Interval:
    return Interval(value, value - half, value + half)
