"""The story of the field in numbers, from published figures alone: writes docs/evidence.md.

    python scripts/evidence.py

Every number in the page is computed here from submissions/*/published.json; tests/test_evidence.py fails where the page is stale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustbench_ft import published, score_tables
from robustbench_ft.files import write_atomic
from robustbench_ft.published import Evidence, PublishedBoard
from robustbench_ft.rows import Row
from robustbench_ft.tables import FORMATS, layout, percent, plus_minus

ROOT = Path(__file__).resolve().parents[1]
PAGE = "docs/evidence.md"
FAMILIES = (
    ("ViT-B/32", "VRF", "Table 1"),
    ("ViT-B/16", "WiSE-FT", "Table 8"),
    ("ViT-L/14@336px", "WiSE-FT", "Table 1"),
    ("ALIGN", "WiSE-FT", "Table 8"),
    ("JFT ViT-H", "WiSE-FT", "Table 8"),
    ("BASIC-M", "WiSE-FT", "Table 8"),
    ("BASIC-L", "WiSE-FT", "Table 8"),
)
"""All start models that have a zero-shot and a plainly fine-tuned row in one table; but for the first also WiSE-FT, alpha 0.5."""


def main() -> None:
    """Write the page."""
    write_atomic(ROOT / PAGE, page(published.boards(published.read_all(ROOT / "submissions"))))
    print(f"wrote {PAGE}")


def page(boards: Sequence[PublishedBoard]) -> str:
    """The whole text."""
    imagenet = {board.start: board for board in boards if board.panel.name == "imagenet"}
    lines = imagenet["ViT-B/16"].scores.yardstick.lines
    low, high = lines["imagenet-v2"]["full"].pieces[0].id_range
    filtered = lines["imagenet-a"]["full"]
    assert filtered.pieces[0].unusable and not filtered.pieces[1].unusable
    head = HEAD.format(split=filtered.split, low=low, high=high)
    parts = [head, *_zero_shot(imagenet), *_tuned(imagenet), *_curve(imagenet["ViT-B/16"]), *_soups(imagenet["ViT-B/32"])]
    return "\n\n".join([*parts, *_sources(imagenet["ViT-B/16"]), *_axes(imagenet)]) + "\n"


HEAD = """# What published figures say

<!-- written by scripts/evidence.py; do not edit -->

All figures are as papers and repositories print them (`submissions/*/published.json` has source and table of each).
Effective robustness (rho) is OOD accuracy above the line of `imagenet-testbed@1` at the same ID accuracy, full ID axis, mean over
ImageNet-V2, -R, -Sketch and ObjectNet; ImageNet-A is left out, as its line says nothing up to an ID accuracy of {split:.1%}.
In percent and points, with 95% intervals: binomial, the line's own, and rounding. Seed noise is not in them: papers
rarely print it. "Above the line" is said only where every shift's interval lies above 0 and its z (distance in standard
deviations of ordinary models) is over 2. *Italics*: beyond the reference models' ID range ({low:.1%} to {high:.1%}), so the
line is extrapolated."""


def _find(board: PublishedBoard, source: str, table: str, method: str, alpha: float | None = None) -> Evidence:
    """The source's row, not quoted from elsewhere; of several, that of ``table``."""
    found = [
        one
        for one in board.evidence
        if (one.source.short, one.record.method, one.record.alpha) == (source, method, alpha)
        and one.record.provenance != "quoted"
        and one.record.variant in ("", "over ft")
    ]
    return min(found, key=lambda one: one.record.table != table)


def _table(header: Sequence[str], cells: Sequence[Sequence[str]], left: int = 1) -> str:
    return layout([[text] for text in header], cells, FORMATS["markdown"], left=left)


def _rho(row: Row) -> str:
    return score_tables.mean_cell(row.effective_mean, FORMATS["markdown"])


def _least_z(one: Evidence) -> float:
    return min(one.row.effective[name].z for name in _used(one))


def _used(one: Evidence) -> tuple[str, ...]:
    assert one.row.effective_mean
    return one.row.effective_mean.over


def _above(one: Evidence) -> str:
    rhos = [one.row.effective[name] for name in _used(one)]
    clear = sum(rho.low > 0 and rho.z > 2 for rho in rhos)
    return f"{clear} of {len(rhos)}"


