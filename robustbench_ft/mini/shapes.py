"""The twenty shape classes as signed distance functions, and the templates that a world draws from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from robustbench_ft.mini.draws import PI, Draws, Float, sin_cos

GRID = 64
"""Templates are GRID x GRID samples of the square [-EXTENT, EXTENT]."""
EXTENT = 1.3


class Variants:
    """A batch of shape variants `[V]`: their draws and the plane's coordinates `[V or 1, GRID, GRID]`, y up."""

    def __init__(self, draws: Draws) -> None:
        axis = (np.arange(GRID) + 0.5) * (2 * EXTENT / GRID) - EXTENT
        self.draws = draws
        aspect, shear = self("aspect", 0.86, 1.14), self("shear", -0.12, 0.12)
        self.x: Float = axis[None, None, :] * aspect + shear * -axis[None, :, None]
        self.y: Float = -axis[None, :, None] / aspect + 0 * axis[None, None, :]

    def __call__(self, name: str, low: float, high: float) -> Float:
        """One number per variant, `[V, 1, 1]`."""
        drawn: Float = self.draws.uniform(name, low, high)[:, None, None]
        return drawn

    def circle(self, cx: Float | float, cy: Float | float, radius: Float | float) -> Float:
        """Disc."""
        dx, dy = self.x - cx, self.y - cy
        distance: Float = np.sqrt(dx * dx + dy * dy) - radius
        return distance

    def box(self, cx: Float | float, cy: Float | float, width: Float | float, height: Float | float) -> Float:
        """Box by centre and half sizes."""
        dx, dy = np.abs(self.x - cx) - width, np.abs(self.y - cy) - height
        ox, oy = np.maximum(dx, 0.0), np.maximum(dy, 0.0)
        distance: Float = np.sqrt(ox * ox + oy * oy) + np.minimum(np.maximum(dx, dy), 0.0)
        return distance

    def polygon(self, *points: tuple[Float | float, Float | float]) -> Float:
        """Any simple polygon (Quilez, 2D distance functions)."""
        best, inside = np.full(np.broadcast(self.x, self.y).shape, np.inf), np.zeros((1, GRID, GRID), dtype=bool)
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
            ex, ey = bx - ax, by - ay
            wx, wy = self.x - ax, self.y - ay
            along = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0.0, 1.0)
            dx, dy = wx - ex * along, wy - ey * along
            best = np.minimum(best, dx * dx + dy * dy)
            crosses = (self.y >= ay) == (self.y < by)
            inside = inside ^ (crosses & ((ex * wy > ey * wx) == (self.y >= ay)))
        distance: Float = np.where(inside, -1.0, 1.0) * np.sqrt(best)
        return distance

    def turned(self, angle: float) -> Variants:
        """The same variants with the plane turned by `angle` radians."""
        s, c = (float(v) for v in sin_cos(np.array(angle)))
        other = Variants(self.draws)
        other.x, other.y = c * self.x + s * self.y, c * self.y - s * self.x
        return other


def _any(*parts: Float) -> Float:
    out = parts[0]
    for part in parts[1:]:
        out = np.minimum(out, part)
    return out


def _but(part: Float, *holes: Float) -> Float:
    return np.maximum(part, -_any(*holes))


def ring(v: Variants) -> Float:
    """An annulus."""
    return np.abs(v.circle(0, 0, v("r", 0.6, 0.76))) - v("w", 0.13, 0.24)


def moon(v: Variants) -> Float:
    """A crescent."""
    return _but(v.circle(0.1, 0, 0.9), v.circle(v("cx", 0.42, 0.62), v("cy", -0.15, 0.15), v("r", 0.66, 0.8)))


def heart(v: Variants) -> Float:
    """Two discs over a point."""
    r, low = v("r", 0.42, 0.5), v("low", 0.78, 0.95)
    side = r + 0.34
    return _any(
        v.circle(-0.38, 0.32, r),
        v.circle(0.38, 0.32, r),
        v.polygon((-side, 0.14), (side, 0.14), (0.0, -low)),
        v.circle(0, 0.1, 0.36),
    )


def _polar(radius: Float | float, turn: float) -> tuple[Float | float, Float | float]:
    """A point at `turn` of a full circle, clockwise from the top."""
    s, c = sin_cos(np.array(2 * PI * (turn - round(turn))))
    return radius * float(s), radius * float(c)


