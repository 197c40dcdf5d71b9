"""``rbft data status``: what is there, counts against expected, and how to get the rest. Opens no image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from robustbench_ft.asked import Split, by_dataset
from robustbench_ft.data_show import about, gigabytes
from robustbench_ft.datasets import ImageSet, check, part_of, whole
from robustbench_ft.datasets.places import how
from robustbench_ft.errors import DataError, MissingData, RbftError
from robustbench_ft.progress import progress

SHORT = 30  # characters of a licence in a table of many


@dataclass(frozen=True)
class State:
    """How a split was found."""

    split: Split
    there: str
    """``yes``, ``no``, ``short`` (fewer than expected) or ``wrong``."""
    found: int | None = None
    """Examples; None where they could not be counted."""
    message: str = ""
    hint: str = ""
    images: ImageSet | None = None
    """The split, where it is complete."""

    @property
    def complete(self) -> bool:
        """Whether it is all there."""
        return self.there == "yes"

    @property
    def fault(self) -> bool:
        """Whether something that was asked for is missing or wrong."""
        return not self.complete and not (self.split.extra and self.there == "no")


def look(splits: Sequence[Split], root: Path, store: Path) -> list[State]:
    """The state of each split; of splits that are parts of the same images, these are listed once."""
    known: dict[str, ImageSet | RbftError] = {}
    states = []
    with progress("looking", len(splits)) as bar:
        for split in splits:
            if split.whole not in known:
                known[split.whole] = _whole(split, root, store)
            states.append(_state(split, known[split.whole], root, store))
            bar.advance(split.name)
    return states


def _whole(split: Split, root: Path, store: Path) -> ImageSet | RbftError:
    try:
        return whole(split.spec, root, store)
    except RbftError as error:
        return error
    except OSError as error:
        return DataError(f"{error.filename or split.spec.path} cannot be read: {error.strerror or error}")


def _state(split: Split, images: ImageSet | RbftError, root: Path, store: Path) -> State:
    count = None
    try:
        if isinstance(images, RbftError):
            raise images
        found = part_of(images, split.spec, root, store)
        count = len(found)
        check(found, split.spec, root)
        return State(split, "yes", count, images=found)
    except MissingData as error:
        return State(split, "no", None, str(error), error.hint)
    except RbftError as error:
        short = count is not None and count < split.spec.n
        return State(split, "short" if short else "wrong", count, str(error), error.hint or how(split.spec, root))


def as_json(states: Sequence[State]) -> list[dict[str, Any]]:
    """The states as JSON."""
    return [
        {
            "set": state.split.name,
            "there": state.there,
            "found": state.found,
            "expected": state.split.spec.n,
            "optional": state.split.extra,
            "digest": state.images.digest if state.images else None,
            "aligned": state.images.aligned if state.images else None,
            "message": state.message,
            "next": state.hint,
            "size": state.split.dataset.size if state.split.dataset else "",
            "licence": state.split.spec.licence,
            "source": state.split.spec.source,
            "how": state.split.dataset.how if state.split.dataset else "",
        }
        for state in states
    ]


def table(states: Sequence[State]) -> str:
    """For people: a row per split, what is wrong below, and in full what is to know of a data set that was asked for alone."""
    groups = by_dataset(state.split for state in states)
    alone = next(iter(groups.values()))[0].dataset if len(groups) == 1 else None
    rows = [_row(state) for state in states]
    for row, before in reversed(list(zip(rows[1:], rows, strict=False))):
        if row["data set"].partition("/")[0] == before["data set"].partition("/")[0]:  # said once for a data set
            row |= {key: "" for key in ("size", "licence", "get it") if row[key] == before[key]}
    if alone is not None:
        rows = [{key: value for key, value in row.items() if key not in ("size", "licence", "get it")} for row in rows]
    text = tabulate(rows, headers="keys")
    wrong = [f"{s.split.name}: {s.message}\n  next: {s.hint}" for s in states if s.there in ("wrong", "short")]
    parts = [text, *wrong, *([about(alone)] if alone is not None else [])]
    if any(not state.complete for state in states) and alone is None:
        parts.append("rbft data status NAME says all about one data set.")
    return "\n\n".join(parts)


def _row(state: State) -> dict[str, str]:
    split, spec = state.split, state.split.spec
    there = "no (optional)" if split.extra and state.there == "no" else state.there
    if state.images is not None and not state.images.aligned:
        there = "yes, other ids"
    counted = f"{spec.n:,}" if state.complete else f"{'?' if state.found is None else f'{state.found:,}'} of {spec.n:,}"
    licence = spec.licence if len(spec.licence) <= SHORT else f"{spec.licence[: SHORT - 3]}..."
    row = {"data set": split.name, "there": there, "images": counted if state.there != "no" else f"0 of {spec.n:,}"}
    return row | {
        "size": split.dataset.size.partition(",")[0] if split.dataset else "",
        "licence": licence,
        "get it": "" if state.complete else _short_how(split),
    }


def _short_how(split: Split) -> str:
    """How to get it, in a few words."""
    if split.dataset is None:
        return "by hand" if split.spec.source else ""
    of = [archive for archive in split.dataset.archives if not archive.splits or split.key in archive.splits]
    if needed := [archive for archive in of if not archive.url]:
        size = f", {gigabytes(needed[0].bytes)}" if needed[0].bytes else ""
        return f"by hand: {needed[0].file}{size}" + (" ..." if len(needed) > 1 else "")
    return f"rbft data prepare {split.name if split.extra else split.dataset.name}"
