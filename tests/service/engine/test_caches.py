"""The caches: what is found is what was put in, for a history or the longest prefix of it, and their size is bounded."""

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.engine.caches import MOST_APPENDED, KeyValueCache, StateCache, history_key, prefixes
from steersman_service.engine.kept_history import ROOM, KeptHistory
from tests.service.engine.test_kept_history import history

WINDOWS = st.lists(st.integers(0, 2), max_size=12)


def key(*items: int) -> bytes:
    return history_key(np.array(items, np.int64))


def state(window: list[int]) -> bytes:
    """One of its own for every window."""
    return np.array([len(window), *window, *[-1] * (4 - len(window))], np.float32).tobytes()


@settings(deadline=None)
@given(st.lists(WINDOWS, max_size=30), st.integers(0, 2000))
def test_what_is_found_is_the_state_of_that_very_window_and_the_bound_holds(
    windows: list[list[int]], limit: int
) -> None:
    cache = StateCache(limit)
    for window in windows:
        key = history_key(np.array(window, np.int64))
        found = cache.get(key)
        if found is None:
            cache.put(key, state(window))
        else:
            assert found == state(window)
        assert cache.held_bytes <= limit


@given(WINDOWS, WINDOWS)
def test_prefixes_are_the_histories_that_one_grew_from(before: list[int], after: list[int]) -> None:
    grew = after[: len(before)] == before and 1 <= len(after) - len(before) <= MOST_APPENDED
    assert (history_key(np.array(before)) in prefixes(history_key(np.array(after)))) == grew


def test_a_cache_of_no_bytes_holds_nothing() -> None:
    cache = StateCache(0)
    cache.put(b"", state([]))
    assert (cache.get(b""), cache.held_bytes) == (None, 0)


def test_states_take_what_the_cache_says() -> None:
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
            cache.put(history_key(ids_T), h_D.tobytes())
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.9 * limit < cache.held_bytes <= limit
    assert 0.9 * cache.held_bytes < taken < 1.1 * cache.held_bytes


def test_what_was_used_longest_ago_makes_room() -> None:
    keys, evicted = [key(row) for row in range(3)], []
    measure = StateCache(1 << 20)
    measure.put(keys[0], state([0]))
    cache = StateCache(2 * measure.held_bytes, on_evict=lambda: evicted.append(1))
    for one in keys[:2]:
        cache.put(one, state([0]))
    cache.get(keys[0])
    cache.get(key(7))
    cache.put(keys[2], state([0]))
    assert (len(evicted), [one in cache for one in keys]) == (1, [True, False, True])
    cache.put(keys[2], state([0]))
    assert (len(evicted), [one in cache for one in keys]) == (1, [True, False, True]), "it was held already"
    assert cache.held_bytes == 2 * measure.held_bytes
    cache.clear()
    assert (len(cache), cache.held_bytes) == (0, 0)


@settings(deadline=None)
@given(st.lists(WINDOWS, max_size=30), st.sampled_from([0, 5000, 20_000, 1 << 20]))
def test_what_is_found_is_the_longest_begin_that_is_kept_and_the_bound_holds(
    windows: list[list[int]], limit: int
) -> None:
    cache = KeyValueCache(limit)
    put: dict[tuple[int, ...], KeptHistory] = {}
    for window in windows:
        begins = [tuple(window[:end]) for end in range(len(window))][-MOST_APPENDED:]
        found, kept = cache.take(key(*window)), [put[begin] for begin in begins if begin in put]
        if limit == 1 << 20:
            assert found is (kept[-1] if kept else None)
        assert found is None or any(found is one for one in kept)
        put = {begin: one for begin, one in put.items() if one is not found}
        put[tuple(window)] = history(len(window))
        cache.put(key(*window), put[tuple(window)])
        assert cache.held_bytes <= limit


def test_a_history_that_grew_takes_the_place_of_what_it_was() -> None:
    cache = KeyValueCache(1 << 20)
    cache.put(key(1, 2), history(2))
    before = cache.held_bytes
    grown = cache.take(key(1, 2, 3))
    assert grown is not None
    cache.put(key(1, 2, 3), grown)
    assert cache.take(key(1, 2, 4)) is None
    assert cache.held_bytes == before + len(key(3)), "the same memory, and a longer key"
    assert cache.take(key(1, 2, 3)) is None, "itself is no begin of it"
    assert cache.take(key(*[1, 2, 3], *range(MOST_APPENDED + 1))) is None, "too many new events"
    assert cache.take(key(*[1, 2, 3], *range(MOST_APPENDED))) is grown
    assert cache.held_bytes == 0


def test_a_history_that_does_not_fit_evicts_no_other() -> None:
    measure = KeyValueCache(1 << 20)
    measure.put(key(0), history(1))
    cache = KeyValueCache(measure.held_bytes)
    cache.put(key(0), history(1))
    cache.put(key(1), history(ROOM))
    assert cache.take(key(0, 1)) is not None
    empty = KeyValueCache(0)
    empty.put(key(0), history(1))
    assert (empty.take(key(0, 1)), empty.held_bytes) == (None, 0)


def test_kept_histories_take_what_the_cache_says() -> None:
    """Within a tenth: histories of 1 to 200 events, two blocks of 32 dimensions, and three times as many of them as fit."""
    limit = 1 << 22
    names = [f"{name}_{block}_{dims}" for block in (0, 1) for name, dims in (("k", "BPD"), ("v", "BPD"), ("r", "BRD"))]
    rng = np.random.default_rng(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = KeyValueCache(limit)
        for events in rng.integers(1, 201, size=3 * limit // 50_000):
            tensors = {name: np.ones((2 if "BRD" in name else events + 1, 32), np.float32) for name in names}
            cache.put(history_key(rng.integers(1_000_000, size=events)), KeptHistory(int(events), tensors, 200))
        del tensors
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.9 * limit < cache.held_bytes <= limit
    assert 0.9 * cache.held_bytes < taken < 1.1 * cache.held_bytes
