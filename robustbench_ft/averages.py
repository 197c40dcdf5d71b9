"""What a training run keeps beside its last weights: their moving average, and the best of them on val."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

State = Mapping[str, Tensor]
"""Tensors by name; integer ones are counters, of which the last counts."""


def kept_share(decay: float, steps: int) -> float:
    """1 - decay^steps: what the start no longer holds of an average that is biased to it; 1 where ``decay`` is 0."""
    return 1.0 - decay**steps


@dataclass
class Average:
    """The debiased exponential moving average of weights over optimiser steps (WiSE-FT, appendix C.3).

    With mu_0 = 0 and mu_t = decay mu_(t-1) + (1 - decay) theta_t it is mu_T / (1 - decay^T), kept up to date as the running mean
    m_t = m_(t-1) + (1 - decay) / (1 - decay^t) (theta_t - m_(t-1)): the first step's weights stand for all, and decays near 1
    lose no digits. The average that is biased to the start, mu_0 = theta_0, is the interpolation between start and this
    one at ``kept_share``.
    """

    decay: float
    mean: dict[str, Tensor] = field(default_factory=dict)

    def update(self, state: State, step: int) -> None:
        """Take in the weights after optimiser step ``step``, from 1."""
        share = (1 - self.decay) / kept_share(self.decay, step)
        for name, value in state.items():
            if name in self.mean and value.is_floating_point():
                self.mean[name].lerp_(value, share)
            else:
                self.mean[name] = value.clone()


@dataclass
class Best:
    """The weights with the highest val accuracy so far: it must rise, so of equals the first stay."""

    state: dict[str, Tensor] = field(default_factory=dict)
    score: float | None = None
    since: int = 0
    """Looks at val since it last rose."""

    def offer(self, score: float, state: State) -> None:
        """Keep ``state`` if its score is higher."""
        if self.score is None or score > self.score:
            self.state, self.score, self.since = {name: value.clone() for name, value in state.items()}, score, 0
        else:
            self.since += 1