def star(v: Variants) -> Float:
    """Five points."""
    outer, inner = v("outer", 0.9, 1.0), v("inner", 0.36, 0.48)
    return v.polygon(*(_polar(inner if k % 2 else outer, k / 10) for k in range(10)))


def flower(v: Variants) -> Float:
    """Six petals and an eye."""
    far, r = v("far", 0.54, 0.64), v("r", 0.27, 0.34)
    petals = _any(*(v.circle(*_polar(far, k / 6), r) for k in range(6)))
    return _but(_any(petals, v.circle(0, 0, 0.5)), v.circle(0, 0, v("eye", 0.14, 0.24)))


def gear(v: Variants) -> Float:
    """Eight teeth and a hole."""
    long, wide = v("long", 0.82, 0.96), v("wide", 0.1, 0.15)
    teeth = _any(*(v.turned(PI * k / 4).box(0, 0, long, wide) for k in range(4)))
    return _but(_any(teeth, v.circle(0, 0, v("r", 0.58, 0.68))), v.circle(0, 0, v("hole", 0.26, 0.38)))


def cross(v: Variants) -> Float:
    """Two bars."""
    wide = v("wide", 0.17, 0.3)
    return _any(v.box(0, 0, wide, 0.92), v.box(0, v("rise", 0.0, 0.25), v("arm", 0.62, 0.88), wide))


def arrow(v: Variants) -> Float:
    """Shaft and head, to the right."""
    neck, wing, half = v("neck", -0.05, 0.3), v("wing", 0.5, 0.72), v("half", 0.14, 0.26)
    head = v.polygon((neck, wing), (0.95, 0.0), (neck, -wing))
    return _any(head, v.box((neck - 0.8) / 2, 0, (neck + 1.0) / 2, half))


def bolt(v: Variants) -> Float:
    """A zigzag."""
    a, b = v("a", 0.08, 0.22), v("b", 0.5, 0.66)
    return v.polygon((-0.1, 1.0), (0.5, 1.0), (0.18, a + 0.1), (b, a), (-0.35, -1.0), (-0.05, -a), (-b, -a - 0.05))


def house(v: Variants) -> Float:
    """Walls, roof, chimney, door."""
    wall, eave = v("wall", 0.55, 0.68), v("eave", 0.02, 0.2)
    roof = v.polygon((-wall - 0.2, eave), (wall + 0.2, eave), (0.0, v("top", 0.8, 0.98)))
    body = v.box(0, (eave - 0.8) / 2, wall, (eave + 0.9) / 2)
    door = v.box(v("door", -0.2, 0.2), -0.65, v("door width", 0.13, 0.2), v("door height", 0.25, 0.36))
    return _but(_any(roof, body, v.box(v("chimney", 0.32, 0.45), 0.5, 0.11, 0.32)), door)


def tree(v: Variants) -> Float:
    """Two triangles on a trunk."""
    low = v.polygon((-v("wide", 0.65, 0.82), -0.5), (v("wide", 0.65, 0.82), -0.5), (0.0, 0.45))
    high = v.polygon((-v("high", 0.45, 0.6), 0.1), (v("high", 0.45, 0.6), 0.1), (0.0, 1.0))
    return _any(low, high, v.box(0, -0.65, v("trunk", 0.1, 0.18), 0.33))


def fish(v: Variants) -> Float:
    """A lens with tail and eye."""
    bend, tail = v("bend", 0.35, 0.6), v("tail", 0.4, 0.58)
    body = np.maximum(v.circle(0.2, bend, 0.45 + bend), v.circle(0.2, -bend, 0.45 + bend))
    fin = v.polygon((-0.35, 0.0), (-0.98, tail), (v("notch", -0.85, -0.65), 0.0), (-0.98, -tail))
    return _but(_any(body, fin), v.circle(0.6, 0.1, 0.08))


def cup(v: Variants) -> Float:
    """A body with a handle."""
    top, base = v("top", 0.5, 0.64), v("base", 0.34, 0.5)
    body = v.polygon((-top - 0.2, 0.72), (top - 0.2, 0.72), (base - 0.2, -0.75), (-base - 0.2, -0.75))
    handle = np.abs(v.circle(top - 0.22, v("y", 0.0, 0.15), v("r", 0.34, 0.44))) - v("w", 0.08, 0.13)
    return _any(body, handle)


