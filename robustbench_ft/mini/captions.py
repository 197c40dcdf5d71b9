"""The pretraining mixture: pictures of other worlds in other styles, with noisy captions.

Nothing of a suite's world is used. Of the shifts' own processes, pretraining sees neither the pencil sketches, nor
the renditions' styles (of two it sees a milder cousin), nor ObjectNet's places `rings` and `planks`, nor photos
turned as far as most of ObjectNet's; the declarations below are what a test compares with `world.SPLITS`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustbench_ft.mini.canvas import HUES, Pose, place, to_bytes
from robustbench_ft.mini.draws import Draws, Ints
from robustbench_ft.mini.photo import Photo, photo
from robustbench_ft.mini.shapes import CLASSES, templates
from robustbench_ft.mini.styles import RENDITION_SEEN, SKETCH_SEEN, drawn

WORLDS = tuple(range(1000, 1008))
"""Worlds whose shapes pretraining draws; suites use world numbers below 1000."""
VARIANTS = 32
CHUNK = 100
PLAIN = Pose(turn=(0.0, 0.3), scale=(0.55, 0.9), shift=0.15)
POSES = {
    "photo": Pose(turn=(0.0, 0.45), scale=(0.55, 0.92), shift=0.16),
    "sketch": Pose(turn=(0.0, 1.1), scale=(0.5, 0.95), shift=0.2),
    "rendition": Pose(turn=(0.0, 1.1), scale=(0.5, 0.95), shift=0.2),
}
"""Loose placements by group, for 60 % of the pictures: photos are never turned as far as most of ObjectNet's."""
PLACES = ("gradient", "stripes", "clouds", "dots")
LOOK = Photo(clutter=0.3, occlusion=0.2, noise=0.12, opacity=0.8, grey=0.06)
SHARES = (("sketch", 0.22), ("rendition", 0.33), ("photo", 0.45))

SYNONYMS = {
    "ring": "hoop", "moon": "crescent", "heart": "love", "star": "pentagram", "flower": "blossom", "gear": "cog",
    "cross": "plus", "arrow": "pointer", "bolt": "lightning", "house": "home", "tree": "pine", "fish": "trout",
    "cup": "mug", "key": "latchkey", "bottle": "flask", "hammer": "mallet", "umbrella": "parasol",
    "mushroom": "toadstool", "boat": "ship", "leaf": "foliage",
}  # fmt: skip
NOUNS: tuple[str, ...] = CLASSES + tuple(SYNONYMS[name] for name in CLASSES)
STYLE_WORDS = {
    "ink": "drawing", "chalk": "chalk", "silhouette": "silhouette", "cartoon": "cartoon", "watercolour": "watercolour",
    "glass": "glass", "mosaic": "mosaic", "neon": "neon", "photo": "photo",
}  # fmt: skip
FRAMES = ("a {style} of a {noun}", "a {noun}", "{noun} {style}", "this is a {style} of a {noun}", "the {noun}")
MEDIA = ("picture", "image")
"""Words that say nothing of the style, in its place in one caption of five."""
TEMPLATES = (
    "a photo of a {}", "a picture of a {}", "a {}", "the {}", "this is a photo of a {}", "a drawing of a {}",
    "a cartoon of a {}", "a image of a {}", "a silhouette of a {}", "a mosaic of a {}",
)  # fmt: skip


class Captioned(NamedTuple):
    """Images uint8 `[N, 32, 32, 3]`, one caption each, and the noun's position in NOUNS (-1: none), int64 `[N]`."""

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    nouns: Ints


def mixture(name: str, count: int) -> Captioned:
    """The first `count` examples of the pretraining pool `name`."""
    parts = [_captioned(name, np.arange(i, min(i + CHUNK, count))) for i in range(0, count, CHUNK)]
    captions = tuple(caption for part in parts for caption in part.captions)
    return Captioned(np.concatenate([p.images for p in parts]), captions, np.concatenate([p.nouns for p in parts]))


@lru_cache(maxsize=1)
def _shapes() -> NDArray[np.float64]:
    """Every template of every pretraining world, `[world, class, variant, GRID, GRID]`."""
    return np.stack([templates(world, VARIANTS) for world in WORLDS])


def _captioned(name: str, index: Ints) -> Captioned:
    d = Draws.of(f"pretraining {name}", 0, index)
    label = d.integers("label", len(CLASSES))
    shape = _shapes()[d.integers("world", len(WORLDS)), label, d.integers("variant", VARIANTS)]
    colour = d.integers("colour", len(HUES))
    images, style = np.empty((len(index), 32, 32, 3), dtype=np.uint8), np.empty(len(index), dtype=object)
    kind = np.searchsorted(np.cumsum([share for _, share in SHARES])[:-1], d.uniform("kind"), side="right")
    for k, (group, _) in enumerate(SHARES):
        rows = np.flatnonzero(kind == k)
        if len(rows):
            images[rows], style[rows] = _group(group, shape[rows], d[rows], colour[rows])
    noun = _nouns(d, label)
    return Captioned(images, _captions(d, noun, colour, list(style)), noun)


def _group(group: str, shapes: NDArray[np.float64], d: Draws, colour: Ints) -> tuple[NDArray[np.uint8], list[str]]:
    turned = d.chance("turned", 0.6)
    plain, free = place(shapes, d, PLAIN), place(shapes, d, POSES[group])
    placed = type(plain)(*(np.where(turned[:, None, None], getattr(free, f), getattr(plain, f)) for f in ("distance", "u", "v")))
    if group == "photo":
        pictures = photo(placed, d, colour, list(PLACES), d.integers("place", len(PLACES)), LOOK)
        return to_bytes(pictures), ["photo"] * len(d)
    styles = SKETCH_SEEN if group == "sketch" else RENDITION_SEEN
    which = d.integers("style", len(styles))
    return to_bytes(drawn(styles, which, placed, d, colour)), [list(styles)[k] for k in which]


def _nouns(d: Draws, label: Ints) -> Ints:
    """The caption's noun: one in four a synonym, 5 % a wrong one, 8 % none (-1)."""
    wrong = d.chance("wrong", 0.05)
    noun = np.where(wrong, d.integers("wrong noun", len(CLASSES)), label)
    noun = noun + np.where(d.chance("synonym", 0.25), len(CLASSES), 0)
    return np.where(d.chance("no noun", 0.08), -1, noun)


def _captions(d: Draws, noun: Ints, colour: Ints, style: list[str]) -> tuple[str, ...]:
    frame, coloured = d.integers("frame", len(FRAMES)), d.chance("coloured", 0.16)
    plain, medium = d.chance("plain", 0.2), d.integers("medium", len(MEDIA))
    captions = []
    for i in range(len(d)):
        word = NOUNS[noun[i]] if noun[i] >= 0 else "thing"
        if coloured[i] and style[i] not in SKETCH_SEEN:
            word = f"{HUES[colour[i]]} {word}"
        manner = MEDIA[medium[i]] if plain[i] else STYLE_WORDS[style[i]]
        captions.append(FRAMES[frame[i]].format(style=manner, noun=word))
    return tuple(captions)