def _zero_shot(boards: dict[str, PublishedBoard]) -> list[str]:
    rows = [_find(boards[start], source, table, "zeroshot") for start, source, table in FAMILIES]
    cells = [
        [start, plus_minus(one.row.id), plus_minus(one.row.ood_mean), _rho(one.row),
         f"{_least_z(one):.1f}", _above(one), published.origin(one)]
        for (start, _, _), one in zip(FAMILIES, rows, strict=True)
    ]  # fmt: skip
    least = min(one.row.effective_mean.low for one in rows if one.row.effective_mean)
    header = ["zero-shot model", "ID", "OOD mean", "rho", "least z", "shifts above the line", "figures from"]
    told = f"Every one of them is {percent(least)} points or more above ordinary models of its ID accuracy (lower ends)."
    return ["## Zero-shot models stand far above the line", _table(header, cells), told]


def _tuned(boards: dict[str, PublishedBoard]) -> list[str]:
    cells, lost, gains = [], [], []
    for start, source, table in FAMILIES:
        zero, tuned = (_find(boards[start], source, table, method) for method in ("zeroshot", "ft"))
        before, after = zero.row.effective_mean, tuned.row.effective_mean
        assert before and after and zero.row.ood_mean and tuned.row.ood_mean and zero.row.id and tuned.row.id
        lost.append(1 - after.value / before.value)
        cells.append([start, "ft", *_change(zero, tuned), f"{100 * lost[-1]:.0f}%"])
        if source == "WiSE-FT":
            wise = _find(boards[start], source, table, "wiseft", 0.5)
            assert wise.row.effective_mean and wise.row.ood_mean and wise.row.id
            wise_lost = 1 - wise.row.effective_mean.value / before.value
            cells.append([start, "wiseft, alpha 0.5", *_change(zero, wise), f"{100 * wise_lost:.0f}%"])
            over = wise.row.ood_mean.value - max(zero.row.ood_mean.value, tuned.row.ood_mean.value)
            gains.append((wise.row.id.value - tuned.row.id.value, over))
            # what the text below says in words
            assert after.value < wise.row.effective_mean.value < before.value
            assert not start.startswith("ViT-") or min(gains[-1]) > 0
        assert tuned.row.id.value > zero.row.id.value and after.value < before.value
    header = ["start model", "method", "ID", "ID gained", "OOD mean", "OOD gained", "rho", "share of rho lost"]
    least, most = min(lost), max(lost)
    told = f"Plain fine-tuning gains ID accuracy and loses {100 * least:.0f} to {100 * most:.0f}% of the effective robustness."
    ids, oods = zip(*gains, strict=True)
    wise_told = (
        f"WiSE-FT at alpha 0.5, on {len(gains)} start models: ID accuracy {percent(min(ids), signed=True)} to "
        f"{percent(max(ids), signed=True)} points against plain fine-tuning, and an OOD mean "
        f"{percent(min(oods), signed=True)} to {percent(max(oods), signed=True)} points against the better of zero-shot and "
        "fine-tuned (on both CLIP models it is above both, at a higher ID accuracy). Its effective robustness lies "
        "between the two, as its ID accuracy asks for more."
    )
    return ["## Fine-tuning falls toward it, WiSE-FT less", _table(header, cells, left=2), told, wise_told]


def _change(zero: Evidence, one: Evidence) -> list[str]:
    assert zero.row.ood_mean and one.row.ood_mean and zero.row.id and one.row.id
    gained = percent(one.row.id.value - zero.row.id.value, signed=True)
    ood = plus_minus(one.row.relative_mean, signed=True)
    return [plus_minus(one.row.id), gained, plus_minus(one.row.ood_mean), ood, _rho(one.row)]


