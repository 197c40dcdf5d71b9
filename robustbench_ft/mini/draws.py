"""Random numbers that every machine agrees on: a counter-based hash and plain float64 arithmetic.

A draw depends only on its key and the name of what is drawn, never on what was drawn before, so any image can be
made without the others. Only +, -, *, /, sqrt, floor and comparisons are used anywhere in this package's rendering:
IEEE 754 fixes their results to the last bit, while `exp`, `sin` or a sum over an axis may differ with the processor.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
PI = 3.141592653589793


def mix(keys: Keys) -> Keys:
    """The finaliser of splitmix64 (Steele et al., 2014), elementwise; arithmetic is modulo 2**64."""
    keys = keys + _GOLDEN
    keys = (keys ^ (keys >> np.uint64(30))) * _MIX_1
    keys = (keys ^ (keys >> np.uint64(27))) * _MIX_2
    return keys ^ (keys >> np.uint64(31))


@cache
def name_key(name: str) -> np.uint64:
    """A 64-bit number for a name, the same everywhere."""
    return np.uint64(int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little"))


def unit(bits: Keys) -> Float:
    """The top 53 bits as a float in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Draws:
    """Named draws for a batch of keys `[N]`; every method returns one value (or field) per key."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    @classmethod
    def of(cls, name: str, world: int, index: Ints | list[int]) -> Draws:
        """Draws for the items `index` of the collection `name` in a world."""
        base = mix(np.array([world], dtype=np.uint64) ^ name_key(name))
        return cls(mix(base + np.asarray(index, dtype=np.uint64) * _MIX_2))

    def __getitem__(self, rows: Ints | NDArray[np.bool_]) -> Draws:
        return Draws(self.keys[rows])

    def __len__(self) -> int:
        return len(self.keys)

    def bits(self, name: str) -> Keys:
        """64 random bits per key `[N]`."""
        return mix(self.keys ^ name_key(name))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> Float:
        """Uniform in [low, high) `[N]`."""
        return low + (high - low) * unit(self.bits(name))

    def signed(self, name: str, low: float, high: float) -> Float:
        """Uniform magnitude in [low, high) with a random sign `[N]`."""
        return np.where(self.chance(f"{name} sign", 0.5), 1.0, -1.0) * self.uniform(name, low, high)

    def chance(self, name: str, p: float) -> NDArray[np.bool_]:
        """True with probability `p` `[N]`."""
        return self.uniform(name) < p

    def integers(self, name: str, n: int) -> Ints:
        """Uniform in 0..n-1 `[N]`."""
        return (unit(self.bits(name)) * n).astype(np.int64)

    def field(self, name: str, size: int) -> Keys:
        """`size` times 64 random bits per key `[N, size]`."""
        steps = np.arange(1, size + 1, dtype=np.uint64) * _GOLDEN
        return mix(self.bits(name)[:, None] + steps)


def sin_cos(angle: Float) -> tuple[Float, Float]:
    """Sine and cosine by their Taylor series, for angles within [-pi, pi] (error below 1e-8; the same everywhere)."""
    square = angle * angle
    sine, cosine = np.zeros_like(angle), np.zeros_like(angle)
    for n in range(11, 0, -1):
        sine = 1.0 - sine * square / ((2 * n) * (2 * n + 1))
        cosine = 1.0 - cosine * square / ((2 * n - 1) * (2 * n))
    return angle * sine, cosine
