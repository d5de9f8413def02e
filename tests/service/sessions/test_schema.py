"""Sessions that servers of other versions wrote are read, migrated at the next change, or refused and left alone."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.events import Kinds
from steersman_service.sessions.reasons import reason_of
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.metrics import Metrics

SCHEMA = 2
PARTS = ("meta", "items", "ids", "controls", "otherids", "refused")


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey.start(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def redis(valkey: EmbeddedValkey) -> Iterator[Any]:
    with Redis.from_url(valkey.url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
async def store(valkey: EmbeddedValkey) -> AsyncIterator[SessionStore]:
    store = SessionStore(valkey.url, max_events=9, ttl_seconds=100.0, timeout_seconds=20.0, metrics=Metrics())
    yield store
    await store.close()


def write_old(redis: Any) -> None:
    """As the first version did, which knew neither schemas nor other kinds, and kept a hidden state; with what its deletions left."""
    redis.hset("steersman:{s}:meta", mapping={"version": 2, "total": 2, "mark": "m", "state": "hidden"})
    redis.rpush("steersman:{s}:items", "a", "b")
    redis.zadd("steersman:{s}:ids", {"e1": 1, "e2": 2})
    redis.zadd("steersman:{s}:otherids", {"x": 1})
    redis.zadd("steersman:{s}:refused", {"hgone": 1})


def dump(redis: Any) -> list[bytes | None]:
    return [redis.execute_command("DUMP", f"steersman:{{s}}:{part}", NEVER_DECODE=True) for part in PARTS]


@pytest.mark.parametrize("change", ["append", "visit", "controls"])
async def test_an_older_session_is_read_as_it_is_and_migrated_by_the_next_change(
    store: SessionStore, redis: Any, change: str
) -> None:
    write_old(redis)
    before = dump(redis)
    found = await store.get("s")
    assert found
    assert (found.version, found.item_ids, found.refused) == (2, ["a", "b"], [])
    assert dump(redis) == before
    if change == "append":
        assert (await store.append("s", [("e2", "b"), ("e3", "c")])).total_events == 3
    elif change == "visit":
        assert await store.visit("s", [("e3", "c")])
    else:
        assert await store.set_controls("s", [b"control"]) == 3
    assert redis.hget("steersman:{s}:meta", "schema") == str(SCHEMA)
    assert redis.hget("steersman:{s}:meta", "state") is None
    assert redis.exists("steersman:{s}:otherids", "steersman:{s}:refused") == 0
    await store.append("s", [("y", "b")], Kinds("h", [0]))
    found = await store.get("s")
    assert found
    assert (found.item_ids, found.refused) == (["a", "b", "c"] if change != "controls" else ["a", "b"], ["hb"])


async def test_a_session_of_the_next_schema_is_read_and_changed_and_says_so(store: SessionStore, redis: Any) -> None:
    await store.append("s", [("e1", "a")])
    redis.hset("steersman:{s}:meta", mapping={"schema": SCHEMA + 1, "more": "kept"})
    assert await store.get("s")
    assert await store.append("s", [("e1", "a")])
    assert redis.hget("steersman:{s}:meta", "schema") == str(SCHEMA + 1)
    await store.append("s", [("e2", "b")])
    assert redis.hmget("steersman:{s}:meta", "schema", "more") == [str(SCHEMA), "kept"]


async def test_a_session_of_a_later_schema_is_refused_and_left_alone(store: SessionStore, redis: Any) -> None:
    await store.append("s", [("e1", "a")])
    redis.hset("steersman:{s}:meta", "schema", SCHEMA + 2)
    before = dump(redis)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.get("s"),
        lambda: store.append("s", [("e2", "b")]),
        lambda: store.visit("s", [("e2", "b")]),
        lambda: store.set_controls("s", []),
        lambda: store.delete("s"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable) as caught:
            await call()
        assert reason_of(caught.value.__cause__ or caught.value) == "NEWERSCHEMA"
    assert dump(redis) == before
    assert await store.append("other", [("e", "i")])
