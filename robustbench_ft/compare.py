"""The verb ``compare``: two rows in, tables out. What is tested and how: docs/compare.md."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robustbench_ft import score_tables, tables
from robustbench_ft.comparison import Changes, ClassChange, Comparison, Difference, compare, to_json
from robustbench_ft.files import printed_json
from robustbench_ft.sides import Side, seeds_known
from robustbench_ft.statistics import ALPHA, MIN_SEEDS
from robustbench_ft.tables import ABSENT, FORMATS, Format, check_form, layout, percent, plus_minus, sentence
from robustbench_ft.yardstick import OOD, measures

SIGNIFICANT = "*"


def run(a: Path, b: Path, *, suite: str | None, form: str, as_json: bool) -> str:
    """What ``rbft compare A B`` prints."""
    check_form(form)
    found = compare(a, b, suite)
    return printed_json(to_json(found)) if as_json else render(found, form)


def render(found: Comparison, form: str) -> str:
    """The comparison in one of ``tables.CHOICES``."""
    if form == "csv":
        return tables.to_csv(_csv_rows(found))
    style = FORMATS[form]

    def text(lines: Iterable[str]) -> str:
        return ("\n" if form == "table" else "\n\n").join(sentence(line, form) for line in lines)

    parts = [text(_heading(found)), difference_table(found, style), text(difference_notes(found))]
    if found.matched.levels:
        parts += [text(["At the same ID accuracy (interpolated alpha curves), A - B:"]), matched_table(found, style)]
    parts.append(text(matched_notes(found)))
    if found.classes:
        parts += [text(["Classes that A loses and gains most against B:"]), class_table(found, style)]
        noise = "images and seeds" if seeds_known((found.a, found.b)) else "images alone: seed noise is unknown"
        parts.append(text([f"{SIGNIFICANT} more than noise: 5% after Holm over the classes of the shift ({noise})."]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(found: Comparison) -> list[str]:
    how = "paired: both rows answered the same images"
    if not found.paired:
        reasons = [f"{name} has no predictions: {side.lacks}" for name, side in _named(found) if side.lacks]
        how = f"unpaired ({'; '.join(reasons)}): each row is treated as if it had images of its own"
    about = [f"{name}: {side.name} ({side.first.method}, {_seeds(side)})" for name, side in _named(found)]
    return [*about, f"{found.suite.title}, start model {found.a.first.start.name}; {how}."]


def _named(found: Comparison) -> tuple[tuple[str, Side], tuple[str, Side]]:
    return ("A", found.a), ("B", found.b)


def _seeds(side: Side) -> str:
    if side.first.deterministic:
        return "deterministic"
    if len(side.runs) == 1:
        return f"seed {side.first.seed} alone"
    return f"seeds {', '.join(str(run.seed) for run in side.runs)}"


def difference_table(found: Comparison, style: Format) -> str:
    """One line per test set and mean: accuracies, difference, p-values and, where paired, the images kept and lost."""
    single = any(d.mcnemar is not None for d in found.differences.values())
    header = [["test set"], ["n"], ["A"], ["B"], ["A - B"], ["p"], ["p, Holm", "over shifts"]]
    header += [["p", "McNemar"]] * single + [["right in", "both"], ["only", "A"], ["only", "B"], ["neither"]] * found.paired
    cells = []
    for name, one in found.differences.items():
        row = [_label(name, found), str(one.n or ""), percent(one.a), percent(one.b), plus_minus(one.difference, signed=True)]
        row += [pvalue(one.p), pvalue(one.holm)] + [pvalue(one.mcnemar)] * single
        cells.append(row + _overlap(one) * found.paired)
    return layout(header, cells, style)


def _label(name: str, found: Comparison) -> str:
    short = score_tables.short_names(found.suite) | {found.suite.test.name: f"{found.suite.test.name} (ID)"}
    return short.get(name, name)


def _overlap(one: Difference) -> list[str]:
    return [percent(share) for share in one.overlap] if one.overlap else [""] * 4


def pvalue(p: float | None) -> str:
    """``0.012``, ``<0.001``; empty where there is none."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def difference_notes(found: Comparison) -> list[str]:
    """What a reader of the differences must know; only what applies."""
    shifts = sum(one.holm is not None for one in found.differences.values())
    told = [f"Percent; ± 95% interval. p is for one test. Holm's correction is over the {shifts} shifts, not over ID and means."]
    if found.paired:
        told.append(
            "Right in both, only A, only B, neither: share of the images, mean over all pairs of a seed of A and one of B."
        )
    if any(one.mcnemar is not None for one in found.differences.values()):
        told.append("McNemar compares these two trained models, not the two methods: another seed would be another model.")
    told += _spreads(found) + _seed_notes(found)
    if found.absent:
        told.append(f"Not compared, as a row lacks them or they need more than counts: {', '.join(found.absent)}.")
    if found.a.first.start.weights != found.b.first.start.weights:
        told.append(f"The start models differ: A {found.a.first.start.name}, B {found.b.first.start.name}.")
    return told


