"""Events that are disliked, hidden or shown, in a real Valkey and through the cache of sessions."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from steersman.v1.session_service_pb2 import (
    EVENT_KIND_CONSUMED,
    EVENT_KIND_DISLIKED,
    EVENT_KIND_HIDDEN,
    EVENT_KIND_SHOWN,
    Event,
)
from steersman_service.bundle.items import Items
from steersman_service.sessions import store as store_module
from steersman_service.sessions.events import CONSUMED, DISLIKED, HIDDEN, LETTERS, SHOWN, Kinds, kinds_of
from steersman_service.sessions.reader import Session, SessionReader
from steersman_service.sessions.store import EXPOSURES, AppendResult, SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics

MAX_EVENTS, MAX_REFUSED, REMEMBERED = 4, 3, 8
OLD_PARTS = ("meta", "items", "ids", "controls")


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_logs("critical", "json")
    monkeypatch.setattr(store_module, "MAX_REFUSED", MAX_REFUSED)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey.start(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def redis(valkey: EmbeddedValkey) -> Iterator[Any]:
    with Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


def connect(valkey: EmbeddedValkey, max_exposures: int = 0) -> SessionStore:
    return SessionStore(
        valkey.url,
        max_events=MAX_EVENTS,
        ttl_seconds=1000.0,
        timeout_seconds=20.0,
        metrics=Metrics(),
        max_exposures=max_exposures,
    )


@pytest.fixture
async def store(valkey: EmbeddedValkey) -> AsyncIterator[SessionStore]:
    store = connect(valkey)
    yield store
    await store.close()


Said = tuple[str, str, str]
"""Kind, event id, item id."""


def events(*said: Said) -> tuple[list[tuple[str, str]], Kinds]:
    return [(event, item) for _, event, item in said], Kinds("".join(kind for kind, *_ in said), [0] * len(said))


async def told(store: SessionStore, session_id: str) -> tuple[list[str], list[str], list[str], int]:
    """Items, disliked ones, hidden ones, total."""
    state = await store.get(session_id)
    assert state
    return [*state.item_ids], state.refused_as(DISLIKED), state.refused_as(HIDDEN), state.total_events


def test_kinds_of_messages() -> None:
    consumed = [Event(event_id="1", item_id="a"), Event(event_id="2", item_id="b", kind=EVENT_KIND_CONSUMED)]
    assert kinds_of(consumed) is None
    assert kinds_of([]) is None
    shown = Event(event_id="3", item_id="c", kind=EVENT_KIND_SHOWN)
    shown.time.FromMilliseconds(1234)
    others = [Event(kind=EVENT_KIND_DISLIKED), Event(kind=EVENT_KIND_HIDDEN)]
    assert kinds_of([*consumed, shown, *others]) == Kinds("ccsdh", [0, 0, 1234, 0, 0])


async def test_what_is_refused_is_kept_beside_the_history_until_it_is_consumed(store: SessionStore) -> None:
    session = str(uuid4())
    said = events((CONSUMED, "1", "a"), (DISLIKED, "2", "b"), (HIDDEN, "3", "c"), (SHOWN, "4", "d"))
    assert await store.append(session, *said) == AppendResult(4, 0, version=1, total_events=1)
    assert await told(store, session) == (["a"], ["b"], ["c"], 1)
    await store.append(session, *events((HIDDEN, "5", "b")))
    assert await told(store, session) == (["a"], [], ["c", "b"], 1)
    await store.append(session, [("6", "c")])
    assert await told(store, session) == (["a", "c"], [], ["b"], 2)
    # An item that is in the history may be disliked afterwards: it happened all the same.
    await store.append(session, *events((CONSUMED, "7", "e"), (DISLIKED, "8", "e"), (DISLIKED, "9", "a")))
    assert await told(store, session) == (["a", "c", "e"], ["e", "a"], ["b"], 3)
    assert await store.delete(session)
    assert await store.get(session) is None


async def test_an_event_id_counts_once_whatever_its_kind(store: SessionStore) -> None:
    session = str(uuid4())
    for first, second in ((CONSUMED, DISLIKED), (SHOWN, CONSUMED), (HIDDEN, SHOWN), (DISLIKED, DISLIKED)):
        one, other = events((first, first + second, "a")), events((second, first + second, "b"))
        assert (await store.append(session, *one)).appended == 1
        assert (await store.append(session, *other)).appended == 0
    result = await store.append(session, *events((SHOWN, "x", "a"), (DISLIKED, "x", "a"), (CONSUMED, "x", "a")))
    assert (result.appended, result.duplicates) == (1, 2)


async def test_what_is_shown_does_not_push_out_the_ids_of_what_was_consumed(store: SessionStore) -> None:
    session = str(uuid4())
    await store.append(session, [("first", "a")])
    for number in range(3 * REMEMBERED):
        await store.append(session, *events((SHOWN, f"shown {number}", "b")))
    assert (await store.append(session, [("first", "a")])).appended == 0


async def test_what_a_session_refuses_is_bounded_and_the_newest_is_kept(store: SessionStore, redis: Any) -> None:
    session = str(uuid4())
    for number in range(20):
        await store.append(session, *events((DISLIKED, f"{number}", f"item {number}")))
    assert (await told(store, session))[1] == ["item 17", "item 18", "item 19"]
    assert redis.zcard(f"steersman:{{{session}}}:refused") == MAX_REFUSED
    assert redis.zcard(f"steersman:{{{session}}}:otherids") == REMEMBERED


async def test_all_keys_live_equally_long(store: SessionStore, redis: Any) -> None:
    session = str(uuid4())
    await store.append(session, *events((CONSUMED, "1", "a"), (DISLIKED, "2", "b")))
    await store.set_controls(session, [b"a"])
    keys = redis.keys(f"steersman:{{{session}}}:*")
    assert len(keys) == 6
    for key in keys:
        redis.pexpire(key, 890_000)
    await store.visit(session, [])
    assert len({redis.pexpiretime(key) for key in keys}) == 1
    assert redis.pttl(keys[0]) > 990_000


async def test_a_session_of_the_version_before_is_read_and_carried_on(store: SessionStore, redis: Any) -> None:
    session = str(uuid4())
    meta, items, ids, controls = (f"steersman:{{{session}}}:{part}" for part in OLD_PARTS)
    redis.hset(meta, mapping={"version": 2, "total": 2, "mark": "m"})
    redis.rpush(items, "a", "b")
    redis.zadd(ids, {"1": 1, "2": 2})
    redis.rpush(controls, "c")
    assert await told(store, session) == (["a", "b"], [], [], 2)
    result = await store.append(session, *events((CONSUMED, "2", "b"), (DISLIKED, "3", "a"), (CONSUMED, "4", "c")))
    assert result == AppendResult(2, 1, version=3, total_events=3)
    # As the version before reads it.
    assert redis.hmget(meta, "version", "total") == ["3", "3"]
    assert redis.lrange(items, 0, -1) == ["a", "b", "c"]
    assert redis.zrange(ids, 0, -1) == ["1", "2", "4"]
    assert redis.lrange(controls, 0, -1) == ["c"]


async def test_what_a_deletion_by_the_version_before_leaves_means_nothing(store: SessionStore, redis: Any) -> None:
    session = str(uuid4())
    await store.append(session, *events((DISLIKED, "1", "a"), (CONSUMED, "2", "b")))
    redis.delete(*(f"steersman:{{{session}}}:{part}" for part in OLD_PARTS))
    assert not await store.delete(session)
    await store.append(session, *events((DISLIKED, "1", "a")))
    redis.delete(*(f"steersman:{{{session}}}:{part}" for part in OLD_PARTS))
    assert await store.get(session) is None
    await store.append(session, [("2", "b")])
    assert await told(store, session) == (["b"], [], [], 1)
    assert await store.append(session, *events((HIDDEN, "1", "c"))) == AppendResult(1, 0, 2, 1)
    assert await told(store, session) == (["b"], [], ["c"], 1)


async def test_new_shown_events_go_to_the_stream_without_their_session(valkey: EmbeddedValkey, redis: Any) -> None:
    store, session = connect(valkey, max_exposures=5), str(uuid4())
    redis.delete(EXPOSURES)
    said = [("1", "a"), ("2", "b"), ("3", "c")]
    kinds = Kinds(SHOWN + DISLIKED + SHOWN, [1234, 0, 0])
    await store.append(session, said, kinds)
    await store.visit(session, [*said, ("4", "d")], kinds=Kinds(kinds.letters + SHOWN, [0, 0, 0, -5]))
    first, second, third = (fields for _, fields in redis.xrange(EXPOSURES))
    assert first == {"item": "a", "time_ms": "1234"}
    assert second["item"] == "c"
    assert int(second["time_ms"]) > 1_000_000_000_000
    assert third == {"item": "d", "time_ms": "-5"}
    for number in range(3):
        await store.append(session, *events(*((SHOWN, f"more {number} {each}", "e") for each in range(100))))
    assert redis.xlen(EXPOSURES) < 200
    # Not to be written is no reason not to be acknowledged.
    redis.delete(EXPOSURES)
    redis.set(EXPOSURES, "something else")
    assert (await store.append(session, *events((SHOWN, "last", "e")))).appended == 1
    redis.delete(EXPOSURES)
    await store.close()


async def test_without_the_setting_there_is_no_stream(store: SessionStore, redis: Any) -> None:
    await store.append(str(uuid4()), *events((SHOWN, "1", "a")))
    assert not redis.exists(EXPOSURES)


class Model:
    """What a session keeps, in plain Python."""

    def __init__(self) -> None:
        self.history: list[str] = []
        self.refused: list[str] = []
        self.ids: dict[bool, list[str]] = {True: [], False: []}

    def append(self, said: list[Said]) -> None:
        for kind, event, item in said:
            if event in self.ids[True] or event in self.ids[False]:
                continue
            self.ids[kind == CONSUMED].append(event)
            if kind == CONSUMED:
                self.history.append(item)
            if kind != SHOWN:
                self.refused = [other for other in self.refused if other[1:] != item]
            if kind in (DISLIKED, HIDDEN):
                self.refused.append(kind + item)
        self.refused = self.refused[-MAX_REFUSED:]


SAID = st.lists(st.tuples(st.sampled_from(LETTERS), st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=5)
VISITS = st.lists(st.tuples(st.integers(0, 1), st.one_of(st.just([]), SAID), st.booleans()), max_size=8)


@given(VISITS)
@settings(deadline=None, max_examples=60)
def test_two_replicas_read_what_the_model_says(
    valkey: EmbeddedValkey, items: Items, visits: list[tuple[int, list[tuple[str, int, int]], bool]]
) -> None:
    async def run() -> None:
        # So many are remembered that none is forgotten: the model does not forget.
        store = SessionStore(
            valkey.url, max_events=40, ttl_seconds=1000.0, timeout_seconds=20.0, metrics=Metrics(collected=False)
        )
        replicas = [SessionReader(store, items, max_events=40, limit_bytes=1 << 20) for _ in range(2)]
        session_id, model = str(uuid4()), Model()
        for replica, drawn, plain in visits:
            said = [(CONSUMED if plain else kind, f"event {n}", items.ids[item]) for kind, n, item in drawn]
            model.append(said)
            pairs, kinds = events(*said)
            found = await replicas[replica].visit(session_id, pairs, None if plain or not pairs else kinds)
            assert_is(found, model, items)
        await store.close()

    asyncio.run(run())


def assert_is(found: Session | None, model: Model, items: Items) -> None:
    assert (found is None) == (not any(model.ids.values()))
    if found:
        np.testing.assert_array_equal(found.places, items.places(model.history))
        np.testing.assert_array_equal(found.refused, items.places(item[1:] for item in model.refused))
        assert found.total_events == len(model.history)


async def test_a_session_that_refuses_something_is_still_sent_once(store: SessionStore, items: Items) -> None:
    hits: list[bool] = []
    reader = SessionReader(store, items, max_events=MAX_EVENTS, limit_bytes=1 << 20, observe=hits.append)
    session = str(uuid4())
    await reader.visit(session, *events((DISLIKED, "0", items.ids[0]), (HIDDEN, "1", "nowhere")))
    for number in range(2, 6):
        found = await reader.visit(session, [(f"{number}", items.ids[number])])
        await reader.visit(session, *events((SHOWN, f"shown {number}", items.ids[9])))
    assert found
    assert found.refused.tolist() == [0]
    assert hits == [False, *[True] * 8]
