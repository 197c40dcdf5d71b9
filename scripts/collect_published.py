"""Collect published figures into submissions/<source>/published.json, one file a source.

    python scripts/collect_published.py --data DIR [--out submissions]

DIR holds `published.csv` (figures as printed, in percent), `model-soups/` (results and hyperparameters of its 72
fine-tunes) and `imagenet-testbed/`. What the words of these files stand for is in `published_names.py`; a word that is
not there is an error. Sources are never merged and never averaged. Printed means are not kept: each is computed again
from the figures that it is the mean of, and one that rounding cannot explain is printed and noted in its record. What
no suite has a test set for is left out, and told.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import NamedTuple

import published_names as names
from collect_baselines import COLUMNS, counts
from printed_means import MEANS, told
from published_names import Provenance, Source, Words

from robustbench_ft import suites
from robustbench_ft.errors import DataError
from robustbench_ft.files import readable_json, write_atomic
from robustbench_ft.records import Figure, Publication, PublishedRecord
from robustbench_ft.specs import TestSet
from robustbench_ft.suites import Track

PUBLISHED = "published.json"


class Group(NamedTuple):
    """The figures of one row of a printed table."""

    source: Source
    table: str
    model: str
    method: str
    variant: str
    suite: str
    """Of the tables all of whose figures belong to one; else empty."""
    figures: dict[tuple[str, str], str]
    """Per data set and metric, the percentage as printed."""


def sets(suite: str) -> tuple[TestSet, ...]:
    """The test sets of a suite or track."""
    panel = suites.panel(suite)
    return panel.sets if isinstance(panel, Track) else panel.tests


@cache
def test_set(suite: str, name: str) -> TestSet:
    """What the suite knows of its test set."""
    return next(spec for spec in sets(suite) if spec.name == name)


def figure(suite: str, name: str, value: Decimal) -> Figure:
    """The value with the size that its interval needs."""
    spec = test_set(suite, name)
    return Figure(value=value, n=spec.n if spec.binomial else None)


def notes(*parts: str) -> str:
    """Those that say something, as one."""
    return "; ".join(filter(None, parts))


def share(value: str, n: int, where: str) -> Decimal:
    """An unrounded share as k of ``n``, with the fewest decimals that tell all k apart; DataError where k is not whole."""
    exact = Decimal(value) * n
    k = round(exact)
    if abs(exact - k) > Decimal("0.05"):
        raise DataError(f"{where}: {value} of {n} is {exact} right answers, which is no whole number")
    return round(Decimal(k) / n, len(str(n - 1)))


def groups(path: Path, left_out: Counter[str]) -> list[Group]:
    """The rows of the file's tables, in its order; what is left out is counted by its reason."""
    found: dict[tuple[str, ...], Group] = {}
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        reason = names.LEFT_OUT.get((row["source"], row["table"])) or names.NO_SET.get(row["dataset"])
        if reason:
            left_out[reason] += 1
            continue
        source = names.SOURCES[row["source"]]
        table = row["table"].split(" (")[0]
        suite = names.SUITES.get((source.folder, table), "")
        table = names.TABLES.get((source.folder, table), table)
        variant = names.SAME.get((row["method"], row["variant"]), row["variant"])
        key = (source.folder, table, row["model"], row["method"], variant)
        group = found.setdefault(key, Group(source, table, *key[2:], suite, {}))
        if group.figures.setdefault((row["dataset"], row["metric"]), row["value"]) != row["value"]:
            raise DataError(f"{path}: {key} has two figures for {row['dataset']}")
    return list(found.values())


def words_of(variant: str) -> Words:
    """What a variant says beside its alpha; KeyError where it is not known."""
    text = re.sub(r"(optimal )?alpha(=[\d.]+| by best ID val acc| per column)?( \(= [a-z-]+\))?", "", variant)
    return names.VARIANTS[text.replace("(oracle)", "").strip(" ,;")]


