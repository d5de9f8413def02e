"""The cache of keys and values: the longest begin of a history is found, it grows in place, and its size is bounded."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.bundle.bundle import Array
from steersman_service.engine.kv_cache import MOST_APPENDED, ROOM, KeptHistory, KeyValueCache, Layout, Table
from steersman_service.engine.state_cache import StateCache

LAYOUT = Layout(["keys_0_BPD", "values_0_BPD", "recent_0_BRD"])
WIDTH, REACH, MOST = 4, 2, 2 * ROOM + 10


def rows(events: int) -> list[Array]:
    """What is kept of so many events: every number of it is one of a kind."""
    every = [np.arange((events + 1) * WIDTH, dtype=np.float32).reshape(-1, WIDTH) + 10_000 * place for place in (0, 1)]
    return [*every, np.stack([np.full(WIDTH, events - back, np.float32) for back in (1, 0)])]


def history(events: int) -> KeptHistory:
    # What a batch answers is padded.
    padded = [np.concatenate([part, np.full((3, WIDTH), -1, np.float32)]) for part in rows(events)[:2]]
    return KeptHistory(LAYOUT, events, [*padded, rows(events)[2]], MOST)


def key(*items: int) -> bytes:
    return StateCache.key(np.array(items, np.int64))


@pytest.mark.parametrize("begin", [0, 1, ROOM - 2, ROOM - 1, 2 * ROOM])
def test_a_history_grows_in_place_to_what_it_would_be(begin: int) -> None:
    grown, wanted = history(begin), rows(MOST)
    for events in range(begin + 1, MOST + 1):
        added_LD = np.stack([wanted[0][events], wanted[1][events], np.full(WIDTH, events, np.float32)])
        grown.append(added_LD)
        assert grown.events == events
        for tensor, part in zip(grown.tensors(), rows(events), strict=True):
            np.testing.assert_array_equal(tensor, part)
    assert grown.nbytes == history(MOST).nbytes == (2 * (MOST + 1) + REACH) * WIDTH * 4


def test_histories_lie_beside_each_other_padded_with_zeros() -> None:
    table, some = Table(), [history(events) for events in (3, 1, 2)]
    table.lay([history(9) for _ in range(4)])
    laid = table.lay(some)
    assert {name: tensor.shape for name, tensor in laid.items()} == {
        "keys_0_BPD": (3, 4, WIDTH),
        "values_0_BPD": (3, 4, WIDTH),
        "recent_0_BRD": (3, REACH, WIDTH),
    }
    for row, own in enumerate(some):
        for tensor, part in zip(laid.values(), own.tensors(), strict=True):
            np.testing.assert_array_equal(tensor[row, : len(part)], part)
            assert not tensor[row, len(part) :].any()


def test_one_history_is_not_copied() -> None:
    alone = history(5)
    laid = Table().lay([alone]).values()
    assert all(np.shares_memory(tensor, part) for tensor, part in zip(laid, alone.tensors(), strict=True))


WINDOWS = st.lists(st.integers(0, 2), max_size=12)


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


def test_what_was_asked_for_longest_ago_makes_room() -> None:
    measure = KeyValueCache(1 << 20)
    measure.put(key(0), history(1))
    evicted: list[int] = []
    cache = KeyValueCache(2 * measure.held_bytes, on_evict=lambda: evicted.append(1))
    for item in (0, 1):
        cache.put(key(item), history(1))
    cache.touch(key(0))
    cache.touch(key(7))
    cache.put(key(2), history(1))
    assert len(evicted) == 1
    assert [cache.take(key(item, 9)) is not None for item in range(3)] == [True, False, True]


def test_a_history_that_does_not_fit_drives_out_no_other() -> None:
    measure = KeyValueCache(1 << 20)
    measure.put(key(0), history(1))
    cache = KeyValueCache(measure.held_bytes)
    cache.put(key(0), history(1))
    cache.put(key(1), history(ROOM))
    assert cache.take(key(0, 1)) is not None
    empty = KeyValueCache(0)
    empty.put(key(0), history(1))
    assert (empty.take(key(0, 1)), empty.held_bytes) == (None, 0)


def test_it_says_what_it_takes() -> None:
    """Within a tenth: histories of 1 to 200 events, two blocks of 32 dimensions, and three times as many of them as fit."""
    limit = 1 << 22
    layout = Layout(
        [f"{name}_{block}_{dims}" for block in (0, 1) for name, dims in (("k", "BPD"), ("v", "BPD"), ("r", "BRD"))]
    )
    rng = np.random.default_rng(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = KeyValueCache(limit)
        for events in rng.integers(1, 201, size=3 * limit // 50_000):
            tensors = [np.ones((2 if place % 3 == 2 else events + 1, 32), np.float32) for place in range(6)]
            cache.put(
                StateCache.key(rng.integers(1_000_000, size=events)), KeptHistory(layout, int(events), tensors, 200)
            )
        del tensors
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.9 * limit < cache.held_bytes <= limit
    assert 0.9 * cache.held_bytes < taken < 1.1 * cache.held_bytes