def _curve(board: PublishedBoard) -> list[str]:
    curve = next(
        c
        for c in board.curves()
        if (c[0].source.short, c[0].record.table, c[0].record.variant) == ("WiSE-FT", "Table 5", "over ft")
    )
    points = [(one.record.alpha or 0.0, one.row) for one in curve]
    best_ood = max(points, key=lambda point: point[1].ood_mean.value if point[1].ood_mean else 0.0)
    best_id = max(points, key=lambda point: point[1].id.value if point[1].id else 0.0)
    tuned = points[-1][1]
    assert tuned.id and tuned.ood_mean and best_ood[1].ood_mean and best_ood[1].id and best_id[1].id and best_id[1].ood_mean
    free = [(alpha, row) for alpha, row in points if row.id and row.id.value >= tuned.id.value]
    alpha, row = free[0]
    assert row.id and row.ood_mean
    cells = [[f"{a:.1f}", plus_minus(r.id), plus_minus(r.ood_mean), _rho(r)] for a, r in points if round(a * 10, 6) % 1 == 0]
    told = (
        f"Along the {len(points)} points of the ViT-B/16 curve the OOD mean is highest at alpha {best_ood[0]:g} "
        f"({percent(best_ood[1].ood_mean.value)}, ID {percent(best_ood[1].id.value)}), ID accuracy at alpha {best_id[0]:g} "
        f"({percent(best_id[1].id.value)}, OOD mean {percent(best_id[1].ood_mean.value)}). From alpha {alpha:g} on, ID accuracy "
        "is no lower than that of plain fine-tuning, and there the OOD mean is "
        f"{percent(row.ood_mean.value - tuned.ood_mean.value, signed=True)} points: robustness at no cost in ID accuracy."
    )
    return ["## The curve (WiSE-FT, Table 5)", _table(["alpha", "ID", "OOD mean", "rho"], cells), told]


def _soups(board: PublishedBoard) -> list[str]:
    named = {one.record.method: one for one in board.listed if one.source.short == "soups repository" and one.row.ood_mean}
    pool = [one.row for one in board.pool]
    ids, oods = [r.id.value for r in pool if r.id], [r.ood_mean.value for r in pool if r.ood_mean]
    cells = [
        [name, plus_minus(one.row.id), plus_minus(one.row.ood_mean), _rho(one.row)]
        for name, one in named.items()
        if name in ("uniform-soup", "greedy-soup", "ensemble")
    ]
    told = (
        f"The {len(pool)} ingredients reach {percent(min(ids))} to {percent(max(ids))} in ID and {percent(min(oods))} to "
        f"{percent(max(oods))} in OOD mean. "
    )
    uniform = named["uniform-soup"].row
    assert uniform.ood_mean and uniform.id
    above = sum(r.ood_mean.value > uniform.ood_mean.value for r in pool if r.ood_mean)
    higher = sum(value > uniform.id.value for value in ids)
    told += f"Of them, {above} have a higher OOD mean than their uniform soup, and {higher} a higher ID accuracy."
    return [
        "## Soups (71 fine-tunes of ViT-B/32 and the linear classifier that they start from)",
        _table(["method", "ID", "OOD mean", "rho"], cells),
        told,
    ]


def _sources(board: PublishedBoard) -> list[str]:
    found: list[tuple[float, list[str]]] = []
    for group in published.disputed(board):
        means = [one.row.ood_mean.value for one in group if one.row.ood_mean]
        if len(means) > 1:
            shown = " ".join(percent(mean) for mean in sorted(means))
            found.append((max(means) - min(means), [published.title(group[0].record), str(len(means)), shown]))
    found.sort(key=lambda one: (-one[0], one[1]))
    top = [one for one in board.listed if one.row.ood_mean][:10]
    values = [one.row.ood_mean.value for one in top if one.row.ood_mean]
    told = (
        f"The ten best rows of the ViT-B/16 board lie within {percent(max(values) - min(values))} points of OOD mean. The same "
        f"method, {found[0][1][0]}, differs by {percent(found[0][0])} points from one source to the next. Papers print one seed "
        "or a mean without its spread, so nothing on this board tells such a gap between methods from harness and recipe."
    )
    header = ["method", "sources", "OOD means", "spread"]
    return ["## Where sources disagree (ViT-B/16)", _table(header, [[*cells, percent(spread)] for spread, cells in found]), told]


def _axes(boards: dict[str, PublishedBoard]) -> list[str]:
    listed = [one.row for board in boards.values() for one in board.listed if one.row.effective_mean]
    widths = sorted(r.effective_mean.sensitivity.high - r.effective_mean.sensitivity.low for r in listed if r.effective_mean)
    flips = sum(r.effective_mean.sensitivity.changes_sign for r in listed if r.effective_mean)
    told = (
        f"On all ImageNet boards {len(listed)} listed rows have a mean rho. Over logit, probit and linear axes it moves by "
        f"{percent(widths[len(widths) // 2])} points (median; at most {percent(widths[-1])}), and its sign changes in {flips} "
        "of them. "
        "The class-matched ID axis needs predictions or per-class accuracies, which papers do not print."
    )
    return ["## How much hangs on the axes", told]


if __name__ == "__main__":
    main()