def interior(group: Group, alpha: float | None) -> bool:
    """Whether the row is a point of a curve that is drawn and not listed."""
    return (group.source.folder, group.table) in names.CURVES and alpha not in (0, 0.5, 1)


def alpha_rule(group: Group, method: str, variant: str, alpha: float | None) -> tuple[dict[str, str], str]:
    """The rule that chose the alpha of a model between two others, and what is to be noted of it."""
    for phrase, note in names.ORACLES.items():
        if phrase in group.variant:
            return {"alpha": "oracle"}, note
    between = method == "wiseft" or variant.startswith("zero-shot and ")
    if not between or alpha in (0, 1) or interior(group, alpha):
        return {}, ""
    return {"alpha": "default" if method == "wiseft" and alpha == 0.5 else "unstated"}, ""


def provenance(group: Group, method: str, words: Words) -> Provenance:
    """Who ran it."""
    own = not group.source.own or method in group.source.own
    return words.provenance or (group.source.provenance if own else "rerun")


def per_suite(group: Group) -> dict[str, dict[str, Figure]]:
    """The row's figures, without the means, by suite and test set."""
    found: dict[str, dict[str, Figure]] = {}
    for (dataset, metric), text in group.figures.items():
        if dataset in MEANS:
            continue
        suite, name = names.SETS[dataset, metric]
        suite = group.suite or suite
        if name == "objectnet" and group.source.folder in names.OWN_NAMES:
            name = "objectnet-own-names"
        value = Decimal(text).scaleb(-2)
        if group.source.counts:
            value = share(str(value), test_set(suite, name).n or 0, f"{group.table}, {dataset}")
        found.setdefault(suite, {})[name] = figure(suite, name, value)
    return found


def published(group: Group) -> list[PublishedRecord]:
    """A record for each suite that the row has figures of."""
    folder, table = group.source.folder, group.table
    method, variant = names.METHODS.get(group.method, (group.method, ""))
    words = words_of(group.variant)
    variant = variant if words.variant is None else words.variant
    number = re.search(r"alpha=([\d.]+)", group.variant)
    alpha = float(number[1]) if number else None
    chosen, how = alpha_rule(group, method, variant, alpha)
    who = provenance(group, method, words)
    untold = folder in names.UNTOLD and who == "rerun" and method != "zeroshot"
    printed = {dataset: text for (dataset, _), text in group.figures.items()}
    return [
        PublishedRecord(
            suite=suite,
            table=table,
            start=names.STARTS.get((suite, group.model), group.model),
            method=method,
            variant=variant,
            alpha=alpha,
            curve=interior(group, alpha),
            provenance=who,
            selection=({"hyperparameters": "unstated"} if untold else names.SELECTION.get((folder, method), {})) | chosen,
            values=values,
            note=notes(words.note, how, names.NOTES.get((folder, table, suite), ""), *told(printed)),
        )
        for suite, values in per_suite(group).items()
    ]


def identity(record: PublishedRecord) -> tuple[object, ...]:
    """What two records of a source share when they are of the same model."""
    selection = tuple(sorted(record.selection.items()))
    return record.suite, record.start, record.method, record.variant, record.alpha, selection


def joined(folder: str, records: Iterable[PublishedRecord]) -> list[PublishedRecord]:
    """The records, with ID accuracies from the table that has them (``names.JOINS``)."""
    records, result = list(records), []
    for record in records:
        table, name = names.JOINS.get((folder, record.table, record.suite), ("", ""))
        for other in records:
            if other.table == table and identity(other)[1:] == identity(record)[1:] and name in other.values:
                values = {name: figure(record.suite, name, other.values[name].value)} | record.values
                tables = f"Tables {table.split()[1]} and {record.table.split()[1]}"
                record = record.model_copy(update={"values": values, "table": tables})
        result.append(record)
    return result


def once(records: Iterable[PublishedRecord]) -> list[PublishedRecord]:
    """The records without those that a later table of the same source only repeats: the first says where."""
    kept: list[PublishedRecord] = []
    for record in records:
        same = (i for i, r in enumerate(kept) if identity(r) == identity(record) and record.values.items() <= r.values.items())
        first = next(same, None)
        if first is None:
            kept.append(record)
            continue
        note = notes(kept[first].note, f"the same figures in {record.table}")
        kept[first] = kept[first].model_copy(update={"note": note})
    return kept


