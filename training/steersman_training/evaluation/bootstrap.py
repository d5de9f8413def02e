"""Intervals over users by bootstrap. Dimensions: B users, C columns (one figure of each user), R resamples."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

RESAMPLES = 1000
"""Of the users, with replacement."""
LEVEL = 0.95
"""Of the intervals."""


@dataclass(frozen=True)
class Interval:
    """A figure, and the percentile interval of it over resampled users (Efron & Tibshirani 1993, chapter 13)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    columns: list[Tensor],
    statistic: Callable[[Tensor], Tensor] = lambda means: means[..., 0],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of a statistic of means over users: of the mean itself, of a ratio of means, of a mean of such ratios.

    Every column holds one number for each of the same users (B,), drawn together: methods are compared in pairs.
    `statistic` takes the columns' means (..., C) and gives (...). Resamples where it is not a number are left out.
    """
    columns_BC = torch.stack([column.double() for column in columns], dim=1)
    means_RC = weights(len(columns_BC), resamples, seed).to(columns_BC) @ columns_BC
    edges = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64, device=columns_BC.device)
    low, high = statistic(means_RC).nanquantile(edges).tolist()
    return Interval(float(statistic(columns_BC.mean(0))), low, high)


def ratio(means: Tensor) -> Tensor:
    """The statistic of the first two columns: a mean as a multiple of another."""
    return means[..., 0] / means[..., 1]


@lru_cache(maxsize=4)
def weights(users: int, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """How often each resample drew each user, over their number. (R, B)"""
    generator = torch.Generator().manual_seed(seed)
    drawn_RB = torch.randint(users, (resamples, users), generator=generator)
    counts_RB = torch.zeros(resamples, users).scatter_add_(1, drawn_RB, torch.ones(resamples, users))
    return counts_RB / users
