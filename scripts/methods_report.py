"""docs/methods.md and the pictures of docs/methods: every method on a suite, and the orderings that papers report.

    python scripts/methods_report.py                                            everything, from runs/mini and into docs
    python scripts/methods_report.py --methods ft wiseft --seeds 0 --out /tmp/x    a part of it

Runs lie where ``rbft evaluate --seeds`` puts them; finished ones are read, others are made, so the same command continues.
To use two cores, let two processes make half of the methods each (``--only-runs --methods ...``) and then run it once more.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import orderings
import torch
from orderings import CLAIMS, SOURCES, Claim
from PIL import Image

from robustbench_ft import comparison, run, score, score_tables, sides, store, suites, yardstick
from robustbench_ft.errors import UsageError
from robustbench_ft.files import default_folder, write_atomic
from robustbench_ft.method import Method, configure, names
from robustbench_ft.metrics import RECORD
from robustbench_ft.plots import Series, Sheet, sheet_picture
from robustbench_ft.rows import Row
from robustbench_ft.score import START, RunScores
from robustbench_ft.sides import Side
from robustbench_ft.statistics import MIN_SEEDS, Interval
from robustbench_ft.suites import Suite
from robustbench_ft.tables import FORMATS, layout, plus_minus
from robustbench_ft.yardstick import OOD, Yardstick

MARKDOWN = FORMATS["markdown"]
SLOWER, BEST = "ft_third", "best_ingredient"
CONTROLS = {
    SLOWER: "`ft` at a third of its rate, which is the rate of `lpft`'s second stage, `flyp`, `car_ft`, `lipsum_ft` and `paint`",
    BEST: "the ingredient of the soups that is best on val (`scripts/best_ingredient.py`)",
}
COLOURS = 64
"""Of a picture's palette, chosen so that no colour is far off: small files."""


class Found(NamedTuple):
    """A method's row: with predictions, and scored."""

    side: Side
    scores: RunScores


def main() -> None:
    """Make what is missing, then write page and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="mini")
    parser.add_argument("--methods", nargs="*", default=[*names(), *CONTROLS])
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, help="Default: runs/SUITE.")
    parser.add_argument("--store", type=Path, default=default_folder())
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--only-runs", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    suite = suites.load(given.suite)
    runs = given.runs or Path("runs") / suite.name
    for name in given.methods:
        make(name, suite, given.seeds, runs=runs, kept=store.Store(given.store))
    if not given.only_runs:
        found = {name: read(runs / name, suite, given.store) for name in given.methods}
        write_atomic(given.out / "methods.md", page(found, suite))
        for name in [name for name in given.methods if name not in CONTROLS]:
            picture(name, found, given.out / "methods" / f"{name}.png")


def make(name: str, suite: Suite, seeds: Iterable[int], *, runs: Path, kept: store.Store) -> None:
    """The runs of one method that are not there yet; a deterministic one has a single run."""
    method = named(name, suite)
    for seed in list(seeds)[: 1 if method.deterministic else None]:
        out = runs / name / f"seed-{seed}"
        if not (out / RECORD).is_file():
            cost = run.evaluate(run.Run(suite, method, suite.start, kept, out, seed=seed)).cost
            print(f"{name} seed {seed}: fit {cost.fit_seconds:.0f} s, evaluation {cost.evaluate_seconds:.0f} s", flush=True)


def named(name: str, suite: Suite) -> Method:
    """A method with the suite's recipe, or a control."""
    if name == SLOWER:
        rate = configure("ft", recipe_table=suite.recipes).dump()["recipe"]["lr"]
        return configure("ft", recipe_table=suite.recipes, overrides=[("recipe.lr", rate / 3)])
    if name == BEST:
        soup = configure("greedy_soup", recipe_table=suite.recipes).dump()
        file = str(Path(__file__).with_name("best_ingredient.py"))
        return configure(file, recipe_table=suite.recipes, overrides=[("ingredients", soup["ingredients"])])
    return configure(name, recipe_table=suite.recipes)


def read(folder: Path, suite: Suite, kept: Path) -> Found:
    """The row in a folder; UsageError where its predictions are not at hand."""
    side = sides.read(folder, suite, sides.answers(suite, kept))
    if side.lacks:
        raise UsageError(f"{folder}: {side.lacks}; expected runs with predictions", hint="rbft evaluate makes them")
    return Found(side, score.score(side.runs, yardstick.of(suite), hits=side.hits))


def page(found: dict[str, Found], suite: Suite) -> str:
    """The whole text of docs/methods.md."""
    seeds = max(len(one.side.runs) for one in found.values())
    noise = "image and seed noise" if seeds >= MIN_SEEDS else "image noise; that of seeds needs three or more"
    parts = [HEAD.format(title=suite.title, start=suite.start, seeds=seeds, s="s" * (seeds > 1), noise=noise)]
    parts += [methods_table(found), "\n".join(f"- *{name}*: {about}." for name, about in CONTROLS.items() if name in found)]
    known = seen(found, suite)
    parts += [ORDERINGS, orderings_table(known), summary(known)]
    rates = equal_rates(found, suite)
    parts += [RATES, rates] if rates else []
    return "\n\n".join(part for part in parts if part) + "\n"


HEAD = """# Every method on one suite

<!-- written by scripts/methods_report.py; do not edit -->

{title}. Start model `{start}`, every method with the suite's recipe (`rbft show METHOD`), mean over {seeds} seed{s}.
In percent and points, with 95% intervals that hold {noise}. SD: over the seeds, in points, of ID and OOD mean. Rows in the
order of the mean of ID and OOD mean. Recipes were not tuned alike (`robustbench_ft/data/recipes.toml` says which were): this
shows that methods do what they should on a toy suite, and is no ranking of methods for photographs. Each method's page has its
picture."""