def ingredients(folder: Path) -> list[PublishedRecord]:
    """The 72 CLIP ViT-B/32 models that the soups are made of, each with its hyperparameters."""
    table = "individual_model_results.jsonl"
    rows = [json.loads(line, parse_float=str) for line in (folder / table).read_text(encoding="utf-8").splitlines()]
    tuned: dict[str, dict[str, object]] = json.loads((folder / "hparam_info.json").read_text(encoding="utf-8"))
    best = max(rows, key=lambda row: float(row["ImageNet2p"]))
    records: list[PublishedRecord] = []
    for row in rows:
        model = row["model_name"]
        values = {}
        for key, name in names.SOUP_SETS.items():
            value = share(row[key], test_set("imagenet", name).n or 0, f"{table}, {model}, {key}")
            values[name] = figure("imagenet", name, value)
        how = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in tuned[model].items())
        how = names.INITIAL if model == "model_0" else how
        held_out = "best on the held-out part of train" if row is best else ""
        same = [f"the same figures as {record.variant}" for record in records if record.values == values]
        records.append(
            PublishedRecord(
                suite="imagenet",
                table=table,
                start="ViT-B/32",
                method="lp" if how == names.INITIAL else "ft",
                variant=f"ingredient {model}",
                provenance="repository",
                values=values,
                note=notes(how, held_out, *same),
            )
        )
    return records


def testbed(path: Path) -> list[PublishedRecord]:
    """The zero-shot CLIP models of the testbed's table, in the suites that it has test sets of."""
    records = []
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        for suite in ("imagenet", "video") if row["model"] in names.ZERO_SHOT else ():
            values = {}
            for name in [spec.name for spec in sets(suite) if spec.name in COLUMNS]:
                column, n = COLUMNS[name]
                k = counts(row[column], n, f"{path}, {row['model']}, {column}").k
                values[name] = Figure(value=share(str(Decimal(k) / n), n, column), n=n)
            records.append(
                PublishedRecord(
                    suite=suite,
                    table=path.name,
                    start=names.ZERO_SHOT[row["model"]],
                    method="zeroshot",
                    provenance="repository",
                    values=values,
                    note=notes(row["model"], "ObjectNet is version 1.0-beta" if suite == "imagenet" else ""),
                )
            )
    return records


def main() -> None:
    """Write every publication, and print what was left out and which printed means disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("submissions"))
    given = parser.parse_args()
    left_out: Counter[str] = Counter()
    found: dict[str, tuple[Source, list[PublishedRecord]]] = {}
    for group in groups(given.data / "published.csv", left_out):
        found.setdefault(group.source.folder, (group.source, []))[1].extend(published(group))
    found[names.SOUPS.folder][1].extend(ingredients(given.data / "model-soups"))
    found[names.TESTBED.folder] = (names.TESTBED, testbed(given.data / "imagenet-testbed" / "robustness_top1s.csv"))
    for folder, (source, records) in sorted(found.items()):
        kept = sorted(once(joined(folder, records)), key=lambda record: record.suite)
        publication = Publication(source=source.citation, short=source.short, records=tuple(kept))
        content = publication.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        content |= {"kind": publication.kind, "schema": publication.schema_version}
        write_atomic(given.out / folder / PUBLISHED, readable_json(content, rows="records"))
        print(f"{folder}: {len(kept)} records, {sum(len(r.values) for r in kept)} figures")
        for record in kept:
            for part in (part for part in record.note.split("; ") if part.startswith("printed ")):
                print(f"  {record.table}, {record.start} {record.method} {record.variant} {record.alpha or ''}: {part}")
    for reason, rows in sorted(left_out.items()):
        print(f"not taken from published.csv, {rows} figures: {reason}")


if __name__ == "__main__":
    main()
