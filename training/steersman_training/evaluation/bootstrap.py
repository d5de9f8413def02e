"""Intervals over users by bootstrap. Dimensions: B users, C columns (one figure of each user), R resamples."""

import math
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


def bootstrap_quantile(columns: list[Tensor], level: float) -> Interval:
    """The interval of a quantile over users (the least value with as many at or below it), mean over columns."""
    drawn_RB = weights(len(columns[0]))
    quantile_R, value = torch.zeros(len(drawn_RB), dtype=torch.float64), 0.0
    for column_B in columns:
        sorted_B, order_B = column_B.double().cpu().sort()
        below_RB = drawn_RB[:, order_B].cumsum(1)
        at_R = (below_RB < level - 1e-9).sum(1).clamp_max(len(sorted_B) - 1)
        quantile_R += sorted_B[at_R] / len(columns)
        value += float(sorted_B[math.ceil(level * len(sorted_B) - 1e-9) - 1]) / len(columns)
    edges = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    low, high = quantile_R.quantile(edges).tolist()
    return Interval(value, low, high)


def ratio(means: Tensor) -> Tensor:
    """The statistic of the first two columns: a mean as a multiple of another."""
    return means[..., 0] / means[..., 1]


@lru_cache(maxsize=4)
def weights(users: int, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """How often each resample drew each user, over their number. (R, B)"""
    generator = torch.Generator().manual_seed(seed)
    drawn_RB = torch.randint(users, (resamples, users), generator=generator)
    ones_RB = torch.ones(resamples, users, dtype=torch.float64)
    counts_RB = torch.zeros_like(ones_RB).scatter_add_(1, drawn_RB, ones_RB)
    return counts_RB / users
