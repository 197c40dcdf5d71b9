"""The drawn styles, one function each: placed shapes to pictures.

Every style takes (placed shapes, draws, colour index `[N]`) and gives pictures `[N, 3, 32, 32]` in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robustbench_ft.mini.canvas import (
    SIZE,
    Placed,
    X,
    Y,
    along,
    blend,
    clouds,
    column,
    hsv,
    hue_of,
    inside,
    line,
    paint,
    tiles,
    wave,
)
from robustbench_ft.mini.draws import Draws, Float, Ints
from robustbench_ft.mini.photo import finish

Style = Callable[[Placed, Draws, Ints], Float]


# Sketches: grey only. `pencil` is the test's manner; the others are what pretraining sees.


def _grey(tone: Float) -> Float:
    return np.repeat(tone[:, None], 3, axis=1)


def pencil(p: Placed, d: Draws, colour: Ints) -> Float:
    """Broken contour with hatching and some tone inside; one in ten inverted."""
    gaps = np.clip(6.0 * clouds(d, "gaps", 8) - column(d.uniform("broken", 0.6, 1.9)), 0.0, 1.0)
    contour = line(p.distance + 0.9 * (clouds(d, "hand", 6) - 0.5), column(d.uniform("width", 0.8, 1.7))) * gaps
    hatching = np.clip(3.0 * wave(along(d, "hatch turn", X, Y) * column(d.uniform("hatch rate", 3.5, 5.5))) - 1.6, 0.0, 1.0)
    body = inside(p.distance)
    tone = body * column(d.uniform("tone", 0.05, 0.5)) + body * hatching * column(d.uniform("hatch", 0.0, 0.5))
    dark = np.maximum(tone, contour * column(d.uniform("ink", 0.5, 0.9)))
    paper = column(d.uniform("paper", 0.82, 1.0)) - 0.1 * clouds(d, "paper grain", 8)
    sheet = paper * (1.0 - dark)
    sheet = np.where(column(d.uniform("inverted")) < 0.1, 1.0 - sheet, sheet)
    return finish(_grey(sheet), d, 0.1)


def ink(p: Placed, d: Draws, colour: Ints) -> Float:
    """Clean dark contour on white."""
    dark = line(p.distance, column(d.uniform("width", 0.8, 1.8))) * column(d.uniform("ink", 0.6, 1.0))
    return finish(_grey(column(d.uniform("paper", 0.85, 1.0)) * (1.0 - dark)), d, 0.08)


def chalk(p: Placed, d: Draws, colour: Ints) -> Float:
    """Grainy light contour on a dark board."""
    contour = line(p.distance, column(d.uniform("width", 1.2, 2.2))) * (0.5 + 0.5 * clouds(d, "chalk", 16))
    board = column(d.uniform("board", 0.08, 0.3))
    return finish(_grey(board + (0.9 - board) * contour), d, 0.14)


def silhouette(p: Placed, d: Draws, colour: Ints) -> Float:
    """Filled with one grey on another."""
    dark, pale = column(d.uniform("dark", 0.0, 0.35)), column(d.uniform("pale", 0.65, 1.0))
    body = inside(p.distance)
    sheet = np.where(column(d.uniform("inverted")) < 0.3, dark + (pale - dark) * body, pale + (dark - pale) * body)
    return finish(_grey(sheet), d, 0.08)


# Renditions.


def cartoon(p: Placed, d: Draws, colour: Ints) -> Float:
    """Flat colour, black outline, pale flat ground."""
    body = hsv(hue_of(colour, d), d.uniform("saturation", 0.6, 1.0), d.uniform("value", 0.7, 1.0))
    picture = paint(d, "ground", (0.6, 1.0), (0.0, 0.4)) + np.zeros((1, 1, SIZE, SIZE))
    picture = blend(picture, body, inside(p.distance))
    return finish(blend(picture, 0.1 * body, line(p.distance, column(d.uniform("width", 0.6, 1.6)))), d, 0.04)


def watercolour(p: Placed, d: Draws, colour: Ints) -> Float:
    """Soft wobbling edge, pigment that pools, pale paper."""
    wet = p.distance + 2.0 * (clouds(d, "wobble", 8) - 0.5)
    body = hsv(hue_of(colour, d), d.uniform("saturation", 0.4, 0.8), d.uniform("value", 0.5, 0.9))
    paper = paint(d, "paper", (0.85, 1.0), (0.0, 0.12)) - 0.08 * clouds(d, "wash", 5)[:, None]
    pigment = inside(wet, 2.5) * (0.5 + 0.5 * clouds(d, "pigment", 5))
    return finish(blend(paper, body, pigment), d, 0.08)


def glass(p: Placed, d: Draws, colour: Ints) -> Float:
    """Facets of glass with dark leading."""
    across, down = along(d, "facet turn", X, Y) * 3.0, along(d, "facet turn 2", X, Y) * 3.0
    shine = 0.6 + 0.4 * tiles(d, "facet", np.floor(across), np.floor(down))
    body = hsv(hue_of(colour, d), d.uniform("saturation", 0.6, 1.0), d.uniform("value", 0.75, 1.0))
    picture = blend(paint(d, "ground", (0.35, 1.0), (0.2, 0.9)) * shine[:, None], body * shine[:, None], inside(p.distance))
    return finish(blend(picture, 0.05 * body, line(p.distance, 1.8)), d, 0.06)


def _mosaic(p: Placed, d: Draws, colour: Ints, cell: Ints) -> Float:
    pixel = np.arange(SIZE)
    phase = d.integers("tile phase", 4)
    near = np.minimum((pixel + phase[:, None]) // cell[:, None] * cell[:, None] - phase[:, None] + cell[:, None] // 2, 31)
    near = np.maximum(near, 0)
    rows = np.arange(len(d))[:, None, None]
    distance = p.distance[rows, near[:, :, None], near[:, None, :]]
    tile = near.astype(np.float64)
    jitter = 0.75 + 0.5 * tiles(d, "tile", tile[:, None, :] + 0 * distance, tile[:, :, None] + 0 * distance)
    body = hsv(hue_of(colour, d), d.uniform("saturation", 0.5, 1.0), d.uniform("value", 0.6, 0.95))
    light = d.chance("light ground", 0.5)
    ground = paint(d, "ground", (0.1, 0.4), (0.0, 0.6)) + np.where(light, 0.5, 0.0)[:, None, None, None]
    picture = blend(ground * jitter[:, None], body * jitter[:, None], inside(distance, 2.0))
    edge = (pixel + phase[:, None]) % cell[:, None] == 0
    grout = np.where((edge[:, None, :] | edge[:, :, None]) & (cell > 2)[:, None, None], 0.45, 0.0)
    return finish(blend(picture, np.full((1, 3, 1, 1), 0.5), grout), d, 0.06)


def mosaic(p: Placed, d: Draws, colour: Ints) -> Float:
    """Small square tiles of uneven tone."""
    return _mosaic(p, d, colour, 2 + d.integers("tile size", 2))


def coarse_mosaic(p: Placed, d: Draws, colour: Ints) -> Float:
    """Larger tiles than pretraining's."""
    return _mosaic(p, d, colour, np.full(len(d), 4))