def _spreads(found: Comparison) -> list[str]:
    """The standard deviation over seeds of ID and OOD mean, of the rows that have several."""
    names = [name for name in (found.suite.test.name, OOD) if name in found.differences]
    weights = measures(found.suite, found.differences)
    each = [(name, [side.sd(weights[measure]) for measure in names]) for name, side in _named(found)]
    told = [f"{name} {', '.join(f'{100 * sd:.2f}' for sd in sds if sd is not None)}" for name, sds in each if None not in sds]
    labels = ", ".join("ID" if name == found.suite.test.name else name for name in names)
    return [f"SD over seeds, in points ({labels}): {'; '.join(told)}."] if names and told else []


def _seed_notes(found: Comparison) -> list[str]:
    few = [name for name, side in _named(found) if not side.first.deterministic and len(side.runs) < MIN_SEEDS]
    if not seeds_known((found.a, found.b)):
        told = f"Seed noise is unknown and left out (no row has {MIN_SEEDS} seeds): intervals and p are for these trained models."
        return [f"{told} The two methods may differ by more or less."]
    if few:
        return [f"{few[0]} has fewer than {MIN_SEEDS} seeds: its seed noise is taken to be the other row's."]
    return []


def matched_table(found: Comparison, style: Format) -> str:
    """One line per level of ID accuracy: the differences in OOD mean and per shift."""
    levels = found.matched.levels
    names = list(next(iter(levels.values())).difference)
    cells = []
    for name, level in levels.items():
        ids = " to ".join(percent(p) for p in dict.fromkeys(level.id))
        cells.append([name, ids, *(plus_minus(level.difference[n], signed=True) for n in names)])
    return layout([["at"], ["ID"], *([_label(name, found)] for name in names)], cells, style)


def matched_notes(found: Comparison) -> list[str]:
    """Why levels are missing, and how a curve that turns back was read."""
    why = found.matched.why_not
    if not found.matched.levels:
        return [f"No comparison at the same ID accuracy: {next(iter(why.values()))}."]
    told = [f"Not at {name}: {reason}." for name, reason in why.items()]
    if found.matched.turns:
        told.append("A curve turns back: where it reaches an ID accuracy twice, the part with the higher OOD mean counts.")
    return told


def class_table(found: Comparison, style: Format) -> str:
    """Per shift, the classes that lose most beside those that gain most."""
    header = [["shift"], ["A loses most"], ["n"], ["A - B"], ["A gains most"], ["n"], ["A - B"]]
    cells = [row for name, changes in found.classes.items() for row in _class_rows(_label(name, found), changes)]
    return layout(header, cells, style)


def _class_rows(shift: str, changes: Changes) -> Iterable[list[str]]:
    for place in range(max(len(changes.losses), len(changes.gains))):
        pair = (side[place] if place < len(side) else None for side in changes)
        yield [shift if place == 0 else "", *(text for change in pair for text in _class_cells(change))]


def _class_cells(change: ClassChange | None) -> list[str]:
    if change is None:
        return [ABSENT, "", ""]
    return [change.name, str(change.n), percent(change.difference, signed=True) + SIGNIFICANT * (change.p <= ALPHA)]


def _csv_rows(found: Comparison) -> Iterable[dict[str, Any]]:
    """Every table of the document, told apart by the first column; fractions."""
    document = to_json(found)
    for name, one in document["differences"].items():
        yield {"table": "difference", "name": name} | one
    for name, level in document["matched_id"]["levels"].items():
        for measure, one in level["difference"].items():
            yield {"table": f"matched at {name}", "name": measure, "difference": one, "id": level["id"]}
    for shift, changes in document["classes"].items():
        for kind, found_classes in changes.items():
            for change in found_classes:
                yield {"table": f"class {kind}", "name": shift, "class": change["name"]} | {
                    k: v for k, v in change.items() if k != "name"
                }
