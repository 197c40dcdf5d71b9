"""What is to know of a data set: ``rbft list datasets``, ``rbft show NAME`` and the foot of ``rbft data status NAME``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tabulate import tabulate

from robustbench_ft import datafiles
from robustbench_ft.datafiles import Archive, Dataset

WIDTH = 110


def listed() -> list[dict[str, Any]]:
    """A row per data set that rbft knows."""
    return [
        {
            "dataset": found.name,
            "title": found.title,
            "splits": ", ".join(found.splits),
            "classes": len(found.rows()),
            "size": found.size,
            "fetched": "yes" if _fetched(found) else "by hand",
        }
        for found in map(datafiles.load, datafiles.names())
    ]


def _fetched(dataset: Dataset) -> bool:
    """Whether rbft can fetch all that is needed."""
    return all(archive.url for archive in dataset.archives if not archive.optional)


def is_dataset(name: str) -> bool:
    """Whether it names a data set: one that rbft knows, or a file that describes splits."""
    if not name.endswith(".toml"):
        return name.lower() in datafiles.names()
    try:
        return "splits" in tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def as_json(dataset: Dataset) -> dict[str, Any]:
    """All that its file says, with its class names and their folders written out."""
    rows = dataset.rows()
    split = dataset.specs()[0]
    words = {"classes": [row.name for row in rows], "folders": list(split.folders), "templates": list(split.templates)}
    return dataset.model_dump(mode="json") | words


def show(dataset: Dataset) -> str:
    """Splits with their counts and metrics, then all that is to know."""
    rows = [
        {"split": key, "images": f"{spec.n:,}", "metric": spec.metric, "digest": (spec.digest or "")[:12], "path": _path(spec)}
        for key, spec in zip(dataset.splits, dataset.specs(), strict=True)
    ]
    classes = dataset.rows()
    head = [
        dataset.title,
        "",
        f"{len(classes)} classes, {len(dataset.specs()[0].templates)} templates; names: {dataset.names_from}",
    ]
    return "\n".join([*head, "", tabulate(rows, headers="keys"), "", about(dataset)])


def _path(spec: Any) -> str:
    part = f" ({spec.part} part of {spec.split})" if spec.part else ""
    return f"{spec.path}{part}"


def about(dataset: Dataset) -> str:
    """Source, licence, size, what to do to get it, and its archives with their checksums."""
    facts = {"source": dataset.source, "licence": dataset.licence, "size": dataset.size, "how": dataset.how}
    given = [(name, value) for name, value in facts.items() if value]
    text = tabulate(given, tablefmt="plain", maxcolwidths=[None, WIDTH])
    lines = [line for archive in dataset.archives for line in _lines(archive)]
    return "\n".join([text, *(["", "archives", *lines] if lines else [])])


def _lines(archive: Archive) -> list[str]:
    about = [gigabytes(archive.bytes)] if archive.bytes else []
    about += ["optional"] if archive.optional else []
    about += [f"for {', '.join(archive.splits)}"] if archive.splits else []
    about += [f"password {archive.password}"] if archive.password else []
    about += [f"{'goes' if archive.unpack else 'copied'} into {archive.into}"] if archive.into != "." else []
    first = f"  {archive.file}" + (f" ({'; '.join(about)})" if about else "")
    return [first, *(f"    {value}" for value in (archive.url, *archive.checksums) if value)]


def gigabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:,} bytes"
