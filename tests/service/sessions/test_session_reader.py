"""Reading sessions past what is remembered of them, against a real Valkey."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman_service.bundle.items import Items
from steersman_service.sessions.reader import Session, SessionReader
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.metrics import Metrics

MAX_EVENTS = 6
CONTROL = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey.start(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


def connect(valkey: EmbeddedValkey, max_events: int = MAX_EVENTS) -> SessionStore:
    return SessionStore(valkey.url, max_events=max_events, ttl_seconds=1000.0, timeout_seconds=20.0, metrics=Metrics())


@pytest.fixture
async def store(valkey: EmbeddedValkey) -> AsyncIterator[SessionStore]:
    store = connect(valkey)
    yield store
    await store.close()


class Replica:
    """A reader that tells whether it had to be told what is in a session."""

    def __init__(self, store: SessionStore, items: Items, limit_bytes: int = 1 << 20) -> None:
        self.remembered: list[bool] = []
        self.reader = SessionReader(
            store,
            items,
            max_events=MAX_EVENTS,
            limit_bytes=limit_bytes,
            observe=self.remembered.append,
        )

    async def visit(self, session_id: str, *events: tuple[str, str]) -> Session | None:
        return await self.reader.visit(session_id, events)


def event(items: Items, number: int) -> tuple[str, str]:
    """Every seventh is of an item that the bundle does not know."""
    return f"event {number}", "nowhere" if number % 7 == 6 else items.ids[number % len(items)]


async def assert_as_stored(store: SessionStore, items: Items, session_id: str, found: Session | None) -> None:
    state = await store.get(session_id)
    assert (state is None) == (found is None)
    if state and found:
        assert (found.version, found.total_events) == (state.version, state.total_events)
        np.testing.assert_array_equal(found.places, items.places(state.item_ids))
        assert [control.SerializeToString() for control in found.controls] == [*state.controls]


OPERATIONS: st.SearchStrategy[tuple[str, int, list[int]]] = st.one_of(
    st.tuples(st.just("visit"), st.integers(0, 1), st.lists(st.integers(0, 20), max_size=8)),
    st.tuples(st.just("append"), st.just(0), st.lists(st.integers(0, 20), min_size=1, max_size=3)),
    st.tuples(st.just("controls"), st.just(0), st.lists(st.just(0), max_size=2)),
    st.tuples(st.just("delete"), st.just(0), st.just([])),
)


@given(st.lists(OPERATIONS, max_size=12))
@settings(deadline=None, max_examples=60)
def test_what_is_read_is_what_is_there_whoever_changes_it(
    valkey: EmbeddedValkey, items: Items, operations: list[tuple[str, int, list[int]]]
) -> None:
    async def run() -> None:
        store, session_id = connect(valkey), str(uuid4())
        replicas = [Replica(store, items), Replica(store, items)]
        for name, replica, numbers in operations:
            events = [event(items, number) for number in numbers]
            if name == "append":
                await store.append(session_id, events)
            elif name == "controls":
                await store.set_controls(session_id, [CONTROL.SerializeToString() for _ in numbers])
            elif name == "delete":
                await store.delete(session_id)
            else:
                found = await replicas[replica].visit(session_id, *events)
                await assert_as_stored(store, items, session_id, found)
        await store.close()

    asyncio.run(run())


async def test_a_session_that_grows_here_is_sent_once(store: SessionStore, items: Items) -> None:
    replica, session_id = Replica(store, items), str(uuid4())
    await store.append(session_id, [event(items, 0)])
    for number in range(20):
        found = await replica.visit(session_id, event(items, number))
        await assert_as_stored(store, items, session_id, found)
        await replica.visit(session_id)
    # The first event was there already.
    assert replica.remembered == [False, *[True] * 39]


async def test_a_session_that_was_made_anew_is_another_one(store: SessionStore, items: Items) -> None:
    """As after a failover to a copy that lacks the latest changes: the same version, and not the same content."""
    replica, session_id = Replica(store, items), str(uuid4())
    await replica.visit(session_id, event(items, 1))
    await store.delete(session_id)
    await store.append(session_id, [event(items, 2)])
    found = await replica.visit(session_id)
    assert found
    assert found.version == 1
    assert found.places.tolist() == [2]


async def test_a_session_of_an_older_version_of_the_server(
    store: SessionStore, items: Items, valkey: EmbeddedValkey
) -> None:
    """It changes sessions and leaves their marks alone, or makes them without."""
    replica, session_id = Replica(store, items), str(uuid4())
    meta = f"steersman:{{{session_id}}}:meta"
    with Redis.from_url(valkey.url) as redis:
        await replica.visit(session_id, event(items, 1))
        redis.rpush(f"steersman:{{{session_id}}}:items", items.ids[2])
        redis.hincrby(meta, "total", 1)
        redis.hincrby(meta, "version", 1)
        await assert_as_stored(store, items, session_id, await replica.visit(session_id))
        redis.hdel(meta, "mark")
        for _ in range(2):
            await assert_as_stored(store, items, session_id, await replica.visit(session_id))
    assert not any(replica.remembered)


async def test_memory_is_bounded_and_forgets_who_asked_longest_ago(store: SessionStore, items: Items) -> None:
    sessions = [str(uuid4()) for _ in range(3)]
    whole = Replica(store, items)
    for session_id in sessions:
        await whole.visit(session_id, *(event(items, number) for number in range(MAX_EVENTS)))
    replica = Replica(store, items, limit_bytes=whole.reader.held_bytes * 2 // 3)
    for session_id in (*sessions, sessions[2], sessions[1], sessions[0]):
        await replica.visit(session_id)
    assert replica.remembered == [False, False, False, True, True, False]
    assert replica.reader.held_bytes <= whole.reader.held_bytes * 2 // 3
    nothing = Replica(store, items, limit_bytes=0)
    for _ in range(2):
        await nothing.visit(sessions[0])
    assert nothing.remembered == [False, False]
    assert nothing.reader.held_bytes == 0


async def test_entries_take_no_more_than_is_counted(store: SessionStore, items: Items) -> None:
    many = Replica(store, items, limit_bytes=1 << 30)
    sessions = [str(uuid4()) for _ in range(400)]
    controls = [CONTROL.SerializeToString()] * 2
    for session_id in sessions:
        await store.append(session_id, [event(items, number) for number in range(MAX_EVENTS)])
        await store.set_controls(session_id, controls)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for session_id in sessions:
        await many.visit(session_id)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before <= many.reader.held_bytes
