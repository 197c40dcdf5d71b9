"""The start models' part of the leaderboard: tables and picture of what pretraining data does to robustness."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robustbench_ft import page, plots, tables
from robustbench_ft.lines import expit, logit
from robustbench_ft.pretraining import (
    COMMON_ID,
    MIN_WEIGHTS,
    SETS,
    STEP,
    Entry,
    Trend,
    by_data_set,
    entries,
    load,
    panel,
    scored,
    trend,
)
from robustbench_ft.rows import Row, row_json
from robustbench_ft.score_tables import mean_cell, mean_cells, mean_headers, mean_over, short_names
from robustbench_ft.tables import ABSENT, FORMATS, layout, percent, plus_minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAME_SAMPLES = (12.0, 13.5)
"""Samples seen (billions) of the weights that are compared at one architecture: 32 epochs of 400 million pairs."""
ARCHITECTURES = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
LIMITS = (
    "Architecture, resolution, samples seen and recipe vary together with the data; only the second table holds "
    "architecture and number of samples. Weights of one run (two resolutions, a soup) count as several, so the intervals "
    "of the trends are too narrow.",
    "ObjectNet was read with its own 113 class names, while the reference models answer it through their ImageNet head: "
    "it is shown as an accuracy, and in no mean. ImageNet accuracy is with open_clip's own templates.",
    "Class-matched ID accuracies are not published for these weights: all lines stand on the full ID axis.",
    "The filters of LAION, DataComp and DFN use CLIP models or ImageNet images, and EVA's image towers were pretrained "
    "before, on ImageNet-21k among others: the sets differ in more than where their pairs come from.",
)
WORDS = FORMATS["markdown"]
OWN_NAMES = "objectnet-own-names"


def rows() -> list[dict[str, Any]]:
    """All weights for json and csv; fractions."""
    return [entry.model.model_dump(exclude={"accuracies"}) | row_json(entry.row, panel()) for entry in entries()]


def section(picture: str) -> str:
    """The part of ``leaderboard.md``: a picture, a row per data set, one architecture at a time, all weights folded."""
    every = len(load())
    parts = [
        "## Start models: what pretraining data does",
        f"Zero-shot figures of {every} sets of weights, as open_clip published them, against `{panel().baseline}`: nothing "
        "here was fine-tuned. [How the rows were classified, and what was left out](docs/start-models.md).",
        tables.picture("Mean effective robustness against ID accuracy, by pretraining data", picture),
        _set_table(),
        _set_text(),
        f"One architecture at a time, at 224 pixels, with about the same number of samples seen ({SAME_SAMPLES[0]:g} to "
        f"{SAME_SAMPLES[1]:g} billion): ID accuracy and mean effective robustness.",
        _architecture_table(),
        _architecture_text(),
        "\n".join(f"- {line}" for line in LIMITS),
        f"<details><summary>All {every} start models</summary>",
        _full_table(),
        "</details>",
        *page.baseline_note(scored()),
    ]
    return "\n\n".join(parts) + "\n"


def _set_table() -> str:
    used, short, at = scored().used, short_names(panel()), f"at ID {COMMON_ID:.0%}"
    step = f"{STEP[0]:.0%} to {STEP[1]:.0%}"
    header = [["pretraining data"], ["pairs", "(millions)"], ["weights"], ["ID"]]
    header += [["effective", "robustness", mean_over(used, panel())], ["the same", at], ["change from", f"ID {step}"]]
    header += [["the same", "in logits"], *([short[name], at] for name in used)]
    return layout(header, [_set_cells(name, items) for name, items in by_data_set().items()], WORDS)


def _set_cells(name: str, items: Sequence[Entry]) -> list[str]:
    pools = [entry.model.pool_millions for entry in items if entry.model.pool_millions]
    rho = _span([percent(value, signed=True) for value in _ends(entry.rho.value for entry in items)])
    rho = WORDS.extrapolated.format(rho) if any(entry.rho.extrapolated for entry in items) else rho
    cells = [name, _span([f"{value:,g}" for value in _ends(pools)]) if pools else ABSENT, str(len(items))]
    cells += [_span([percent(value) for value in _ends(entry.id for entry in items)]), rho]
    mean, distance = trend(items), trend(items, lambda entry: entry.distance)
    if mean is None or distance is None:
        return cells + [ABSENT] * (3 + len(scored().used))
    shifts = [trend(items, _rho_of(shift)) for shift in scored().used]
    logits = f"{distance.rise.value:+.2f} ±{distance.rise.high - distance.rise.value:.2f}"
    return [*cells, _at(mean), plus_minus(mean.rise, signed=True), logits, *(_at(shift) for shift in shifts if shift)]


def _rho_of(shift: str) -> Callable[[Entry], float]:
    return lambda entry: entry.row.effective[shift].value


def _ends(values: Iterable[float]) -> list[float]:
    values = list(values)
    return [min(values), max(values)]


def _span(ends: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys(ends))


def _at(found: Trend) -> str:
    text = plus_minus(found.value, signed=True)
    return text if found.inside else WORDS.extrapolated.format(text)


def _set_text() -> str:
    found = {name: fit for name, items in by_data_set().items() if (fit := trend(items))}
    low, *_, high = sorted(found, key=lambda name: found[name].value.value)
    rising = [f"{name} ({percent(fit.rise.value, signed=True)})" for name, fit in found.items() if fit.rise.low > 0]
    falling = [f"{name} ({percent(fit.rise.value, signed=True)})" for name, fit in found.items() if fit.rise.high < 0]
    level = [name for name, fit in found.items() if fit.rise.low <= 0 <= fit.rise.high]
    changes = [("rises", rising), ("falls", falling), ("neither is shown", level)]
    told = "; ".join(f"{what} within {', '.join(names)}" for what, names in changes if names)
    grows = sum(fit.rise.low > 0 for items in by_data_set().values() if (fit := trend(items, lambda e: e.distance)))
    ends = [f"{percent(found[name].value.value, signed=True)} ({name})" for name in (low, high)]
    return (
        f"At an ID accuracy of {COMMON_ID:.0%}, the {len(found)} data sets with {MIN_WEIGHTS} weights or more inside the "
        f"reference range lie between {ends[0]} and {ends[1]} points above the line (fitted to each set's weights, least "
        f"squares on logit(ID)). From ID {STEP[0]:.0%} to {STEP[1]:.0%} it {told}. "
        f"In logits the distance grows within {grows} of the {len(found)} sets: points say less where accuracy nears its "
        "ceiling. *Italics*: weights beyond the reference models' ID range, where the line is extrapolated (they are in no "
        f"trend), or a set whose weights do not reach {COMMON_ID:.0%}."
    )


def _architecture_table() -> str:
    header = [["pretraining data"], *([name, what] for name in ARCHITECTURES for what in ("ID", "eff. robustness"))]
    cells = []
    for data, found in _architectures().items():
        pairs = [(percent(entry.id), mean_cell(entry.rho, WORDS)) if entry else (ABSENT, ABSENT) for entry in found]
        cells.append([data, *itertools.chain(*pairs)])
    return layout(header, cells, WORDS)


def _architectures() -> dict[str, list[Entry | None]]:
    """Per data set, its weights of each of ``ARCHITECTURES`` with ``SAME_SAMPLES``."""
    found = {data: [_weights(data, name) for name in ARCHITECTURES] for data in dict.fromkeys(m.data for m in load())}
    return {data: weights for data, weights in found.items() if any(weights)}


def _weights(data: str, name: str) -> Entry | None:
    """Where a data set has both activations, OpenAI's (``-quickgelu``)."""
    names = (name, f"{name}-quickgelu")
    found = [e for e in entries() if e.model.data == data and e.model.model in names and e.model.samples_billions]
    found = [e for e in found if SAME_SAMPLES[0] <= (e.model.samples_billions or 0) <= SAME_SAMPLES[1]]
    return max(found, key=lambda entry: entry.model.model, default=None)