ORDERINGS = """## What papers report, and what is seen here

A above B, who reports it on CLIP or a model like it, and the paired difference A - B here (same images, seed noise included:
[compare.md](compare.md)). It *holds* where the 95% interval lies above 0, and is *not resolved* where 0 is in it. With so many
lines, one interval in 20 is expected to miss."""

RATES = """## The same rate

A smaller rate keeps a model near its start, which alone helps OOD here. So methods that run at a third of `ft`'s rate are
compared with `ft` at that rate too; that is no paper's claim."""


def methods_table(found: dict[str, Found]) -> str:
    """A line per method, the best ID/OOD mean first, controls in italics."""
    header = [["method"], ["ID"], ["OOD mean"], ["effective", "robustness"], ["seeds"], ["SD:", "ID, OOD"]]
    cells = []
    for name, one in sorted(found.items(), key=lambda item: -both(item[1].scores.headline)):
        row, test = one.scores.headline, one.scores.panel.test.name
        label = f"*{name}*" if name in CONTROLS else f"[{name}](methods/{name}.md)"
        told = "deterministic" if one.side.first.deterministic else str(row.seeds)
        spread = ", ".join(score_tables.spread(row, measure) for measure in (test, OOD))
        means = [plus_minus(row.id), plus_minus(row.ood_mean), plus_minus(row.effective_mean, signed=True)]
        cells.append([label, *means, told, spread])
    return layout(header, cells, MARKDOWN)


def both(row: Row) -> float:
    """(ID + OOD mean) / 2."""
    assert row.id_ood_mean
    return row.id_ood_mean.value


def seen(found: dict[str, Found], suite: Suite) -> dict[Claim, tuple[Interval | None, str]]:
    """Per claim whose rows are there, the difference and the verdict."""
    start = found["zeroshot"].side if "zeroshot" in found else None
    known: dict[Claim, tuple[Interval | None, str]] = {}
    for claim in CLAIMS:
        if claim.a in found and claim.b in found:
            interval = orderings.difference(claim, against(found, claim.a, claim.b, suite), start)
            known[claim] = interval, orderings.verdict(interval, claim.says)
    return known


def orderings_table(known: dict[Claim, tuple[Interval | None, str]]) -> str:
    """A line per claim."""
    cells = []
    for claim, (interval, told) in known.items():
        source = f"[{claim.source}]({SOURCES[claim.source]})" if claim.source else "no paper known"
        cells.append([text(claim), source, plus_minus(interval, signed=True), told])
    return layout([["reported"], ["by"], ["A - B", "here"], ["here it"]], cells, MARKDOWN, left=2)


def summary(known: dict[Claim, tuple[Interval | None, str]]) -> str:
    """How many hold, and which do not."""
    held = sum(told.startswith(orderings.HOLDS) for _, told in known.values())
    against_it = [text(claim) for claim, (_, told) in known.items() if told in (orderings.REVERSED, orderings.DIFFERENT)]
    open_ = len(known) - held - len(against_it)
    told = f"Of {len(known)} lines {held} hold, {open_} are open and {len(against_it)} do not hold"
    return f"{told}{': ' if against_it else ''}{'; '.join(against_it)}." if known else ""


def text(claim: Claim) -> str:
    """The claim in words."""
    on = {
        "ID": "in ID",
        "OOD": "OOD",
        "segment": "the segment from the start to `{b}`, OOD at the same ID",
        "matched": "OOD at the same ID",
        "range": "OOD at the same ID, mean over the common range",
    }[claim.on]
    says = {"above": "above", "at least": "at least as good as", "the same": "about the same as"}[claim.says]
    return f"`{claim.a}` {says} {on.format(b=claim.b) if claim.on == 'segment' else f'`{claim.b}` {on}'}"


def equal_rates(found: dict[str, Found], suite: Suite) -> str:
    """ID and OOD difference of methods against ``ft`` at their rate; empty without that row."""
    members = [name for name in ("lpft", "flyp", "car_ft", "lipsum_ft", "paint") if name in found and SLOWER in found]
    cells = []
    for name in members:
        known = against(found, name, SLOWER, suite).differences
        cells.append([f"`{name}` - *{SLOWER}*", *(plus_minus(known[m].difference, signed=True) for m in (suite.test.name, OOD))])
    return layout([["difference"], ["ID"], ["OOD mean"]], cells, MARKDOWN) if cells else ""


def against(found: dict[str, Found], a: str, b: str, suite: Suite) -> comparison.Comparison:
    """A against B, without the tables of classes."""
    return comparison.of_sides(found[a].side, found[b].side, suite, None)


def picture(name: str, found: dict[str, Found], path: Path) -> None:
    """One method beside the start, plain fine-tuning and WiSE-FT's curve, as a small PNG."""
    scores = found[name].scores
    own = tuple(row for row in scores.rows if row.point != START or row.alpha is not None)
    series = [Series(name, own, headline=scores.headline)]
    series += [Series("start model", (), headline=row) for row in scores.rows if row.point == START and name != "zeroshot"]
    if "ft" in found and name != "ft":
        series.append(Series("ft", (), headline=found["ft"].scores.headline))
    if "wiseft" in found and name != "wiseft":
        series.append(Series("wiseft, alpha 0 to 1", tuple(row for row in found["wiseft"].scores.rows if row.alpha is not None)))
    sheet = Sheet(f"{name} on {scores.panel.name}", Yardstick(scores.panel), tuple(series), beside=False)
    with tempfile.TemporaryDirectory() as folder:
        sheet_picture(sheet, Path(folder, "large.png"))
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = Image.open(Path(folder, "large.png")).convert("RGB")
        drawn.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
