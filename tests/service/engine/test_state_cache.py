"""The cache of hidden states: what is found is what was put in, and its size is bounded."""

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.bundle.bundle import Array
from steersman_service.engine.state_cache import StateCache

WINDOWS = st.lists(st.integers(0, 3), max_size=4)


def state(window: list[int]) -> Array:
    """One of its own for every window."""
    return np.array([len(window), *window, *[-1] * (4 - len(window))], np.float32)


@settings(deadline=None)
@given(st.lists(WINDOWS, max_size=30), st.integers(0, 2000))
def test_what_is_found_is_the_state_of_that_very_window_and_the_bound_holds(
    windows: list[list[int]], limit: int
) -> None:
    cache = StateCache(limit)
    for window in windows:
        key = StateCache.key(np.array(window, np.int64))
        found = cache.get(key)
        if found is None:
            cache.put(key, state(window))
        else:
            assert found == state(window).tobytes()
        assert cache.held_bytes <= limit


def test_what_was_asked_for_longest_ago_makes_room() -> None:
    keys = [StateCache.key(np.array([row])) for row in range(3)]
    measure = StateCache(1 << 20)
    measure.put(keys[0], state([0]))
    cache = StateCache(2 * measure.held_bytes)
    for key in keys[:2]:
        cache.put(key, state([0]))
    cache.get(keys[0])
    cache.put(keys[2], state([0]))
    assert [cache.get(key) is not None for key in keys] == [True, False, True]
    cache.put(keys[2], state([0]))
    assert [cache.get(key) is not None for key in keys] == [True, False, True], "it was held already"
    assert cache.held_bytes == 2 * measure.held_bytes


@given(WINDOWS, WINDOWS, st.integers(1, 3))
def test_it_knows_what_a_window_was_before_it_grew(before: list[int], after: list[int], most: int) -> None:
    cache = StateCache(1 << 20)
    cache.put(StateCache.key(np.array(before, np.int64)), state(before))
    grew = after[: len(before)] == before and 1 <= len(after) - len(before) <= most
    assert cache.knows_begin(StateCache.key(np.array(after, np.int64)), most) == grew


def test_a_cache_of_no_bytes_holds_nothing() -> None:
    cache = StateCache(0)
    cache.put(b"", state([]))
    assert (cache.get(b""), cache.held_bytes) == (None, 0)


def test_it_says_what_it_takes() -> None:
    """Within a tenth: 200 events, a state of 128 numbers, and three times as many of them as fit."""
    limit = 1 << 21
    rng = np.random.default_rng(0)
    windows = rng.integers(1_000_000, size=(3 * limit // 1500, 200))
    states = rng.normal(size=(len(windows), 128)).astype(np.float32)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = StateCache(limit)
        for ids_T, h_D in zip(windows, states, strict=True):
            cache.put(StateCache.key(ids_T), h_D)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.9 * limit < cache.held_bytes <= limit
    assert 0.9 * cache.held_bytes < taken < 1.1 * cache.held_bytes
