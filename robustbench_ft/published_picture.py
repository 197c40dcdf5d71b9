"""The picture of published figures: a mark per row, one look per method, alpha curves connected, ingredients faint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from robustbench_ft import plots
from robustbench_ft.plots import Series, Sheet
from robustbench_ft.published import PublishedBoard
from robustbench_ft.rows import Row


def draw(board: PublishedBoard, *paths: Path) -> None:
    """OOD against ID accuracy, a panel per shift and one for the mean."""
    plots.sheet_picture(sheet(board), *paths)


def sheet(board: PublishedBoard) -> Sheet:
    """One series per alpha curve, then one per method with every source's row: how far sources differ is seen at once."""
    curves = list(board.curves())
    series = [
        Series(f"{c[0].record.method} {c[0].record.variant} ({c[0].source.short})", tuple(o.row for o in c)) for c in curves
    ]
    drawn = {id(one) for curve in curves for one in curve}
    methods: dict[str, list[Row]] = {}
    for one in board.listed:
        if id(one) not in drawn:
            methods.setdefault(one.record.method, []).append(dataclasses.replace(one.row, alpha=None))
    series += [Series(_counted(method, rows), tuple(rows)) for method, rows in sorted(methods.items())]
    if board.pool:
        series.append(Series(f"{len(board.pool)} soup ingredients", tuple(one.row for one in board.pool), faint=True))
    return Sheet(f"{board.panel.name}, {board.start}: published figures", board.scores.yardstick, tuple(series))


def _counted(method: str, rows: list[Row]) -> str:
    drawn = sum(row.id is not None and bool(row.scores) for row in rows)
    return f"{method} ({drawn} rows)" if drawn > 1 else method
