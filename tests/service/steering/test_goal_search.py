"""The search for strengths, on lists made up."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_service.engine.request import NO_EDITS, NO_ROWS, NO_STRENGTHS, EngineResult
from steersman_service.steering.goal_search import Parts, Solution, Trial, measured, search, shortfall
from steersman_service.steering.goals import ParsedGoal
from steersman_service.steering.shares import Subject
from steersman_service.steering.steering import Steering

MEMBERS = Subject(np.arange(100, 200))
NOTHING = Steering(NO_EDITS, NO_ROWS, NO_STRENGTHS, None, (), (), ())
PLAIN = np.arange(10)


def solved(goals: Sequence[ParsedGoal], listed: Callable[[Parts], tuple[int, float]]) -> tuple[Solution, list[int]]:
    """`listed`: how many of ten items are members, and the divergence, at parts of the bounds. With the sizes of all rounds."""
    searching, rounds = search(goals), []
    asked = next(searching)
    while True:
        rounds.append(len(asked))
        trials = []
        for parts_G in asked:
            members, divergence = (0, 0.0) if parts_G is None else listed(parts_G)
            rows_K = np.concatenate([MEMBERS.rows_R[:members], PLAIN[: 10 - members]])
            result = EngineResult(rows_K, np.zeros(10, np.float32), [], divergence=divergence)
            trials.append(Trial(parts_G or (), NOTHING, result, rows_K))
        try:
            asked = searching.send(trials)
        except StopIteration as stopped:
            return stopped.value, rounds


def least(share: float) -> ParsedGoal:
    return ParsedGoal("at_least", float(np.float32(share)), 2.0, MEMBERS)


@given(goal=st.integers(0, 10), slope=st.floats(0.1, 12), power=st.floats(0.3, 3))
def test_the_weakest_strength_that_has_the_share(goal: int, slope: float, power: float) -> None:
    def members(part: float) -> int:
        return min(10, int(10 * slope * max(0.0, part) ** power))

    solution, rounds = solved([least(goal / 10)], lambda parts: (members(parts[0]), 0.0))
    (part,), found = solution.best.parts_G, int(10 * MEMBERS.share(solution.best.rows_K) + 0.5)
    assert len(rounds) <= 3
    assert found == members(part)
    if members(1.0) < goal:
        assert found == members(1.0)
        return
    assert found >= goal
    # A thirtieth of the bound less, it has too little.
    assert part == 0 or members(max(0.0, part - 1 / 29)) < goal
    if slope * power < 3:  # no step lies closer to the next
        assert found == goal or members(part - 1 / 140) < goal


def test_a_share_that_falls_again_is_the_best_computed() -> None:
    bump = [0, 1, 3, 1, 0, 0, 0]
    solution, _ = solved([least(0.5)], lambda parts: (bump[round(6 * parts[0])], 0.0))
    assert round(6 * solution.best.parts_G[0]) == 2


@given(budget=st.floats(0, 3), scale=st.floats(0.01, 30))
def test_the_strongest_within_a_budget(budget: float, scale: float) -> None:
    goal = ParsedGoal("most_divergence", float(np.float32(budget)), -2.0, None)
    solution, rounds = solved([goal], lambda parts: (0, scale * parts[0] ** 2))
    (part,), result = solution.best.parts_G, solution.best.result
    assert len(rounds) <= 2
    assert result.divergence is not None
    assert np.float32(result.divergence) <= goal.value
    assert part == 1 or scale * (part + 1 / 29) ** 2 > goal.value


@given(overlap=st.integers(0, 10), members=st.integers(0, 10))
def test_an_overlap_is_kept(overlap: int, members: int) -> None:
    goal = ParsedGoal("least_overlap", float(np.float32(overlap / 10)), 2.0, None)
    solution, _ = solved([goal], lambda parts: (int(members * parts[0]), 0.0))
    kept = measured(goal, solution.best.rows_K, 0.0, PLAIN)
    assert shortfall(goal, kept) == 0
    assert kept == pytest.approx(max(overlap / 10, 1 - members / 10), abs=0.1001)


@given(first=st.integers(1, 5), second=st.integers(1, 5))
def test_two_goals_that_pull_the_same_list(first: int, second: int) -> None:
    goals = [least(first / 10), ParsedGoal("most_divergence", second / 10, 2.0, None)]
    solution, rounds = solved(goals, lambda parts: (int(8 * parts[0] + 2 * parts[1]), parts[0] ** 2 + parts[1] ** 2))
    found, divergence = MEMBERS.share(solution.best.rows_K), solution.best.result.divergence
    assert divergence is not None
    assert divergence <= second / 10
    assert len(rounds) <= 6
    # All of the budget for the first alone reaches 8 * sqrt(budget).
    if 8 * np.sqrt(second / 10) >= first + 1:
        assert found >= first / 10 - 1e-6


def test_without_goals_it_is_one_round_of_two_lists() -> None:
    solution, rounds = solved([], lambda parts: (3, 0.5))
    assert rounds == [2]
    assert MEMBERS.share(solution.best.rows_K) == pytest.approx(0.3)
