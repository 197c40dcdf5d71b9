"""``rbft data index``: how many, which hash, which ids; and the answer key of a suite, kept for ``rbft score``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from robustbench_ft import metrics, suites
from robustbench_ft.asked import Split
from robustbench_ft.data_status import State, look
from robustbench_ft.datasets import ImageSet
from robustbench_ft.errors import DataError, UsageError
from robustbench_ft.metrics import Truth


def index(splits: Sequence[Split], root: Path, store: Path) -> list[State]:
    """The state of each split; DataError for the first that is not complete and was asked for."""
    states = look(splits, root, store)
    for state in states:
        if state.fault:
            raise DataError(f"{state.split.name}: {state.message}", hint=state.hint)
    return [state for state in states if state.complete]


def keep_keys(suite: str, states: Sequence[State], store: Path) -> None:
    """Keep the right answers of a suite's test sets in the store, as ``rbft evaluate`` does."""
    found = suites.load(suite)
    tests = {spec.name for spec in found.tests}
    for state in states:
        images = state.images
        if images is not None and images.aligned and state.split.spec.name in tests:
            truth = Truth(images.labels, images.columns)
            metrics.keep_key(store, found, state.split.spec.name, truth, images.digest)


def ids(states: Sequence[State]) -> list[tuple[str, int]]:
    """Id and label of every example of the one split that was asked for."""
    if len(states) != 1:
        names = ", ".join(state.split.name for state in states)
        raise UsageError(
            f"--ids is for one split, {len(states)} were asked for: {names}", hint="rbft data index NAME/SPLIT --ids"
        )
    images = states[0].images
    return list(zip(images.ids, images.labels.tolist(), strict=True)) if images else []


def as_json(states: Sequence[State], store: Path) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {"set": state.split.name, **_facts(state.images)} | {"kept": str(store / "index")} for state in states if state.images
    ]


def _facts(images: ImageSet) -> dict[str, Any]:
    ends = {"first": images.ids[0], "last": images.ids[-1]} if len(images) else {"first": "", "last": ""}
    return {"n": len(images), "digest": images.digest, "aligned": images.aligned, **ends, "columns": sorted(images.columns)}


def table(states: Sequence[State], store: Path) -> str:
    """For people: a block per split."""
    blocks = []
    for state in states:
        if state.images is None:
            continue
        facts = _facts(state.images)
        pinned = "" if state.split.spec.digest is None else ", as pinned" if state.images.aligned else ", not the pinned one"
        rows = [
            ("images", f"{facts['n']:,}"),
            ("digest", facts["digest"] + pinned),
            ("first", facts["first"]),
            ("last", facts["last"]),
            *([("beside labels", ", ".join(facts["columns"]))] if facts["columns"] else []),
        ]
        blocks.append(f"{state.split.name}\n{tabulate(rows, tablefmt='plain')}")
    return "\n\n".join([*blocks, f"kept in {store / 'index'}, made anew when the data changes"])
