"""ImageNet-Vid-Robust and YTBB-Robust in their official layout: four anchors each, frames of noise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from miniatures.folders import encoded

ARCHIVE = "imagenet_vid_ytbb_robust"

A, B, C, D = (
    "val/ILSVRC2015_val_00000000",
    "val/ILSVRC2017_val_00000003",
    "val/ILSVRC2015_val_00000007",
    "val/ILSVRC2015_val_00000011",
)
SETS = {
    f"{A}/000010.JPEG": (f"{A}/000008.JPEG", f"{A}/000020.JPEG"),
    f"{B}/000100.JPEG": (),
    f"{C}/000005.JPEG": (f"{C}/000004.JPEG", f"{C}/000006.JPEG"),
    f"{D}/000050.JPEG": (f"{D}/000049.JPEG",),
}
"""Anchors and their neighbours; one has none."""
LABELS = {
    f"{A}/000008.JPEG": [26], f"{A}/000010.JPEG": [26], f"{A}/000020.JPEG": [26],
    f"{B}/000100.JPEG": [0],
    f"{C}/000004.JPEG": [10], f"{C}/000005.JPEG": [4, 10, 16], f"{C}/000006.JPEG": [10, 22],
    f"{D}/000049.JPEG": [7], f"{D}/000050.JPEG": [7],
}  # fmt: skip
"""Right labels by frame: those of a neighbour may be others than its anchor's."""
VID_FRAMES = len(LABELS)

TAGS = (
    "similar", "dissimilar", "problematic", "incorrect", "correct", "dont know", "deformation", "background-change",
    "occlusion-increased", "blur-increase", "bad-anchor",
)  # fmt: skip
FOLDERS = "/somewhere/else/frames/"
CSV = (
    ("aa_-1", 1000, 4),
    ("bbb", 2000, 22),
    ("ccc", 3000, 23),
    ("ddd", 1, 0),
    ("eee", 1, 0),
    ("fff", 1, 0),
    ("ggg", 1, 0),
    ("hhh", 5000, 6),
)
"""Class of each anchor in YouTube-BB: 22 is car there, 23 none."""
ANCHORS: Mapping[str, Sequence[str]] = {
    f"{FOLDERS}aa_-1_1000/frame-30.jpg": ("good", "person"),
    "bbb_2000/frame-7.jpg": ("good",),
    f"{FOLDERS}ccc_3000/frame-100.jpg": ("good",),
    "ddd_1/frame-5.jpg": ("good", "unsure"),
    "eee_1/frame-5.jpg": ("bad", "bird"),
    "fff_1/frame-5.jpg": ("good",),
    "ggg_1/frame-5.jpg": ("bird",),
    "hhh_5000/frame-50.jpg": ("good", "cow", "umbrella", "elephant", "dog", "zebra"),
}
PAIRS: Sequence[tuple[str, Sequence[str]]] = (
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-29.jpg", ("similar",)),
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-31.jpg", ("similar", "correct")),
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-28.jpg", ("similar", "blur-increase")),
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-32.jpg", ("dissimilar",)),
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-35.jpg", ("correct",)),
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-40.jpg", ("similar",)),
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-41.jpg", ("similar",)),
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-27.jpg", ("similar",)),
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-27.jpg", ("dissimilar",)),
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-33.jpg", ("dont know",)),
    ("aa_-1_1000/frame-30.jpg,aa_-1_1000/frame-33.jpg", ("similar",)),
    (f"{FOLDERS}aa_-1_1000/frame-30.jpg,{FOLDERS}aa_-1_1000/frame-34.jpg", ("similar",)),
    ("ccc_3000/frame-100.jpg,ccc_3000/frame-101.jpg", ("similar",)),
    ("ddd_1/frame-5.jpg,ddd_1/frame-6.jpg", ("similar",)),
    ("fff_1/frame-5.jpg,fff_1/frame-4.jpg", ("similar",)),
    (f"{FOLDERS}fff_1/frame-5.jpg,{FOLDERS}fff_1/frame-6.jpg", ("bad-anchor",)),
    ("hhh_5000/frame-50.jpg,hhh_5000/frame-49.jpg", ("similar",)),
)
"""The review of pairs, in order: later ones win."""
YTBB_FRAMES = {
    "aa_-1_1000/frame-29.jpg": 1, "aa_-1_1000/frame-30.jpg": 0, "aa_-1_1000/frame-31.jpg": 1, "aa_-1_1000/frame-33.jpg": 3,
    "aa_-1_1000/frame-40.jpg": 10, "bbb_2000/frame-7.jpg": 0, "ccc_3000/frame-100.jpg": 0, "ccc_3000/frame-101.jpg": 1,
    "hhh_5000/frame-49.jpg": 1, "hhh_5000/frame-50.jpg": 0,
}  # fmt: skip
"""Worked out by hand: the frames that count, in byte order, and how far each is from its anchor."""


def write_vid_robust(root: Path, *, place: str = f"{ARCHIVE}/imagenet-vid-robust") -> None:
    """The frames of ``SETS`` and one more that is in no set, and the metadata; ``VID_FRAMES`` examples."""
    for number, key in enumerate((*LABELS, f"{A}/000030.JPEG")):
        _frame(root / place / key, number)
    for name, content in (("labels", LABELS), ("pmsets", SETS)):
        _json(root / place / "metadata" / f"{name}.json", content)


def write_ytbb_robust(root: Path, *, place: str = f"{ARCHIVE}/ytbb-robust") -> None:
    """The frames of every pair, and the metadata; the examples are ``YTBB_FRAMES``."""
    keys = {"/".join(key.split("/")[-2:]) for key in (*ANCHORS, *(key for pair, _ in PAIRS for key in pair.split(",")))}
    for number, key in enumerate(sorted(keys)):
        _frame(root / place / "ytbb_videos" / key, number)
    folder = root / "ytbb-robust_metadata"
    write_review(folder / "pmk_labels.json", PAIRS, TAGS)
    names = ("good", "unsure", "bad", "person", "bird", "cow", "umbrella", "elephant", "dog", "zebra", "car")
    write_review(folder / "anchor_labels.json", list(ANCHORS.items()), names)
    lines = ["ytid,time_ms,label", *(f"{video},{time},{label}" for video, time, label in CSV)]
    (folder / "ytbb_robustness_test_anchors_full.csv").write_text("\n".join(lines) + "\n")


def write_review(path: Path, given: Sequence[tuple[str, Sequence[str]]], tags: Sequence[str]) -> None:
    """A review: keys with the numbers of their tags."""
    annotations = [{"key": key, "notes": "", "labels": [tags.index(tag) for tag in own]} for key, own in given]
    _json(path, {"annotations": annotations, "labels": list(tags)})


def _frame(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(seed, path.suffix))


def _json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