def key(v: Variants) -> Float:
    """Bow, shaft and two bits."""
    bow = np.abs(v.circle(-0.55, 0, v("r", 0.26, 0.34))) - v("w", 0.09, 0.13)
    tooth = v("tooth", 0.18, 0.3)
    bits = _any(v.box(0.85, -tooth, 0.09, tooth), v.box(v("second", 0.45, 0.6), -tooth, 0.09, tooth))
    return _any(bow, v.box(0.32, 0, 0.62, v("shaft", 0.09, 0.13)), bits)


def bottle(v: Variants) -> Float:
    """Body, shoulder, neck, lip."""
    body, neck, shoulder = v("body", 0.34, 0.46), v("neck", 0.12, 0.2), v("shoulder", 0.0, 0.25)
    slope = v.polygon((-body, shoulder), (body, shoulder), (neck, shoulder + 0.35), (-neck, shoulder + 0.35))
    lower = v.box(0, (shoulder - 0.9) / 2, body, (shoulder + 1.06) / 2)
    return _any(lower, slope, v.box(0, 0.65, neck, 0.33), v.box(0, 0.92, neck + 0.05, 0.08))


def hammer(v: Variants) -> Float:
    """Handle, head and claw."""
    left, tall = v("left", 0.5, 0.72), v("tall", 0.2, 0.28)
    claw = v.polygon((0.2, 0.65 + tall), (0.2, 0.62 - tall), (v("claw", 0.7, 0.85), v("dip", 0.25, 0.45)))
    return _any(v.box(0, -0.2, v("handle", 0.1, 0.16), 0.8), v.box((0.25 - left) / 2, 0.65, (0.25 + left) / 2, tall), claw)


def umbrella(v: Variants) -> Float:
    """A dome on a hooked pole."""
    r, floor = v("r", 0.82, 0.94), v("floor", -0.02, 0.12)
    dome = np.maximum(v.circle(0, floor, r), floor - v.y)
    hook = np.maximum(np.abs(v.circle(0.19, -0.72, 0.19)) - 0.07, v.y + 0.72)
    return _any(dome, v.box(0, -0.35, v("pole", 0.06, 0.1), 0.4), hook, v.box(0, 0.95, 0.06, 0.1))


def mushroom(v: Variants) -> Float:
    """A cap on a foot."""
    r, stem = v("r", 0.7, 0.85), v("stem", 0.2, 0.32)
    cap = np.maximum(v.circle(0, 0.0, r), v("gill", -0.05, 0.1) - v.y)
    foot = v.polygon((-stem, 0.3), (stem, 0.3), (stem + 0.1, -0.85), (-stem - 0.1, -0.85))
    return _any(cap, foot)


def boat(v: Variants) -> Float:
    """Hull, mast and two sails."""
    deck, keel = v("deck", 0.8, 0.98), v("keel", 0.4, 0.6)
    hull = v.polygon((-deck, -0.35), (deck, -0.35), (keel, -0.82), (-keel, -0.82))
    sail = v.polygon((0.08, 0.95), (v("sail", 0.6, 0.8), -0.15), (0.08, -0.15))
    jib = v.polygon((-0.08, v("jib", 0.5, 0.8)), (-0.08, -0.15), (-v("jib foot", 0.35, 0.6), -0.15))
    return _any(hull, sail, jib, v.box(0, 0.2, 0.11, 0.75))


def leaf(v: Variants) -> Float:
    """A blade with vein and stalk."""
    t = v.turned(PI / 4)
    bend = v("bend", 0.35, 0.75)
    reach = np.sqrt(0.78 * 0.78 + bend * bend)
    blade = np.maximum(t.circle(0.12, bend, reach), t.circle(0.12, -bend, reach))
    vein = t.box(0.1, 0, v("vein", 0.35, 0.6), 0.045)
    return _any(_but(blade, vein), t.box(-0.85, 0, 0.25, v("stalk", 0.06, 0.1)))


SHAPES: tuple[Callable[[Variants], Float], ...] = (
    ring, moon, heart, star, flower, gear, cross, arrow, bolt, house,
    tree, fish, cup, key, bottle, hammer, umbrella, mushroom, boat, leaf,
)  # fmt: skip
CLASSES: tuple[str, ...] = tuple(shape.__name__ for shape in SHAPES)


@lru_cache(maxsize=4)
def templates(world: int, variants: int) -> Float:
    """Signed distances `[class, variant, GRID, GRID]`, negative inside."""
    index = list(range(variants))
    drawn = []
    for shape in SHAPES:
        v = Variants(Draws.of(f"shape {shape.__name__}", world, index))
        drawn.append(shape(v) + v("weight", -0.03, 0.04))
    return np.stack(drawn)