def _neon(p: Placed, d: Draws, colour: Ints, width: float, fill: float) -> Float:
    hue = hue_of(colour, d)
    reach = p.distance / column(d.uniform("glow", width, 1.6 * width))
    glow = 1.0 / (1.0 + reach * reach)
    picture = paint(d, "night", (0.02, 0.2), (0.2, 0.9)) + np.zeros((1, 1, SIZE, SIZE))
    tube = hsv(hue, d.uniform("saturation", 0.4, 0.9), np.ones(len(d)))
    picture = blend(picture, tube, np.maximum(glow, fill * inside(p.distance)))
    return finish(blend(picture, np.ones((1, 3, 1, 1)), line(p.distance, 0.2) * 0.7), d, 0.08)


def neon(p: Placed, d: Draws, colour: Ints) -> Float:
    """A glowing contour at night."""
    return _neon(p, d, colour, 0.9, 0.0)


def neon_sign(p: Placed, d: Draws, colour: Ints) -> Float:
    """Wider glow than pretraining's, dimly filled."""
    return _neon(p, d, colour, 1.3, 0.35)


def painting(p: Placed, d: Draws, colour: Ints) -> Float:
    """Oil: ragged edge, visible strokes, object and ground in strong colours."""
    ragged = p.distance + 2.4 * (clouds(d, "ragged", 12) - 0.5)
    strokes = wave(along(d, "stroke turn", X, Y) * column(d.uniform("stroke rate", 3.0, 5.0)) + 1.5 * clouds(d, "bristle", 6))
    light = d.chance("light object", 0.5)
    value = np.where(light, d.uniform("value", 0.75, 1.0), d.uniform("value", 0.25, 0.5))
    shade = np.where(light, d.uniform("ground", 0.2, 0.45), d.uniform("ground", 0.65, 0.95))
    body = hsv(hue_of(colour, d), d.uniform("saturation", 0.5, 1.0), value)
    ground = hsv(d.uniform("ground hue"), d.uniform("ground sat", 0.2, 0.9), shade)
    picture = blend(ground * (0.75 + 0.4 * strokes)[:, None], body * (1.1 - 0.35 * strokes)[:, None], inside(ragged))
    return finish(picture, d, 0.1)