def _architecture_text() -> str:
    found = [entry for weights in _architectures().values() if (entry := weights[-1])]
    ids, rhos = sorted(found, key=lambda e: e.id), sorted(found, key=lambda e: e.rho.value)
    return (
        f"Among the {len(found)} {ARCHITECTURES[-1]}, the data moves ID accuracy from {percent(ids[0].id)} with "
        f"{ids[0].model.data} to {percent(ids[-1].id)} with {ids[-1].model.data}, and effective robustness from "
        f"{percent(rhos[0].rho.value, signed=True)} with {rhos[0].model.data} to {percent(rhos[-1].rho.value, signed=True)} "
        f"with {rhos[-1].model.data}."
    )


def _full_table() -> str:
    short = short_names(panel())
    header = [["weights"], ["pretraining data"], ["pairs", "(millions)"], ["samples", "(billions)"], ["parameters", "(millions)"]]
    header += [
        ["ID"],
        ["OOD mean", "without", "ObjectNet"],
        *mean_headers(scored()),
        *([short[name]] for name in scored().measured),
    ]
    header += [["ObjectNet,", "own names", "(accuracy)"]]
    cells = []
    for model, row in entries():
        about = [f"{model.model} `{model.pretrained}`", model.data, _number(model.pool_millions), _number(model.samples_billions)]
        about += [f"{model.params_millions:,.0f}", plus_minus(row.id), plus_minus(row.ood_mean)]
        cells.append(about + mean_cells(row, scored(), WORDS) + [_rho(row, name) for name in scored().measured])
        cells[-1].append(percent(row.scores[OWN_NAMES].value))
    return layout(header, cells, WORDS, left=2)


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,g}"


