"""Quartiles of what is measured in several rounds, and of ratios round by round."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np


class Quartiles(NamedTuple):
    low: float
    """25% of the values lie below."""
    median: float
    high: float
    """25% of the values lie above."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Interpolated linearly between values."""
        return cls(*(float(value) for value in np.percentile(values, [25, 50, 75])))

    @classmethod
    def of_ratios(cls, values: Sequence[float], others: Sequence[float]) -> Self:
        """Round by round: what slows a whole round down leaves its ratio as it is. As many of both."""
        return cls.of([value / other for value, other in zip(values, others, strict=True)])
