"""What every renderer draws with: placed shapes, colours, fields and blends, for a batch of 32 x 32 pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_ft.mini.draws import Draws, Float, Ints, mix, sin_cos, unit
from robustbench_ft.mini.shapes import EXTENT, GRID

SIZE = 32
HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
_HUE_AT = np.array([0.0, 0.075, 0.15, 0.34, 0.5, 0.62, 0.76, 0.89])
_AXIS = (np.arange(SIZE) + 0.5) * (2 / SIZE) - 1
X: Float = np.broadcast_to(_AXIS[None, None, :], (1, SIZE, SIZE))
Y: Float = np.broadcast_to(-_AXIS[None, :, None], (1, SIZE, SIZE))


@dataclass(frozen=True)
class Pose:
    """Ranges of a placement: |turn| in radians, scale (1 = fills the picture), shift and bend in half pictures."""

    turn: tuple[float, float] = (0.0, 0.2)
    scale: tuple[float, float] = (0.60, 0.85)
    shift: float = 0.12
    bend: float = 0.10


@dataclass(frozen=True)
class Placed:
    """Shapes in their pictures: signed distance in pixels, negative inside, and object coordinates, `[N, 32, 32]`."""

    distance: Float
    u: Float
    v: Float

    def __getitem__(self, rows: Ints | NDArray[np.bool_]) -> Placed:
        return Placed(self.distance[rows], self.u[rows], self.v[rows])


def column(values: Float) -> Float:
    """`[N]` -> `[N, 1, 1]`."""
    return values[:, None, None]


def place(shapes: Float, d: Draws, pose: Pose) -> Placed:
    """Sample one template per picture (`[N, GRID, GRID]`) under a random pose, bilinearly."""
    sine, cosine = sin_cos(d.signed("turn", *pose.turn))
    scale = d.uniform("scale", *pose.scale)
    x = (X - column(d.uniform("shift x", -pose.shift, pose.shift))) / column(scale)
    y = (Y - column(d.uniform("shift y", -pose.shift, pose.shift))) / column(scale)
    u, v = column(cosine) * x + column(sine) * y, column(cosine) * y - column(sine) * x
    bent_u = u + column(d.uniform("bend u", -pose.bend, pose.bend)) * (v * v - 0.3)
    bent_v = v + column(d.uniform("bend v", -pose.bend, pose.bend)) * (u * u - 0.3)
    column_at = np.clip((bent_u + EXTENT) * (GRID / (2 * EXTENT)) - 0.5, 0, GRID - 1.001)
    row_at = np.clip((EXTENT - bent_v) * (GRID / (2 * EXTENT)) - 0.5, 0, GRID - 1.001)
    left, top = column_at.astype(np.int64), row_at.astype(np.int64)
    across, down = column_at - left, row_at - top
    corner = np.arange(len(d))[:, None, None] * (GRID * GRID) + top * GRID + left
    flat = np.ascontiguousarray(shapes).reshape(-1)
    upper = flat[corner] + across * (flat[corner + 1] - flat[corner])
    lower = flat[corner + GRID] + across * (flat[corner + GRID + 1] - flat[corner + GRID])
    return Placed((upper + down * (lower - upper)) * column(scale * (SIZE / 2)), u, v)


def hsv(hue: Float, saturation: Float, value: Float) -> Float:
    """`[N]` each -> RGB `[N, 3, 1, 1]`; the hue wraps at 1."""
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = offset + hue * 6.0
        k = k - 6.0 * np.floor(k / 6.0)
        channels.append(value - value * saturation * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0))
    return np.stack(channels, axis=1)[:, :, None, None]


def hue_of(colour: Ints, d: Draws, name: str = "hue") -> Float:
    """A hue near the named colour's, `[N]`."""
    return _HUE_AT[colour] + d.uniform(f"{name} near", -0.022, 0.022)


def paint(d: Draws, name: str, value: tuple[float, float], saturation: tuple[float, float] = (0.3, 0.95)) -> Float:
    """A colour of any hue, `[N, 3, 1, 1]`."""
    return hsv(d.uniform(f"{name} hue"), d.uniform(f"{name} sat", *saturation), d.uniform(f"{name} value", *value))


def blend(picture: Float, colour: Float, mask: Float) -> Float:
    """Lay `colour` (`[N, 3, ...]`) over the picture where mask (`[N, 32, 32]`) is 1."""
    over = mask[:, None]
    return picture + (colour - picture) * over


def inside(distance: Float, softness: float = 1.0) -> Float:
    """Coverage of the region with negative distance, by an edge of `softness` pixels."""
    return np.clip(0.5 - distance / softness, 0.0, 1.0)


def line(distance: Float, width: Float | float) -> Float:
    """Coverage of the contour, `width` pixels wide."""
    return np.clip(0.5 + width / 2 - np.abs(distance), 0.0, 1.0)


def wave(t: Float) -> Float:
    """Triangle wave of period 1, in [0, 1]."""
    return np.abs(2.0 * (t - np.floor(t)) - 1.0)


def along(d: Draws, name: str, u: Float, v: Float) -> Float:
    """The coordinate along a random direction."""
    sine, cosine = sin_cos(d.uniform(name, -3.14, 3.14))
    return column(cosine) * u + column(sine) * v


def clouds(d: Draws, name: str, cells: int) -> Float:
    """Smooth noise in [0, 1) on a lattice of cells x cells, `[N, 32, 32]`."""
    at = (np.arange(SIZE) + 0.5) * (cells / SIZE)
    low = at.astype(np.int64)
    t = at - low
    t = t * t * (3.0 - 2.0 * t)
    bits = d.field(name, (cells + 1) * (cells + 1))
    lattice = (bits >> np.uint64(11)).astype(np.float64).reshape(-1, cells + 1, cells + 1) * 2.0**-53
    rows = lattice[:, low] + t[None, :, None] * (lattice[:, low + 1] - lattice[:, low])
    smooth: Float = rows[:, :, low] + t[None, None, :] * (rows[:, :, low + 1] - rows[:, :, low])
    return smooth


def tiles(d: Draws, name: str, across: Float, down: Float) -> Float:
    """One random number in [0, 1) per tile, where the tile is given by two whole-number coordinates."""
    place_bits = (across.astype(np.int64) * 8191 + down.astype(np.int64)).astype(np.uint64)
    return unit(mix(mix(place_bits) ^ d.bits(name)[:, None, None]))


def blur(picture: Float, amount: Float) -> Float:
    """Mix with the 3 x 3 tent filter; `amount` `[N]` in [0, 1]."""
    for axis in (2, 3):
        before, after = np.roll(picture, 1, axis), np.roll(picture, -1, axis)
        picture = picture + (amount[:, None, None, None] * 0.25) * (before + after - 2.0 * picture)
    return picture


def grain(picture: Float, d: Draws, amount: Float) -> Float:
    """Add noise: half shared by the channels, half each channel's own; `amount` `[N]` is its largest value."""
    bits = d.field("grain", SIZE * SIZE).reshape(-1, SIZE, SIZE)
    parts = [((bits >> np.uint64(16 * k)) & np.uint64(0xFFFF)).astype(np.float64) * 2.0**-16 - 0.5 for k in range(4)]
    noise = np.stack([parts[0] + part for part in parts[1:]], axis=1)
    return picture + noise * amount[:, None, None, None]


def to_bytes(picture: Float) -> NDArray[np.uint8]:
    """`[N, 3, 32, 32]` in [0, 1] -> uint8 `[N, 32, 32, 3]`."""
    scaled = np.floor(np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(scaled.transpose(0, 2, 3, 1))
