"""The tables of docs/mini.md: every method on one world of the mini suite, mean over seeds, and the shape of WiSE-FT's curve.

For the shipped world and for another one:

    python scripts/mini_report.py --suite mini --runs submissions
    python scripts/mini_report.py --suite worlds/1/suites/mini-1.toml --runs worlds/1/submissions
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tabulate import tabulate

from robustbench_ft import score, suites, yardstick
from robustbench_ft.rows import Row
from robustbench_ft.score import RunScores
from robustbench_ft.tables import percent

ORDER = ("zeroshot", "lp", "ft", "lpft", "l2sp", "flyp", "wiseft", "uniform-soup", "greedy-soup", "ensemble")


def main() -> None:
    """Print both tables as markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="mini")
    parser.add_argument("--runs", type=Path, required=True)
    given = parser.parse_args()
    suite = suites.load(given.suite)
    by = yardstick.of(suite)
    found = {name: score.score(score.load_run(given.runs / f"{suite.name}-{name}"), by) for name in ORDER}
    print(methods_table(found))
    print()
    print(curve_table(found["wiseft"]))


def methods_table(found: dict[str, RunScores]) -> str:
    """One row a method's headline, in percent."""
    rows = []
    for name, scores in found.items():
        row = scores.headline
        assert row.id is not None
        shifts = {spec.name: percent(row.scores[spec.name].value) for spec in scores.panel.shifts}
        effective = percent(row.effective_mean.value, signed=True) if row.effective_mean else ""
        rows.append({"method": name, "ID": percent(row.id.value), **shifts, "OOD mean": ood(row), "eff. rob.": effective})
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def curve_table(scores: RunScores) -> str:
    """Per alpha: ID, OOD mean, OOD mean above the chord from the start to alpha 1, and the share of the ID gain."""
    rows = {row.alpha: row for row in scores.rows if row.alpha is not None}
    start, tuned = rows[0.0], rows[1.0]
    table = []
    for alpha, row in sorted(rows.items()):
        assert row.ood_mean and start.ood_mean and tuned.ood_mean and row.id and start.id and tuned.id
        share = (row.id.value - start.id.value) / (tuned.id.value - start.id.value)
        chord = start.ood_mean.value + share * (tuned.ood_mean.value - start.ood_mean.value)
        above, gained = percent(row.ood_mean.value - chord, signed=True), row.ood_mean.value - start.ood_mean.value
        table.append([f"{alpha:g}", percent(row.id.value), ood(row), above, percent(gained, signed=True), f"{100 * share:.0f}"])
    headers = ["alpha", "ID", "OOD mean", "above the chord", "OOD minus zero-shot", "% of the ID gain"]
    return tabulate(table, headers=headers, tablefmt="github", disable_numparse=True)


def ood(row: Row) -> str:
    """The OOD mean in percent."""
    return percent(row.ood_mean.value) if row.ood_mean else ""


if __name__ == "__main__":
    main()
