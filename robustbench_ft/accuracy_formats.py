"""Accuracy tables as people and tools write them: a file in, one entry per figure out; nothing here knows a suite.

Formats, told by content: csv, long or wide; the jsonl of mlfoundations/wise-ft and of mlfoundations/model-soups; the JSON
of LAION-AI/CLIP_benchmark, and the csv that it builds from it. Figures stay text, so that no digit is lost.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustbench_ft.errors import DataError, MissingData
from robustbench_ft.progress import say
from robustbench_ft.specs import Metric

NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
"""A number without a sign, as a table may hold it: neither NaN nor infinity."""
OWN_NAMES = "objectnet-own-names"
"""CLIP_benchmark reads ObjectNet with its own class names: another set than the one that an ImageNet head answers."""
HINT = "the formats of tables, with an example each: docs/tables.md"
LONG = ("model", "dataset", "value")
MEASURES: dict[str, Metric] = {"top1": "top1", "F1-macro_all": "macro-f1", "acc_worst_region": "worst-region"}
"""What wise-ft calls the metrics; of everything else that WILDS measures no suite has a score."""
STEPS = ("pm0", "pm10")
"""wise-ft's measures of one video set, which are two sets of a suite."""


@dataclass(frozen=True)
class Entry:
    """One figure, as it stands in the file."""

    where: str
    """``row 3``, as an editor counts; ``item 3`` of a JSON list."""
    field: str
    """The column or key that holds the value."""
    model: str
    dataset: str
    value: str
    n: str = ""
    metric: Metric | None = None
    """What was measured; None: whatever the suite scores this set by."""
    alpha: float | None = None


@dataclass(frozen=True)
class Sheet:
    """The figures of one file."""

    entries: tuple[Entry, ...]
    tool: bool
    """Whether a tool wrote it, which measures more than suites score: such figures are left out."""


def wrong(path: Path, where: str, what: str, *, hint: str = HINT) -> DataError:
    """The error of all tables: file, place (none: the whole file), what was given and what was expected."""
    return DataError(f"{path}{', ' if where else ''}{where}: {what}", hint=hint)


