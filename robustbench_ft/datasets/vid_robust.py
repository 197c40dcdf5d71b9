"""ImageNet-Vid-Robust: frames of videos in ``<place>/val/<video>/<number>.JPEG``, each labelled, as sets about an anchor.

``<place>/metadata/labels.json`` gives each frame its right labels, ``pmsets.json`` each anchor its reviewed neighbours,
10 frames before it to 10 after; both come with the archive. Frames on disk that neither names are passed over.

An example is a frame, its id the key in the metadata; ``listing_of`` says what its label and columns are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from robustbench_ft.datasets import NOTHING, ImageSet, repair
from robustbench_ft.datasets.images import check_there, image_set
from robustbench_ft.datasets.index import Listing, kept, listing
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.errors import DataError
from robustbench_ft.specs import DatasetSpec

REACH = 10
"""Frames that a neighbour may be away from its anchor."""


class Frame(NamedTuple):
    """A frame of a set about an anchor."""

    key: str
    """Its path."""
    anchor: str
    """The key of its anchor; its own for the anchor itself."""
    distance: int
    """Frames from the anchor."""
    labels: Sequence[int]
    """The right labels, one or more; the first counts where a frame may have but one."""


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """All frames; DataError names the first that is missing or of which the metadata say nothing, or too much."""
    options(spec)
    base, hint = place(spec, root), repair(spec, root)

    def build() -> tuple[Listing, Sequence[Path]]:
        names = "labels.json", "pmsets.json"
        labels, sets = (official(spec, base / "metadata" / name, how(spec, root)) for name in names)
        found = listing_of(frames(labels, sets, len(spec.classes), hint))
        return found, [labels, sets, *check_there(base, found.files, hint)]

    key = ["vid robust", str(base.absolute()), len(spec.classes), spec.checksums]
    return image_set(spec, base, kept(store, key, build))


def listing_of(frames: Sequence[Frame], prefix: str = "") -> Listing:
    """The frames by their keys, in ``prefix`` below the set's folder.

    Columns: ``anchor`` (the anchors, numbered in the byte order of their keys), ``distance`` (0: the anchor itself) and
    ``also-1`` ... (the labels after the first).
    """
    anchors = sorted({frame.anchor for frame in frames}, key=str.encode)
    number = {anchor: place for place, anchor in enumerate(anchors)}
    columns = {"anchor": [number[frame.anchor] for frame in frames], "distance": [frame.distance for frame in frames]}
    for more in range(1, max((len(frame.labels) for frame in frames), default=0)):
        columns[f"also-{more}"] = [frame.labels[more] if more < len(frame.labels) else NOTHING for frame in frames]
    return listing([(frame.key, frame.labels[0], prefix + frame.key) for frame in frames], columns)


def loaded(path: Path, expected: str, hint: str) -> Any:
    """The object in a JSON file; DataError, saying what was expected, where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({expected} expected): {error}", hint=hint) from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a {type(found).__name__}, expected {expected}", hint=hint)
    return found


def frames(labels: Path, sets: Path, classes: int, hint: str) -> list[Frame]:
    """The frames of all sets, from the two files; DataError names the first key that is wrong."""
    known, about = loaded(labels, "labels by frame", hint), loaded(sets, "neighbours by anchor", hint)
    found: dict[str, Frame] = {}
    for anchor, neighbours in about.items():
        for key in (anchor, *neighbours):
            right, distance = known.get(key), _distance(anchor, key)
            if not right or not all(isinstance(one, int) and 0 <= one < classes for one in right):
                raise DataError(f"{labels}: {key} has labels {right}, expected some of 0 to {classes - 1}", hint=hint)
            if key in found or not (distance == 0 if key == anchor else 1 <= distance <= REACH):
                told = f"{key} about {anchor}: expected another frame of its video, at most {REACH} away and in no other set"
                raise DataError(f"{sets}: {told}", hint=hint)
            found[key] = Frame(key, anchor, distance, right)
    if foreign := next((key for key in known if key not in found), None):
        raise DataError(f"{labels}: {foreign} is in no set of {sets.name}", hint=hint)
    return list(found.values())


def _distance(anchor: str, key: str) -> int:
    """Frames between two keys ``val/<video>/<number>.JPEG``; ``NOTHING`` for two videos or another kind of key."""
    one, other = PurePosixPath(anchor), PurePosixPath(key)
    numbered = one.stem.isdecimal() and other.stem.isdecimal()
    return abs(int(one.stem) - int(other.stem)) if numbered and one.parent == other.parent else NOTHING
