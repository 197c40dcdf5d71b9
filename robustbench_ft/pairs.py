"""Image variances of the differences of all pairs of rows, from matrix products: a board of 1,000 rows has 500,000 pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_ft.statistics import Floats

EXACT = 2**24
"""Up to here float32 holds every whole number, so that sums of products of counts have no rounding error."""
BLOCK = 4096
"""Images multiplied at a time."""

Seeds = Sequence[Mapping[str, npt.NDArray[Any]]]
"""Of one row, per seed and test set, bool [N]: whether each image was answered right; or float64 [N], a bootstrap as if it
were images (``tallies.as_images``)."""


def paired_variances(rows: Sequence[Seeds], weights: Mapping[str, float], first: int = 0) -> Floats:
    """``statistics.paired_variance`` of each of ``rows[first:]`` and each of ``rows``: [R - first, R].

    With c right seeds of k on an image, the sum of squared differences of two rows' shares is
    sum c_a^2 / k_a^2 + sum c_b^2 / k_b^2 - 2 sum c_a c_b / (k_a k_b): whole numbers, and one matrix product for all pairs.
    """
    k = np.array([len(seeds) for seeds in rows], np.float64)
    found = np.zeros((len(rows) - first, len(rows)))
    for name, weight in weights.items():
        if rows[0][0][name].dtype != np.bool_:
            found += weight**2 * _of_bootstraps(
                np.stack([np.mean([seed[name] for seed in seeds], axis=0) for seeds in rows]), first
            )
            continue
        right = np.stack([np.sum([seed[name] for seed in seeds], axis=0, dtype=np.uint16) for seeds in rows])
        n = right.shape[1]
        squares = np.einsum("rn,rn->r", right, right, dtype=np.float64) / k**2
        means = right.sum(axis=1, dtype=np.float64) / k / n
        both = _products(right, first, int(k.max())) / (k[first:, None] * k)
        squared = squares[first:, None] + squares - 2 * both
        variance = (squared - n * (means[first:, None] - means) ** 2) / (n - 1)
        found += weight**2 / n * np.maximum(variance, 0.0)
    return found


def _of_bootstraps(values: Floats, first: int) -> Floats:
    """Variances of the mean difference of rows of ``values`` [R, B]: [R - first, R]."""
    centred = values - values.mean(axis=1, keepdims=True)
    squares = np.einsum("rb,rb->r", centred, centred)
    b = values.shape[1]
    return np.asarray(np.maximum(squares[first:, None] + squares - 2 * centred[first:] @ centred.T, 0.0) / (b - 1) / b)


def _products(right: npt.NDArray[np.uint16], first: int, k: int) -> Floats:
    """Sums over images of the products of counts up to ``k``: [R - first, R]."""
    found = np.zeros((len(right) - first, len(right)))
    step = max(1, min(BLOCK, EXACT // k**2))
    for start in range(0, right.shape[1], step):
        block = right[:, start : start + step].astype(np.float32)
        found += block[first:] @ block.T
    return found