def _rho(row: Row, name: str) -> str:
    """One shift's rho, short: its interval is in json and csv."""
    rho = row.effective[name]
    text = percent(rho.value, signed=True)
    text = WORDS.extrapolated.format(text) if rho.extrapolated else text
    return WORDS.grey.format(text) if rho.unusable else text


class Style(NamedTuple):
    """How a data set is drawn: the colour says who made it, the marker which one it is."""

    colour: str
    marker: str
    filled: bool = True


BLUE, RED, GREEN, PINK, SKY, ORANGE, BLACK = plots.COLOURS
STYLES = dict(
    zip(
        SETS,
        (
            *(Style(BLACK, "<", False), Style(BLACK, ">", False), Style(BLACK, "s")),
            *(Style(BLUE, "o", False), Style(BLUE, "o"), Style(BLUE, "v"), Style(BLUE, "^"), Style(BLUE, "^", False)),
            *(Style(RED, "<", False), Style(RED, ">", False), Style(RED, "D", False), Style(RED, "s", False)),
            *(Style(RED, "<"), Style(RED, ">"), Style(RED, "D"), Style(RED, "s")),
            *(Style(PINK, "X", False), Style(PINK, "X"), Style(GREEN, "d", False), Style(GREEN, "d"), Style(ORANGE, "v")),
            *(Style(SKY, "p", False), Style(SKY, "p"), Style(SKY, "P")),
        ),
        strict=True,
    )
)


