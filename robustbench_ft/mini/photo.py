"""The photographic process: a shaded object on a patterned place, with clutter, occluders, light, blur and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robustbench_ft.mini.canvas import (
    SIZE,
    Placed,
    X,
    Y,
    along,
    blend,
    blur,
    clouds,
    column,
    grain,
    hsv,
    hue_of,
    inside,
    line,
    paint,
    tiles,
    wave,
)
from robustbench_ft.mini.draws import Draws, Float, Ints


def _gradient(d: Draws) -> Float:
    return np.clip(0.5 + 0.5 * along(d, "place turn", X, Y), 0.0, 1.0)


def _stripes(d: Draws) -> Float:
    t = along(d, "place turn", X, Y) * column(d.uniform("place rate", 1.2, 2.6)) + column(d.uniform("place phase"))
    return np.clip(4.0 * wave(t) - 1.5, 0.0, 1.0)


def _checker(d: Draws) -> Float:
    rate = column(d.uniform("place rate", 1.2, 2.2))
    across, down = X * rate + column(d.uniform("place phase")), Y * rate + column(d.uniform("place phase y"))
    return np.clip(0.5 + 4.0 * (2.0 * wave(across) - 1.0) * (2.0 * wave(down) - 1.0), 0.0, 1.0)


def _clouds(d: Draws) -> Float:
    return np.clip(2.0 * clouds(d, "place", 5) - 0.5, 0.0, 1.0)


def _dots(d: Draws) -> Float:
    rate = column(d.uniform("place rate", 1.6, 2.6))
    across, down = 2.0 * wave(X * rate) - 1.0, 2.0 * wave(Y * rate + column(d.uniform("place phase"))) - 1.0
    return np.clip(3.0 * (0.62 - np.sqrt(across * across + down * down)) + 0.5, 0.0, 1.0)


def _rings(d: Draws) -> Float:
    dx, dy = X - column(d.uniform("place x", -1.0, 1.0)), Y - column(d.uniform("place y", -1.0, 1.0))
    return wave(np.sqrt(dx * dx + dy * dy) * column(d.uniform("place rate", 1.2, 2.4)))


def _planks(d: Draws) -> Float:
    t = along(d, "place turn", X, Y) * column(d.uniform("place rate", 2.0, 3.5))
    board = np.floor(t)
    return tiles(d, "place", board, 0 * board) * 0.8 + 0.2 * clouds(d, "place grain", 8)


PLACES: dict[str, Callable[[Draws], Float]] = {
    "gradient": _gradient, "stripes": _stripes, "checker": _checker, "clouds": _clouds,
    "dots": _dots, "rings": _rings, "planks": _planks,
}  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """Ranges of the photographic process."""

    clutter: float = 0.45
    occlusion: float = 0.3
    noise: float = 0.12
    opacity: float = 0.75
    grey: float = 0.06


def _background(d: Draws, kinds: list[str], kind: Ints, bright: Float) -> Float:
    field = np.empty((len(d), SIZE, SIZE))
    for k, name in enumerate(kinds):
        rows = kind == k
        if rows.any():
            field[rows] = PLACES[name](d[rows])
    low = hsv(d.uniform("ground hue"), d.uniform("ground sat", 0.0, 0.55), bright)
    high_value = np.clip(bright + d.signed("ground step", 0.08, 0.24), 0.05, 1.0)
    high = hsv(d.uniform("ground hue 2"), d.uniform("ground sat 2", 0.0, 0.55), high_value)
    return low + (high - low) * field[:, None]


def _blob(picture: Float, d: Draws, name: str, p: float, size: tuple[float, float]) -> Float:
    """Lay one ellipse of any colour on the pictures, each with probability p."""
    dx = along(d, f"{name} turn", X - column(d.uniform(f"{name} x", -1, 1)), Y - column(d.uniform(f"{name} y", -1, 1)))
    dy = Y - column(d.uniform(f"{name} y", -1, 1))
    radius = column(d.uniform(f"{name} size", *size))
    distance = (np.sqrt(dx * dx + 3.0 * dy * dy) - radius) * (SIZE / 2)
    shown = inside(distance) * column(np.where(d.chance(f"{name} shown", p), 0.9, 0.0))
    return blend(picture, paint(d, name, (0.2, 0.95), (0.0, 0.8)), shown)


def photo(p: Placed, d: Draws, colour: Ints, kinds: list[str], kind: Ints, look: Photo) -> Float:
    """Shaded object on a patterned place with clutter, occluders, light, blur and noise."""
    light = d.chance("light object", 0.5)
    value = np.where(light, d.uniform("value", 0.65, 1.0), d.uniform("value", 0.3, 0.6))
    bright = np.where(light, d.uniform("ground", 0.12, 0.5), d.uniform("ground", 0.55, 0.95))
    picture = _background(d, kinds, kind, bright)
    for k in range(2):
        picture = _blob(picture, d, f"clutter {k}", look.clutter, (0.15, 0.4))
    body = hsv(hue_of(colour, d), d.uniform("saturation", 0.1, 0.95), value)
    shade = 1.0 + column(d.uniform("shade", 0.0, 0.3)) * along(d, "shade turn", p.u, p.v)
    weave = 1.0 - column(d.uniform("weave", 0.0, 0.18)) * wave(along(d, "weave turn", p.u, p.v) * 3.0)
    picture = blend(
        picture, body * (shade * weave)[:, None], inside(p.distance) * column(d.uniform("opacity", look.opacity, 1.0))
    )
    picture = blend(picture, 0.4 * body, line(p.distance, 0.8) * column(d.uniform("rim", 0.0, 0.6)))
    picture = _blob(picture, d, "occluder", look.occlusion, (0.15, 0.32))
    picture = picture * (1.0 + column(d.uniform("lamp", 0.0, 0.3)) * along(d, "lamp turn", X, Y))[:, None]
    luma = 0.3 * picture[:, :1] + 0.59 * picture[:, 1:2] + 0.11 * picture[:, 2:]
    picture = np.where(d.chance("black and white", look.grey)[:, None, None, None], luma, picture)
    return finish(picture, d, look.noise)


def finish(picture: Float, d: Draws, noise: float) -> Float:
    """What ends every picture: blur and grain, of random strength up to `noise`."""
    return grain(blur(picture, d.uniform("blur")), d, d.uniform("noise", 0.02, noise))
