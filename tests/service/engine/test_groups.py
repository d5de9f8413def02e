"""Groups of histories by length: every row once, at the least cost."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.bundle.bundle import Array
from steersman_service.engine.groups import bounded_groups, length_groups, one_group

CALLS = st.sampled_from([0.0, 3.0, 40.0, float("inf")])
MOST = st.sampled_from([0.0, 50.0, 120.0, float("inf")])


def cost(groups: list[Array], lengths_B: Array, call_positions: float) -> float:
    """Positions computed (the start token's are as many in any groups), and calls in positions."""
    positions: float = sum(len(group) * lengths_B[group].max() for group in groups)
    return positions + (len(groups) - 1) * (call_positions if len(groups) > 1 else 0)


def fits(group: Array, lengths_B: Array, most_positions: float) -> bool:
    return len(group) == 1 or len(group) * lengths_B[group].max() <= most_positions


def cheapest(lengths_B: Array, call_positions: float, most_positions: float) -> float:
    """Over every way to cut the sorted rows into groups that fit."""
    order = np.argsort(-lengths_B)
    places = range(1, len(order))
    ways = (cuts for count in range(len(order)) for cuts in combinations(places, count))
    groups = (np.split(order, cuts) for cuts in ways)
    fitting = (way for way in groups if all(fits(group, lengths_B, most_positions) for group in way))
    return min(cost(way, lengths_B, call_positions) for way in fitting)


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=9).map(np.array), CALLS, MOST)
def test_no_other_groups_cost_less(lengths_B: Array, call_positions: float, most_positions: float) -> None:
    groups = length_groups(lengths_B, call_positions, most_positions)
    assert all(fits(group, lengths_B, most_positions) for group in groups)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths_B)))
    assert cost(groups, lengths_B, call_positions) == pytest.approx(cheapest(lengths_B, call_positions, most_positions))


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=64).map(np.array))
def test_every_row_is_in_one_group(lengths_B: Array) -> None:
    for groups in (length_groups(lengths_B), one_group(lengths_B)):
        assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths_B)))


def test_equal_lengths_are_one_group_and_long_ones_do_not_wait_for_short_ones() -> None:
    assert len(length_groups(np.full(64, 200))) == 1
    assert {len(group) for group in length_groups(np.full(64, 200), most_positions=400)} == {2}
    assert [group.tolist() for group in length_groups(np.array([3, 200, 5, 198]))] == [[1, 3], [2, 0]]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30).map(np.array), st.integers(0, 200))
def test_bounded_groups_hold_every_row_once_and_no_more_than_fits(widths_B: Array, most: int) -> None:
    groups = bounded_groups(widths_B, most)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(widths_B)))
    assert all(fits(group, widths_B, most) for group in groups)
    if len(widths_B) * widths_B.max() <= most:
        assert [group.tolist() for group in groups] == [list(range(len(widths_B)))]
