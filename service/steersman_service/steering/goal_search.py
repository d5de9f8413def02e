"""Finds the strengths that reach goals, by lists computed at strengths side by side.

    share goal:  the weakest strength whose list has the share
    budget:      the strongest one whose list stays within it

A round is one batch: a grid of strengths first, then a finer one between the two that bracket the goal. What is chosen is a list
that was computed, so its figures are its own, and a budget is never exceeded. Several goals are searched one after the other, three times
around.

Dimensions: G goals, K top-k.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np

from steersman_service.bundle.items import Rows
from steersman_service.engine.request import EngineResult
from steersman_service.steering.goals import ParsedGoal
from steersman_service.steering.shares import overlap
from steersman_service.steering.steering import Steering

POINTS, FINER_POINTS = 6, 4
"""Strengths of a round: the first one of a goal, and those after it."""
SWEEPS = 3
CLOSE = 0.05
"""A share so near its goal is not searched for any longer: no list of up to twenty items comes closer."""

Parts = tuple[float, ...]
"""Of each goal's bound, 0 to 1."""


class Trial(NamedTuple):
    """A list that was computed."""

    parts_G: Parts
    steering: Steering
    result: EngineResult
    rows_K: Rows
    """The list as it is answered."""


class Solution(NamedTuple):
    plain: Trial
    """Without any control."""
    best: Trial


class _Span(NamedTuple):
    """Part of a line that is looked at next, as parts of the bound."""

    low: float
    high: float

    @property
    def empty(self) -> bool:
        return self.high <= self.low


WHOLE = _Span(0.0, 1.0)


def search(goals: Sequence[ParsedGoal]) -> Generator[Sequence[Parts | None], Sequence[Trial], Solution]:
    """Yields parts of bounds, and is sent their trials, in the same order. None: without any control.

    Without goals it is one round of two lists.
    """
    zeros = (0.0,) * len(goals)
    plain, *found = yield [None, zeros, *(_along(zeros, 0, _points(WHOLE, first=True)) if goals else ())]
    best = _best(found, goals, plain)
    spans = [WHOLE] * len(goals)
    for sweep in range(SWEEPS if goals else 0):
        for place in range(len(goals)):
            points = _points(spans[place], first=not sweep)
            if (sweep or place) and not spans[place].empty:
                found = [best, *(yield _along(best.parts_G, place, points))]
                best = _best(found, goals, plain)
            width = (spans[place].high - spans[place].low) / (FINER_POINTS + 1 if sweep else POINTS)
            spans[place] = _around(best, place, width, goals, plain, refined=sweep > 0)
        if all(span.empty for span in spans):
            break
    return Solution(plain, best)


def measured(goal: ParsedGoal, rows_K: Rows, divergence: float | None, plain_K: Rows) -> float:
    """What the goal bounds, of a list. As the answer carries it, in single precision: 0.3 there is above 3/10."""
    if goal.subject is not None:
        value = goal.subject.share(rows_K)
    elif goal.kind == "least_overlap":
        value = overlap(plain_K, rows_K)
    else:
        assert divergence is not None
        value = divergence
    return float(np.float32(value))


def shortfall(goal: ParsedGoal, value: float) -> float:
    """How far a measured value is from the goal; 0: reached."""
    least = goal.kind in ("at_least", "least_overlap")
    return max(0.0, goal.value - value if least else value - goal.value)


def shortfalls(goals: Sequence[ParsedGoal], trial: Trial, plain: Trial) -> list[float]:
    return [shortfall(goal, measured(goal, trial.rows_K, trial.result.divergence, plain.rows_K)) for goal in goals]


def _best(trials: Sequence[Trial], goals: Sequence[ParsedGoal], plain: Trial) -> Trial:
    """Budgets hold first, then shares; then the weakest edits for shares, and the strongest for budgets."""

    def rank(trial: Trial) -> tuple[float, float, float, float]:
        short, parts = shortfalls(goals, trial, plain), trial.parts_G
        budgets = [place for place, goal in enumerate(goals) if goal.is_budget]
        shares = [place for place, goal in enumerate(goals) if not goal.is_budget]
        return (
            sum(short[place] for place in budgets),
            sum(short[place] for place in shares),
            sum(parts[place] for place in shares),
            -sum(parts[place] for place in budgets),
        )

    return min(trials, key=rank)


def _around(
    best: Trial, place: int, width: float, goals: Sequence[ParsedGoal], plain: Trial, *, refined: bool
) -> _Span:
    """Where a better strength of one goal may lie: within `width` of the best one so far."""
    at, goal = best.parts_G[place], goals[place]
    below, above = _Span(max(0.0, at - width), at), _Span(at, min(1.0, at + width))
    if len(goals) > 1:  # the others move meanwhile
        return _Span(below.low, above.high)
    value = measured(goal, best.rows_K, best.result.divergence, plain.rows_K)
    if shortfall(goal, value) > 0:
        return _Span(below.low, above.high)
    if goal.is_budget:
        return _Span(at, at) if refined else above
    return _Span(at, at) if refined and abs(value - goal.value) <= CLOSE else below


def _points(span: _Span, *, first: bool) -> list[float]:
    """Parts between the ends of a span; of the first one, its upper end, too."""
    parts = POINTS if first else FINER_POINTS + 1
    points = [span.low + (span.high - span.low) * number / parts for number in range(1, parts)]
    return [*points, span.high] if first else points


def _along(parts_G: Parts, place: int, points: Sequence[float]) -> list[Parts | None]:
    return [(*parts_G[:place], point, *parts_G[place + 1 :]) for point in points]
