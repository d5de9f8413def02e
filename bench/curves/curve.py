"""What something costs, as one number grows: the exponent, and where it is flat."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WITHIN = 1.1
"""Costs that differ by less than a tenth count as equal."""


class Point(NamedTuple):
    """Of a curve."""

    x: int
    cost: float


class Curve(NamedTuple):
    """What one thing costs as another one grows."""

    panel: str
    """Of the picture and the table that it stands in. Its name says what grows."""
    line: str
    unit: str
    """Of the cost."""
    points: Sequence[Point]
    """By growing x."""

    @property
    def exponent(self) -> float:
        """p of cost = c * x^p: the slope by least squares in logarithms, over the upper half of the points beyond 0."""
        points = [point for point in self.points if point.x > 0]
        sizes, costs = np.log(points[(len(points) - 1) // 2 :]).T
        return float(np.polyfit(sizes, costs, 1)[0])

    @property
    def flat(self) -> tuple[int, int]:
        """The stretch of x around the least cost in which all costs are within a tenth of it: its ends are the knees."""
        costs = [point.cost for point in self.points]
        begin = end = costs.index(min(costs))
        while begin > 0 and costs[begin - 1] <= WITHIN * min(costs):
            begin -= 1
        while end < len(costs) - 1 and costs[end + 1] <= WITHIN * min(costs):
            end += 1
        return self.points[begin].x, self.points[end].x

    @property
    def knee(self) -> str:
        """Where the cost leaves its least, or comes to it; nothing if it is at its least at an end alone."""
        (begin, end), first, last = self.flat, self.points[0].x, self.points[-1].x
        if (begin, end) == (first, last):
            return "flat"
        if begin == end:
            return "" if begin in (first, last) else f"at {begin:,}"
        return " ".join([f"from {begin:,}"] * (begin > first) + [f"up to {end:,}"] * (end < last))
