"""Worlds: the splits of the mini suite, drawn from a world's number; the shipped suite is world 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustbench_ft.mini.canvas import HUES, Pose, place, to_bytes
from robustbench_ft.mini.captions import TEMPLATES
from robustbench_ft.mini.draws import Draws, Ints
from robustbench_ft.mini.photo import Photo, photo
from robustbench_ft.mini.shapes import CLASSES, templates
from robustbench_ft.mini.styles import RENDITION_TEST, SKETCH_TEST, Style, drawn
from robustbench_ft.seal import TRAINING_SPLITS, require_open

VARIANTS = 32
CHUNK = 100
ID_PLACES = ("gradient", "stripes", "checker", "clouds")
OBJECTNET_PLACES = ("clouds", "dots", "rings", "planks")


__all__ = ["CLASSES", "SPLITS", "TEMPLATES", "Rendered", "links", "listing", "render", "size"]


class Rendered(NamedTuple):
    """Images uint8 `[N, 32, 32, 3]`, labels int64 `[N]`, ids such as `test/00042`."""

    images: NDArray[np.uint8]
    labels: Ints
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """How a split is made: `styles` None means photographic; links are probabilities of the class's own choice."""

    count: int
    variants: tuple[int, int] = (0, 16)
    pose: Pose = field(default=Pose())
    hue_link: float = 0.0
    place_link: float = 0.0
    places: tuple[str, ...] = ID_PLACES
    look: Photo = field(default=Photo())
    styles: dict[str, Style] | None = None


_ID_LOOK = Photo(clutter=0.6, occlusion=0.5, noise=0.2, opacity=0.52)


def _id(count: int) -> Split:
    return Split(count, hue_link=0.94, place_link=0.92, look=_ID_LOOK)


_NEAR = Pose(turn=(0.0, 0.3), scale=(0.54, 0.84), shift=0.16)
_NEAR_LOOK = Photo(clutter=0.65, occlusion=0.55, noise=0.2, opacity=0.52)
SPLITS: dict[str, Split] = {
    "train": _id(10000),
    "val": _id(1000),
    "test": _id(2000),
    "v2": Split(2000, (16, 24), _NEAR, hue_link=0.80, place_link=0.78, look=_NEAR_LOOK),
    "sketch": Split(2000, (16, 32), Pose(turn=(0.0, 0.3)), styles=SKETCH_TEST),
    "rendition": Split(2000, (16, 32), Pose(turn=(0.0, 0.3)), styles=RENDITION_TEST),
    "objectnet": Split(2000, (16, 32), Pose(turn=(0.2, 0.75), scale=(0.52, 0.92), shift=0.18), places=OBJECTNET_PLACES),
    "a-pool": Split(8000, (16, 24), _NEAR, hue_link=0.10, place_link=0.10, look=_NEAR_LOOK),
}


def size(split: str) -> int:
    """Number of images of a split."""
    return SPLITS[split].count


def links(world: int) -> tuple[Ints, Ints]:
    """The colour (index into HUES) and the place (index into ID_PLACES) that each class leans to, int64 `[20]` each."""
    return _dealt(world, "colour link", len(HUES)), _dealt(world, "place link", len(ID_PLACES))


def _dealt(world: int, name: str, n: int) -> Ints:
    order = np.argsort(Draws.of(name, world, list(range(len(CLASSES)))).bits(name), kind="stable")
    dealt = np.empty(len(CLASSES), dtype=np.int64)
    dealt[order] = np.arange(len(CLASSES)) % n
    return dealt


def listing(split: str, keep: Sequence[int] | None = None) -> tuple[tuple[str, ...], Ints]:
    """Ids and labels of a split, or of its images `keep`, without rendering them."""
    index = _index(split, keep)
    return tuple(f"{split}/{i:05d}" for i in index), index % len(CLASSES)


def _index(split: str, keep: Sequence[int] | None) -> Ints:
    return np.arange(size(split)) if keep is None else np.asarray(keep, dtype=np.int64)


def render(world: int, split: str, keep: Sequence[int] | None = None) -> Rendered:
    """Make a split of a world, or only its images `keep`; each image depends on its world, split and index alone."""
    if split not in TRAINING_SPLITS:
        require_open(f"mini-{split}")
    index, (ids, labels) = _index(split, keep), listing(split, keep)
    chunks = [_images(world, split, index[i : i + CHUNK]) for i in range(0, len(index), CHUNK)]
    return Rendered(np.concatenate(chunks), labels, ids)


def _images(world: int, split: str, index: Ints) -> NDArray[np.uint8]:
    spec, d, label = SPLITS[split], Draws.of(split, world, index), index % len(CLASSES)
    first, last = spec.variants
    variant = first + d.integers("variant", last - first)
    placed = place(templates(world, VARIANTS)[label, variant], d, spec.pose)
    hue, spot = links(world)
    colour = lean(d, "colour", hue[label], spec.hue_link, len(HUES))
    if spec.styles is not None:
        return to_bytes(drawn(spec.styles, d.integers("style", len(spec.styles)), placed, d, colour))
    kind = lean(d, "place", spot[label], spec.place_link, len(spec.places))
    return to_bytes(photo(placed, d, colour, list(spec.places), kind, spec.look))


def lean(d: Draws, name: str, own: Ints, link: float, n: int) -> Ints:
    """The class's own choice with probability `link`, else any of n."""
    return np.where(d.chance(f"{name} link", link), own, d.integers(name, n))