def parse(path: Path) -> Sheet:
    """Read one table in any of the formats; MissingData or DataError, which name file and row, otherwise."""
    text = _text(path)
    tool = text.lstrip().startswith(("{", "["))
    if tool:
        entries = list(_json(path, text))
    else:
        rows = _rows(path, text)
        tool = "acc1" in rows[0][1]
        entries = list(_benchmark(path, map(_nested, rows)) if tool else _csv(path, rows))
    if not entries:
        raise wrong(path, "", "it holds no accuracy")
    for entry in entries:
        if not entry.model.strip() or not entry.dataset.strip():
            empty = "dataset" if entry.model.strip() else "model"
            raise wrong(path, f"{entry.where}, {empty}", "it is empty; expected a name")
    return Sheet(tuple(replace(e, model=e.model.strip(), dataset=e.dataset.strip()) for e in entries), tool)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MissingData(f"{path}: no table can be read there ({error.strerror})", hint="rbft score TABLE.csv") from error
    if b"\0" in data:
        raise wrong(path, "", "a binary file, or text in UTF-16; expected text in UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise wrong(path, f"row {line}", f"byte {data[error.start]:#04x} is no UTF-8; expected text in UTF-8") from error
    if not text.strip():
        raise wrong(path, "", "the file is empty; expected a table of accuracies")
    return text


def _rows(path: Path, text: str) -> list[tuple[str, dict[str, str]]]:
    """Rows of a csv, each with its place and its cells by column; a column of ours is in lower case."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, list[str]]] = []
    try:
        rows.extend((f"row {reader.line_num}", row) for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        raise wrong(path, f"row {reader.line_num}", f"no csv: {error}") from error
    (where, header), *body = rows
    columns = [_ours(name.strip()) for name in header]
    for place, name in enumerate(columns, start=1):
        if not name or columns.count(name) > 1:
            raise wrong(path, f"{where}, column {place}", f"named {name!r} more than once" if name else "it has no name")
    if not body:
        raise wrong(path, where, f"no row below the header {', '.join(columns)!r}")
    for where, row in body:
        if len(row) != len(columns):
            raise wrong(path, where, f"{len(row)} cells; expected {len(columns)}, as in the header")
    return [(where, dict(zip(columns, row, strict=True))) for where, row in body]


def _ours(name: str) -> str:
    return name.lower() if name.lower() in (*LONG, "n") else name


def _csv(path: Path, rows: list[tuple[str, dict[str, str]]]) -> Iterator[Entry]:
    """A row per figure where there is a column ``dataset`` or ``value``; else a row per model and a column per data set."""
    columns = list(rows[0][1])
    long = "dataset" in columns or "value" in columns
    wanted = LONG if long else LONG[:1]
    lacking = [name for name in wanted if name not in columns]
    unknown = [name for name in columns if long and name not in (*LONG, "n")]
    if lacking or unknown:
        what = f"no column {lacking[0]!r}" if lacking else f"unknown column {unknown[0]!r}"
        raise wrong(
            path, "header", f"{what} in {', '.join(columns)!r}; expected model, dataset, value and perhaps n, with commas"
        )
    for where, row in rows:
        if long:
            yield Entry(where, "value", row["model"], row["dataset"], row["value"].strip(), row.get("n", "").strip())
            continue
        cells = ((name, cell.strip()) for name, cell in row.items() if name != "model")
        yield from (Entry(where, name, row["model"], name, cell) for name, cell in cells if cell)


def _nested(row: tuple[str, dict[str, str]]) -> tuple[str, dict[str, Any]]:
    """CLIP_benchmark's result again, from a row of the csv that it built from results; an empty cell is no key."""
    cells = {name: cell for name, cell in row[1].items() if cell.strip()}
    return row[0], cells | {"metrics": {name: cells[name] for name in ("acc1",) if name in cells}}


def _json(path: Path, text: str) -> Iterator[Entry]:
    objects = list(_objects(path, text))
    if not objects:
        raise wrong(path, "", "the list is empty; expected a table of accuracies")
    first = objects[0][1]
    if "metrics" in first:
        return _benchmark(path, objects)
    if "model_name" in first:
        return _soups(path, objects)
    if "alpha" in first or any(":" in key for key in first):
        return _wise_ft(path, objects)
    known = "'alpha' (wise-ft), 'model_name' (model-soups) or 'metrics' (CLIP_benchmark)"
    raise wrong(path, objects[0][0], f"keys {', '.join(first)!r}; expected {known}")


def _objects(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON file with their places: one, several (a line each, or not), or the items of a list."""
    decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_once)
    at, line = 0, 1
    while (begin := _next(text, at)) < len(text):
        line += text.count("\n", at, begin)
        try:
            value, at = decoder.raw_decode(text, begin)
        except json.JSONDecodeError as error:
            what = f"broken JSON in what begins at row {line}: {error.msg} (column {error.colno})"
            raise wrong(path, f"row {error.lineno}", what) from error
        except (ValueError, RecursionError) as error:
            raise wrong(path, f"row {line}", f"no JSON that rbft reads: {error}") from error
        listed = isinstance(value, list)
        for place, item in enumerate(value if listed else [value], start=1):
            where = f"item {place}" if listed else f"row {line}"
            if not isinstance(item, dict):
                raise wrong(path, where, f"{str(item)[:40]!r}; expected an object, {{...}}")
            yield where, item
        line += text.count("\n", begin, at)


def _next(text: str, at: int) -> int:
    """Where the first character from ``at`` on stands that is no space."""
    found = re.compile(r"\S").search(text, at)
    return found.start() if found else len(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def _get(path: Path, where: str, item: dict[str, Any], key: str) -> Any:
    if key not in item:
        raise wrong(path, where, f"no key {key!r}, which the first object's format needs")
    return item[key]


def _wise_ft(path: Path, objects: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Entry]:
    """``src/models/eval.py`` writes its arguments and ``<data set>:<measure>``; models are named by their alpha.

    Lines written while the model was trained have the whole list of alphas. The videos' ``top1`` is of frames.
    """
    training = 0
    for where, item in objects:
        given = _get(path, where, item, "alpha")
        if isinstance(given, list):
            training += 1
            continue
        if not NUMBER.fullmatch(str(given)):
            raise wrong(path, f"{where}, alpha", f"{given!r}; expected a number")
        alpha = float(given)
        model = f"alpha={alpha:g}"
        for key, value in item.items():
            dataset, _, measure = key.partition(":")
            if measure in STEPS:
                yield Entry(where, key, model, f"{dataset} {measure}", str(value), alpha=alpha)
            elif measure in MEASURES and f"{dataset}:{STEPS[0]}" not in item:
                yield Entry(where, key, model, dataset, str(value), metric=MEASURES[measure], alpha=alpha)
    if training:
        say(f"{path}: left out {training} lines that were written during training: their alpha is a list")


def _soups(path: Path, objects: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Entry]:
    """``main.py`` writes ``model_name`` and a key per data set."""
    for where, item in objects:
        model = str(_get(path, where, item, "model_name"))
        yield from (Entry(where, key, model, key, str(value)) for key, value in item.items() if key != "model_name")


def _benchmark(path: Path, objects: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Entry]:
    """One result per data set; retrieval, probes, other languages and what has no top-1 accuracy are left out."""
    others = 0
    for where, item in objects:
        metrics = _get(path, where, item, "metrics")
        plain = item.get("task", "zeroshot_classification"), item.get("language", "en")
        if not isinstance(metrics, dict) or "acc1" not in metrics or plain != ("zeroshot_classification", "en"):
            others += 1
            continue
        model, dataset = (str(_get(path, where, item, key)) for key in ("model", "dataset"))
        name = f"{model} {item.get('pretrained') or ''}"
        dataset = re.sub("objectnet$", OWN_NAMES, dataset)
        yield Entry(where, "acc1", name, dataset, str(metrics["acc1"]))
    if others:
        say(f"{path}: left out {others} results that are not top-1 of zero-shot classification in English")