def embroidery(p: Placed, d: Draws, colour: Ints) -> Float:
    """Threads of one colour on woven cloth, with a stitched border."""
    pixel = np.arange(SIZE)
    cloth = 0.9 + 0.1 * ((pixel[:, None] + pixel[None, :]) % 2)
    ground = paint(d, "cloth", (0.3, 1.0), (0.0, 0.5)) * cloth
    threads = 0.55 + 0.45 * wave(along(d, "thread turn", X, Y) * column(d.uniform("thread rate", 4.5, 6.5)))
    body = hsv(hue_of(colour, d), d.uniform("saturation", 0.5, 1.0), d.uniform("value", 0.5, 1.0))
    picture = blend(ground, body * threads[:, None], inside(p.distance))
    stitches = line(p.distance, 1.1) * np.clip(3.0 * wave((p.u + p.v) * 3.0) - 0.7, 0.0, 1.0)
    return finish(blend(picture, paint(d, "stitch", (0.1, 1.0)), stitches), d, 0.08)


def halftone(p: Placed, d: Draws, colour: Ints) -> Float:
    """Printed dots, large inside the object and small outside."""
    turn_x = along(d, "screen", X, Y) * (SIZE / 2 / 3.2)
    turn_y = along(d, "screen", Y, -X) * (SIZE / 2 / 3.2)
    across, down = wave(turn_x), wave(turn_y)
    reach = 0.15 + 0.75 * inside(p.distance, 2.5)
    dots = np.clip(3.0 * (reach - np.sqrt(across * across + down * down)) + 0.5, 0.0, 1.0)
    printed = hsv(hue_of(colour, d), d.uniform("saturation", 0.5, 1.0), d.uniform("value", 0.2, 0.7))
    return finish(blend(paint(d, "paper", (0.8, 1.0), (0.0, 0.4)) + np.zeros((1, 1, SIZE, SIZE)), printed, dots), d, 0.06)


def graffiti(p: Placed, d: Draws, colour: Ints) -> Float:
    """Two-colour fade with a thick outline and a drop shadow on bricks."""
    course = np.floor(Y * 4.0)
    joint = np.minimum(wave(Y * 4.0 + 0.5), wave(X * 2.5 + 0.5 * course + column(d.uniform("bricks"))))
    wall = paint(d, "wall", (0.35, 0.8), (0.1, 0.6)) * (1.0 - 0.35 * np.clip(2.0 - 8.0 * joint, 0.0, 1.0))[:, None]
    fade = np.clip(0.5 + 0.6 * along(d, "fade turn", p.u, p.v), 0.0, 1.0)
    body = hsv(hue_of(colour, d), d.uniform("saturation", 0.7, 1.0), d.uniform("value", 0.8, 1.0))
    other = paint(d, "fade", (0.7, 1.0), (0.4, 1.0))
    shadow = inside(np.roll(p.distance, (2, 2), (1, 2)) - 0.5) * 0.8
    picture = blend(wall, np.full((1, 3, 1, 1), 0.08), shadow)
    picture = blend(picture, body + (other - body) * fade[:, None], inside(p.distance - 0.4))
    rim = np.where(d.chance("white rim", 0.5), 0.95, 0.05)[:, None, None, None] + np.zeros((1, 3, 1, 1))
    return finish(blend(picture, rim, line(p.distance - 0.4, 1.2)), d, 0.08)


SKETCH_TEST: dict[str, Style] = {"pencil": pencil}
SKETCH_SEEN: dict[str, Style] = {"ink": ink, "chalk": chalk, "silhouette": silhouette}
RENDITION_TEST: dict[str, Style] = {
    "painting": painting, "embroidery": embroidery, "halftone": halftone, "graffiti": graffiti,
    "coarse mosaic": coarse_mosaic, "neon sign": neon_sign,
}  # fmt: skip
RENDITION_SEEN: dict[str, Style] = {
    "cartoon": cartoon, "watercolour": watercolour, "glass": glass, "mosaic": mosaic, "neon": neon,
}  # fmt: skip


def drawn(styles: dict[str, Style], which: Ints, p: Placed, d: Draws, colour: Ints) -> Float:
    """Each picture in the style that `which` `[N]` names by position."""
    out = np.empty((len(d), 3, SIZE, SIZE))
    for k, style in enumerate(styles.values()):
        rows = which == k
        if rows.any():
            out[rows] = style(p[rows], d[rows], colour[rows])
    return out
