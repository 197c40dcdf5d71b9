"""YTBB-Robust: frames of videos in ``<place>/ytbb_videos/<video>_<anchor's ms>/frame-<number>.jpg``, as sets about an anchor.

What they show is not in the archive; it lies in ``<data>/ytbb-robust_metadata/``, three files of the authors:

    ytbb_robustness_test_anchors_full.csv    the class of each anchor in YouTube-BB, in which 22 and 23 are exchanged
    anchor_labels.json                       the review of the anchors: good or not, and further classes that they show
    pmk_labels.json                          the review of pairs "<anchor>,<neighbour>"

An anchor counts that was found good, and in no pair bad. Its neighbours are the frames up to 10 before and after it whose
pair was found similar and nothing else. Each frame has its anchor's labels, the class in YouTube-BB first: frames were not
labelled by themselves. An id is ``<video>_<ms>/frame-<number>.jpg``; columns as in ``vid_robust``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from robustbench_ft.datasets import ImageSet, repair
from robustbench_ft.datasets.images import check_there, image_set
from robustbench_ft.datasets.index import Listing, kept
from robustbench_ft.datasets.iwildcam import rows
from robustbench_ft.datasets.places import how, official, options, place
from robustbench_ft.datasets.vid_robust import REACH, Frame, listing_of, loaded
from robustbench_ft.errors import DataError
from robustbench_ft.specs import DatasetSpec

METADATA = "ytbb-robust_metadata"
CLASSES, ANCHORS, PAIRS = "ytbb_robustness_test_anchors_full.csv", "anchor_labels.json", "pmk_labels.json"
SOURCES = "github.com/mlfoundations/wise-ft at src/datasets", "github.com/modestyachts/imagenet-testbed at src/eval_settings"
EXCHANGED = {22: 23, 23: 22}
"""In the table of classes 22 is car and 23 none; everywhere else it is the other way round."""
GOOD, NOT_GOOD = {"good"}, {"bad", "unsure"}
SIMILAR, BAD_ANCHOR = {"similar"}, {"bad-anchor"}
NOT_SIMILAR = BAD_ANCHOR | {
    "dissimilar", "problematic", "incorrect", "dont know",
    "deformation", "background-change", "occlusion-increased", "blur-increase",
}  # fmt: skip
KEY = re.compile(r"(?P<folder>.+_\d+)/frame-(?P<number>\d+)\.jpg")

Tagged = dict[str, set[str]]
"""The tags that each key was given."""


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """All frames; MissingData says where metadata come from, DataError names the first frame that is missing."""
    options(spec)
    base, hint = place(spec, root), repair(spec, root)
    folder, metadata = base / "ytbb_videos", (root or base) / METADATA

    def build() -> tuple[Listing, Sequence[Path]]:
        classes, anchors, pairs = (
            official(spec, metadata / name, _source(spec, root, name)) for name in (CLASSES, ANCHORS, PAIRS)
        )
        found = listing_of(frames(classes, anchors, pairs, spec.classes, hint))
        return found, [classes, anchors, pairs, *check_there(folder, found.files, hint)]

    key = ["ytbb robust", str(base.absolute()), str(metadata.absolute()), spec.classes, spec.checksums]
    return image_set(spec, folder, kept(store, key, build))


def _source(spec: DatasetSpec, root: Path | None, name: str) -> str:
    """What to do about a file of the metadata that is missing or another."""
    checksum = dict(spec.checksums).get(name, "unknown")
    return f"{how(spec, root)}; {name} (checksum {checksum}) is in {METADATA} of {' and of '.join(SOURCES)}"


def frames(classes: Path, anchors: Path, pairs: Path, names: Sequence[str], hint: str) -> list[Frame]:
    """The frames of all anchors that count, from the three files; ``names`` are the class names that tags may be."""
    reviewed = tagged(pairs, SIMILAR | NOT_SIMILAR, hint)
    bad = {_short(key.partition(",")[0]) for key, tags in reviewed.items() if tags & BAD_ANCHOR}
    found = []
    for anchor, right in anchor_labels(classes, anchors, names, hint).items():
        if anchor in bad:
            continue
        found.append(Frame(anchor, anchor, 0, right))
        for key, distance in _about(anchor, str(anchors), hint):
            # Whole keys, not shortened ones, as in the authors' code: a pair under a longer key was never counted.
            tags = reviewed.get(f"{anchor},{key}", set())
            if tags & SIMILAR and not tags & NOT_SIMILAR:
                found.append(Frame(key, anchor, distance, right))
    return found


def anchor_labels(classes: Path, anchors: Path, names: Sequence[str], hint: str) -> dict[str, list[int]]:
    """The right labels of each anchor found good, its class in YouTube-BB first; DataError names an anchor without one."""
    first = {f"{row['ytid']}_{row['time_ms']}": row["label"] for _, row in rows(classes, ("ytid", "time_ms", "label"), hint)}
    found = {}
    for long, tags in tagged(anchors, GOOD | NOT_GOOD, hint).items():
        if tags & GOOD and not tags & NOT_GOOD:
            key = _short(long)
            given = first.get(key.partition("/")[0], "")
            if not given.isdecimal() or int(given) >= len(names):
                raise DataError(f"{classes}: {key} has class {given!r}, expected one of 0 to {len(names) - 1}", hint=hint)
            label = EXCHANGED.get(int(given), int(given))
            found[key] = [label, *(other for other, name in enumerate(names) if name in tags and other != label)]
    return found


def tagged(path: Path, expected: set[str], hint: str) -> Tagged:
    """The tags of each key of a review, the last where a key stands twice; DataError unless it knows all ``expected``."""
    review = loaded(path, "annotations and labels", hint)
    try:
        tags = list(review["labels"])
        given = {row["key"]: {tags[tag] for tag in row["labels"]} for row in review["annotations"]}
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path} is no review with annotations (key, labels) and labels: {error!r}", hint=hint) from error
    if unknown := sorted(expected - set(tags)):
        raise DataError(f"{path} does not know the tag {unknown[0]!r}; its tags: {', '.join(tags)}", hint=hint)
    return given


def _short(key: str) -> str:
    """The last two parts of a key: some carry the folders of the machine that they were reviewed on."""
    return "/".join(key.split("/")[-2:])


def _about(anchor: str, where: str, hint: str) -> Iterator[tuple[str, int]]:
    """The keys up to ``REACH`` frames before and after an anchor, and how far; their folder is the anchor's."""
    match = KEY.fullmatch(anchor)
    if match is None:
        raise DataError(f"{where}: anchor {anchor}, expected one like <video>_<ms>/frame-<number>.jpg", hint=hint)
    for offset in range(-REACH, REACH + 1):
        if offset:
            yield f"{match['folder']}/frame-{int(match['number']) + offset}.jpg", abs(offset)
