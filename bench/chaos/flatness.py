"""Whether a series stays where it is, or grows."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

BLOCKS = 10
# Student's t at 0.975 with BLOCKS - 2 degrees of freedom.
T_975 = 2.306

Verdict = Literal["flat", "falls", "grows", "unclear"]


class Trend(NamedTuple):
    """Growth over the time measured, by least squares on the medians of ten blocks of time.

    Medians, so that what lasts for a moment (a swap, a burst) hardly counts, and blocks, because neighbouring samples are alike.
    """

    level: float
    """Median."""
    growth: float
    """From begin to end, in units of the series."""
    low: float
    high: float
    """95% interval of the growth."""
    medians: Sequence[float]
    """Of the blocks."""
    verdict: Verdict
    """By the limit: "flat" if the whole interval is below it, "grows" if the whole interval is above it."""


def trend(seconds: Sequence[float], values: Sequence[float], limit: float) -> Trend:
    """`limit` is the growth that is allowed, as a share of the level. Raises ValueError for fewer than two samples a block."""
    if len(values) < 2 * BLOCKS:
        raise ValueError(f"{len(values)} samples: at least {2 * BLOCKS} are needed")
    times, series = np.asarray(seconds, float), np.asarray(values, float)
    edges = np.linspace(times[0], times[-1], BLOCKS + 1)
    place = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, BLOCKS - 1)
    there = [block for block in range(BLOCKS) if (place == block).any()]
    x = np.array([times[place == block].mean() for block in there])
    y = np.array([np.median(series[place == block]) for block in there])
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - slope * centred
    error = float(np.sqrt(residual @ residual / (len(x) - 2) / (centred @ centred)))
    span = float(times[-1] - times[0])
    level = float(np.median(series))
    low, high = (span * (slope + sign * T_975 * error) for sign in (-1, 1))
    return Trend(level, span * slope, low, high, [*map(float, y)], _verdict(low, high, limit * level))


def _verdict(low: float, high: float, allowed: float) -> Verdict:
    if low > allowed:
        return "grows"
    if high <= allowed:
        return "falls" if high < -allowed else "flat"
    return "unclear"
