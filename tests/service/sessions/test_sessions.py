"""The session store, against a real Valkey."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.reasons import reason_of
from steersman_service.sessions.store import REMEMBERED_IDS_PER_EVENT, AppendResult, SessionStore, StoredSession
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.metrics import Metrics

MAX_EVENTS = 3
TTL_SECONDS = 1000.0
PARTS = ("meta", "items", "ids", "controls")
OTHER_LIBRARY = "#!lua name=steersman_0\nredis.register_function('steersman_0_append', function() return 1 end)"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey.start(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def redis(valkey: EmbeddedValkey) -> Iterator[Redis]:
    with Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


@contextmanager
def frozen(valkey: EmbeddedValkey) -> Iterator[None]:
    """The server takes connections and commands, and answers nothing."""
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey.pid, signal.SIGCONT)


def connect(url: str, timeout_seconds: float = 20.0) -> SessionStore:
    return SessionStore(
        url, max_events=MAX_EVENTS, ttl_seconds=TTL_SECONDS, timeout_seconds=timeout_seconds, metrics=Metrics()
    )


def contents(session: StoredSession | None) -> tuple[Any, ...] | None:
    """Version, total, items and controls."""
    return session and (session.version, session.total_events, session.item_ids, session.controls)


def events(*ids: int) -> list[tuple[str, str]]:
    return [(f"event {id}", f"Ítem {id}") for id in ids]


async def test_a_session_from_first_event_to_last(valkey: EmbeddedValkey) -> None:
    store = connect(valkey.url)
    assert await store.get("life") is None
    assert await store.append("life", events(1, 2)) == AppendResult(2, 0, version=1, total_events=2)
    assert await store.set_controls("life", [b"\x00\xff", b""]) == 2
    assert await store.append("life", events(2, 3, 4, 4)) == AppendResult(2, 2, version=3, total_events=4)
    items = ["Ítem 2", "Ítem 3", "Ítem 4"]
    assert contents(await store.get("life")) == (3, 4, items, [b"\x00\xff", b""])
    assert await store.delete("life")
    assert not await store.delete("life")
    assert await store.get("life") is None
    await store.close()


async def test_what_changes_nothing_leaves_the_version_alone(valkey: EmbeddedValkey) -> None:
    store = connect(valkey.url)
    await store.append("same", events(1))
    assert await store.append("same", events(1)) == AppendResult(0, 1, version=1, total_events=1)
    assert await store.set_controls("same", []) == 1
    assert await store.set_controls("same", [b"a"]) == 2
    assert await store.set_controls("same", [b"a"]) == 2
    assert await store.set_controls("same", [b"a", b"b"]) == 3
    assert await store.set_controls("same", []) == 4
    assert await store.set_controls("new", []) == 1
    await store.close()


def changes(redis: Redis) -> int:
    return int(redis.info("persistence")["rdb_changes_since_last_save"])


UNCHANGING = pytest.mark.parametrize(
    "touch",
    [
        lambda store: store.get("ttl"),
        lambda store: store.visit("ttl", []),
        lambda store: store.append("ttl", events(1)),
        lambda store: store.set_controls("ttl", [b"a"]),
    ],
    ids=["get", "visit", "repeated append", "repeated set_controls"],
)


@UNCHANGING
async def test_every_operation_keeps_the_whole_session_alive(
    valkey: EmbeddedValkey, redis: Redis, touch: Callable[[SessionStore], Any]
) -> None:
    store = connect(valkey.url)
    keys = [f"steersman:{{ttl}}:{part}" for part in PARTS]
    await store.append("ttl", events(1))
    await store.set_controls("ttl", [b"a"])
    assert sorted(keys) == sorted(redis.keys("steersman:{ttl}:*"))
    # More than a tenth is gone, or the time to live was longer.
    for seconds in (0.89 * TTL_SECONDS, 2 * TTL_SECONDS):
        for key in keys:
            redis.pexpire(key, int(1000 * seconds))
        await touch(store)
        assert len({redis.pexpiretime(key) for key in keys}) == 1
        assert 0.99 * TTL_SECONDS < redis.ttl(keys[0]) <= TTL_SECONDS
    await store.close()


@UNCHANGING
async def test_what_changes_nothing_writes_nothing_until_a_tenth_of_the_time_to_live_is_gone(
    valkey: EmbeddedValkey, redis: Redis, touch: Callable[[SessionStore], Any]
) -> None:
    store = connect(valkey.url)
    await store.append("ttl", events(1))
    await store.set_controls("ttl", [b"a"])
    for part in PARTS:
        redis.pexpire(f"steersman:{{ttl}}:{part}", int(910 * TTL_SECONDS))
    before = changes(redis)
    for _ in range(3):
        await touch(store)
    assert changes(redis) == before
    session = await store.get("ttl")
    assert session
    assert 0.9 * TTL_SECONDS < session.ttl_seconds <= 0.91 * TTL_SECONDS
    await store.close()


async def test_a_new_key_lives_as_long_as_the_session(valkey: EmbeddedValkey, redis: Redis) -> None:
    store = connect(valkey.url)
    await store.set_controls("grown", [])
    await store.append("grown", events(1))
    await store.set_controls("grown", [b"a"])
    assert len({redis.pexpiretime(key) for key in ("steersman:{grown}:" + part for part in PARTS)}) == 1
    await store.close()


async def test_a_full_store_can_be_read_and_emptied(valkey: EmbeddedValkey, redis: Redis) -> None:
    store = connect(valkey.url)
    await store.append("full", events(1))
    redis.config_set("maxmemory", "1")
    try:
        assert contents(await store.get("full")) == contents(await store.visit("full", []))
        for call in (store.append("full", events(2)), store.visit("full", events(2)), store.set_controls("full", [])):
            with pytest.raises(StoreUnavailable):
                await call
        assert await store.delete("full")
    finally:
        redis.config_set("maxmemory", "0")
    await store.close()


async def test_a_replica_neither_serves_nor_denies_a_session(
    valkey: EmbeddedValkey, redis: Redis, tmp_path: Path
) -> None:
    """It has the functions, and may lag: what it lacks may exist."""
    primary, store = connect(valkey.url), EmbeddedValkey.start(tmp_path)
    replica = connect(store.url)
    await primary.append("replicated", events(1))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    redis.config_set("port", str(port))
    try:
        with Redis.from_url(store.url, decode_responses=True) as client:
            client.replicaof("127.0.0.1", str(port))
            while not client.exists("steersman:{replicated}:meta"):
                time.sleep(0.01)  # noqa: ASYNC251
            assert {library[1] for library in client.function_list()} == {
                library[1] for library in redis.function_list()
            }
        for session_id in ("replicated", "never"):
            for call in (replica.get(session_id), replica.visit(session_id, []), replica.delete(session_id)):
                with pytest.raises(StoreUnavailable) as caught:
                    await call
                assert reason_of(caught.value) == "READONLY"
        assert not await replica.usable()
        assert await primary.get("replicated")
    finally:
        redis.config_set("port", "0")
        await asyncio.gather(primary.close(), replica.close())
        store.stop()


async def test_an_append_of_any_size_may_be_repeated(valkey: EmbeddedValkey) -> None:
    store = connect(valkey.url)
    many = events(*range(10_000))
    assert (await store.append("many", many)).appended == 10_000
    assert await store.append("many", many) == AppendResult(0, 10_000, version=1, total_events=10_000)
    await store.close()


async def test_the_memory_of_event_ids_is_bounded(valkey: EmbeddedValkey, redis: Redis) -> None:
    store = connect(valkey.url)
    for n in range(30):
        await store.append("memory", events(n))
    assert redis.zcard("steersman:{memory}:ids") == REMEMBERED_IDS_PER_EVENT * MAX_EVENTS
    assert redis.llen("steersman:{memory}:items") == MAX_EVENTS
    await store.close()


async def test_concurrent_appends_with_repeats_count_each_event_once(valkey: EmbeddedValkey) -> None:
    store = connect(valkey.url)
    outcomes = await asyncio.gather(*(store.append("crowd", events(n % 6)) for n in range(200)))
    assert sum(outcome.appended for outcome in outcomes) == 6
    assert sorted(outcome.version for outcome in outcomes if outcome.appended) == [1, 2, 3, 4, 5, 6]
    await store.close()


class Model:
    """What a session is, in plain Python."""

    def __init__(self) -> None:
        self.version, self.log, self.remembered = 0, list[str](), list[str]()
        self.controls: list[bytes] = []

    def append(self, batch: list[tuple[str, str]]) -> AppendResult:
        before = len(self.log)
        for event, item in batch:
            if event not in self.remembered:
                self.remembered.append(event)
                self.log.append(item)
        appended = len(self.log) - before
        self.version += appended > 0
        self.remembered = (
            self.remembered[-max(REMEMBERED_IDS_PER_EVENT * MAX_EVENTS, len(batch)) :]
            if appended
            else (self.remembered)
        )
        return AppendResult(appended, len(batch) - appended, self.version, len(self.log))

    def set_controls(self, controls: list[bytes]) -> int:
        self.version += controls != self.controls or self.version == 0
        self.controls = controls
        return self.version

    def get(self) -> tuple[Any, ...] | None:
        return (self.version, len(self.log), self.log[-MAX_EVENTS:], self.controls) if self.version else None


APPENDS = st.lists(st.integers(0, 12), min_size=1, max_size=8).map(lambda ids: ("append", events(*ids)))
CONTROLS = st.lists(st.binary(max_size=3), max_size=2).map(lambda controls: ("set_controls", controls))
STEPS = st.lists(st.one_of(APPENDS, APPENDS, CONTROLS, st.just(("delete", None))), max_size=12)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_a_session_is_what_the_model_says(valkey: EmbeddedValkey, steps: list[tuple[str, Any]]) -> None:
    async def replay() -> None:
        store, session, model = connect(valkey.url), uuid4().hex, Model()
        for operation, argument in steps:
            if operation == "delete":
                assert await store.delete(session) == (model.version > 0)
                model = Model()
            else:
                assert await getattr(store, operation)(session, argument) == getattr(model, operation)(argument)
            assert contents(await store.get(session)) == model.get()
        await store.close()

    asyncio.run(replay())


async def cancel_unanswered(valkey: EmbeddedValkey, call: Coroutine[Any, Any, Any]) -> None:
    with frozen(valkey):
        task = asyncio.create_task(call)
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancelled_call_never_hands_its_reply_to_the_next(valkey: EmbeddedValkey) -> None:
    store = connect(valkey.url)
    for name in ("one", "two"):
        await store.append(name, [("event", name)])
    for _ in range(20):
        await cancel_unanswered(valkey, store.get("one"))
        state = await store.get("two")
        assert state
        assert state.item_ids == ["two"]
    await store.close()


async def test_a_cancelled_append_may_be_repeated(valkey: EmbeddedValkey) -> None:
    store = connect(valkey.url)
    await cancel_unanswered(valkey, store.append("left", events(1)))
    outcome = await store.append("left", events(1))
    assert (outcome.version, outcome.total_events) == (1, 1)
    await store.close()


async def test_a_store_that_hangs_is_unavailable_in_time(valkey: EmbeddedValkey) -> None:
    store = connect(valkey.url, timeout_seconds=0.3)
    await store.append("hang", events(1))
    with frozen(valkey):
        async with asyncio.timeout(60):  # the store's own limit ends it long before
            with pytest.raises(StoreUnavailable):
                await store.get("hang")
            assert not await store.usable()
    assert await store.usable()
    assert await store.get("hang")
    await store.close()


async def test_functions_that_the_server_lacks_are_sent_again(valkey: EmbeddedValkey, redis: Redis) -> None:
    store = connect(valkey.url)
    await store.append("function", events(1))
    redis.function_load(OTHER_LIBRARY)  # of a server of another version
    for _ in range(3):
        redis.function_flush()
        redis.function_load(OTHER_LIBRARY)
        results = await asyncio.gather(*(store.append("function", events(n)) for n in range(1, 6)))
        assert results[-1].total_events == 5
        assert len(redis.function_list()) == 2
    await store.close()


async def test_a_connection_that_was_closed_meanwhile_is_replaced(valkey: EmbeddedValkey, redis: Redis) -> None:
    store = connect(valkey.url)
    await store.append("stale", events(1))
    for _ in range(3):
        redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
        found = await asyncio.gather(*(store.get("stale") for _ in range(4)))
        assert [state.total_events for state in found if state] == [1] * 4
    await store.close()


async def test_a_store_that_is_down_is_unavailable_and_comes_back_with_everything(tmp_path: Path) -> None:
    server = EmbeddedValkey.start(tmp_path)
    store = connect(server.url)
    await asyncio.gather(*(store.append(f"{n}", events(1, 2)) for n in range(20)))
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    for call in (store.get("0"), store.append("0", events(3)), store.set_controls("0", []), store.delete("0")):
        with pytest.raises(StoreUnavailable):
            await call
    assert not await store.usable()
    server = EmbeddedValkey.start(tmp_path)
    try:
        states = await asyncio.gather(*(store.get(f"{n}") for n in range(20)))
        assert [state.total_events for state in states if state] == [2] * 20
    finally:
        await store.close()
        server.stop()