def picture(*paths: Path) -> None:
    """Mean effective robustness against ID accuracy: left all weights, right those where the line is not extrapolated."""
    figure = plots.blank((13, 6.4))
    figure.subplots_adjust(left=0.045, right=0.85, top=0.94, bottom=0.085, wspace=0.12)
    overview, near = figure.subplots(1, 2, width_ratios=(1, 2.1))
    found = [entry for entry in entries() if not entry.rho.extrapolated]
    _frame(overview, entries(), (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8))
    _frame(near, found, (0.6, 0.65, 0.7, 0.75, 0.8, 0.85))
    for name, items in by_data_set().items():
        _points(overview, name, items, 5)
        _points(near, name, [entry for entry in items if not entry.rho.extrapolated], 7.5)
        if fit := trend(items):
            _trend(near, name, items, fit)
    _pools(overview)
    _one_interval(near, found)
    ends = scored().yardstick.lines[scored().used[0]]["full"].pieces[0].id_range
    overview.axvspan(*(logit(end) for end in ends), color="#eeeeee", zorder=0)
    shifts = ", ".join(short_names(panel())[name] for name in scored().used)
    overview.set_ylabel(f"effective robustness, mean over {shifts} (points)")
    overview.set_title("all weights; grey: where the reference models are", fontsize=10)
    near.set_title(f"weights in the grey range, with the trend of every data set that has {MIN_WEIGHTS} or more", fontsize=10)
    handles, texts = overview.get_legend_handles_labels()
    style: dict[str, Any] = {"loc": "center right", "frameon": False, "fontsize": 9, "labelspacing": 0.6, "markerscale": 1.5}
    figure.legend(handles, texts, title="pretraining data", **style)
    for path in paths:
        plots.save(figure, path)


def _frame(axes: Axes, items: Sequence[Entry], ticks: Sequence[float]) -> None:
    x, y = [logit(entry.id) for entry in items], [100 * entry.rho.value for entry in items]
    axes.set_xlim(min(x) - 0.06, max(x) + 0.06)
    axes.set_ylim(min(y) - 0.8, max(y) + 0.8)
    axes.xaxis.set_ticks([logit(tick) for tick in ticks], [f"{100 * tick:g}" for tick in ticks])
    axes.set_xlabel("ID accuracy, imagenet-val (%)")
    axes.grid(color="#e4e4e4", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _points(axes: Axes, name: str, items: Sequence[Entry], size: float) -> None:
    colour, marker, filled = STYLES[name]
    x, y = [logit(entry.id) for entry in items], [100 * entry.rho.value for entry in items]
    look: dict[str, Any] = {"mfc": colour if filled else "white", "mec": "white" if filled else colour}
    axes.plot(x, y, marker, color=colour, ms=size, mew=0.6 if filled else 1.2, label=name, zorder=3, **look)


def _trend(axes: Axes, name: str, items: Sequence[Entry], fit: Trend) -> None:
    x = np.array(_ends(logit(entry.id) for entry in items))
    axes.plot(x, [100 * fit.at(expit(value)) for value in x], color=STYLES[name].colour, lw=1.1, alpha=0.7, zorder=2)


def _pools(axes: Axes) -> None:
    """Join the weights on pools of CommonPool that went through the same filter, from small to large."""
    found = [entry for entry in entries() if entry.model.data.startswith("CommonPool")]
    for kept in dict.fromkeys(entry.model.data.split(" (")[1] for entry in found):
        same = sorted((logit(e.id), 100 * e.rho.value) for e in found if e.model.data.endswith(kept))
        axes.plot(*zip(*same, strict=True), color=RED, lw=0.7, alpha=0.5, zorder=2)
    axes.text(logit(0.025), 16, "joined: CommonPool\nthrough one filter,\npools S to XL", color=RED, fontsize=8.5)


def _one_interval(axes: Axes, items: Sequence[Entry]) -> None:
    """The median interval of one row, in the corner."""
    half = 50 * float(np.median([entry.rho.high - entry.rho.low for entry in items]))
    x, y = logit(0.81), 100 * min(entry.rho.value for entry in items) + half
    axes.errorbar([x], [y], yerr=[half], color="#555555", elinewidth=1, capsize=3)
    axes.annotate(
        "95% interval of\none set of weights\n(median)", (x, y), (9, 0), textcoords="offset points", va="center", fontsize=8.5
    )
