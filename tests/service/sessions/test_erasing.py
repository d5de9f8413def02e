"""An erased session leaves nothing: every key and value of the store is searched, its log after a rewrite, and the caches."""

import asyncio
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from redis import Redis

from steersman_service.bundle.items import Items
from steersman_service.engine.caches import IDLE_SECONDS, StateCache, history_key
from steersman_service.sessions import reader as reader_module
from steersman_service.sessions.events import Kinds
from steersman_service.sessions.quotas import Limits
from steersman_service.sessions.reader import SessionReader
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.metrics import Metrics
from tests.stores.nodes import until

# Texts that nothing else holds.
TRACES = ["qqsession", "qqtenant", "qqevent", "qqitem", "qqcontrol"]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey.start(tmp_path / "store")
    yield server
    server.stop()


def everything(redis: Any) -> bytes:
    """Names, contents and serialized forms of all keys."""
    read = {
        "string": redis.get,
        "hash": redis.hgetall,
        "list": lambda key: redis.lrange(key, 0, -1),
        "set": redis.smembers,
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "stream": redis.xrange,
    }
    keys = redis.keys("*")
    return repr([(key, read[redis.type(key).decode()](key)) for key in keys]).encode()


def found(data: bytes) -> list[str]:
    return [trace for trace in TRACES if trace.encode() in data]


async def test_an_erased_session_leaves_nothing_in_the_store(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    store = SessionStore(
        valkey.url,
        max_events=5,
        ttl_seconds=100.0,
        timeout_seconds=20.0,
        metrics=Metrics(),
        max_exposures=100,
        limits=Limits(9, 1 << 20),
    )
    key = "qqtenant/qqsession"
    events = [(f"qqevent{number}", f"qqitem{number}") for number in range(12)]
    await store.append(key, events)
    await store.append(key, [(f"qqevent-{kind}", f"qqitem-{kind}") for kind in "dh"], Kinds("dh", [0, 0]))
    await store.append(key, [("qqevent-s", "an item that was shown")], Kinds("s", [0]))
    await store.set_controls(key, [b"qqcontrol"])
    await store.append("other", [("e", "i")])
    with Redis.from_url(valkey.url) as redis:
        log = b"".join(path.read_bytes() for path in (tmp_path / "store" / "appendonlydir").iterdir())
        assert found(everything(redis)) == found(log) == TRACES
        assert await store.delete(key)
        assert found(everything(redis)) == []
        # The stream says what was shown, and to nobody.
        assert b"an item that was shown" in everything(redis)
        assert await store.get("other")
        valkey.rewrite()
        until(lambda: redis.info("persistence")["aof_last_bgrewrite_status"] == "ok", "no rewrite")
        until(lambda: not redis.info("persistence")["aof_rewrite_in_progress"], "the rewrite does not end")
        folder = tmp_path / "store" / "appendonlydir"
        until(lambda: found(b"".join(path.read_bytes() for path in folder.iterdir())) == [], "the log is not new")
        assert not await store.delete(key)
    await store.close()


async def test_front_ends_forget_what_they_do_not_read(valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "IDLE_SECONDS", 0.05)
    store = SessionStore(valkey.url, max_events=5, ttl_seconds=100.0, timeout_seconds=20.0, metrics=Metrics())
    items = Items(pa.table({"item_id": ["i"], "title": [""]}))
    reader = SessionReader(store, items, max_events=5, limit_bytes=1 << 20)
    for session in ("a", "b"):
        await reader.visit(session, [("e", "i")])
    assert reader.held_bytes
    await store.delete("a")  # by another process
    for _ in range(200):
        await asyncio.sleep(0.05)
        if not reader.held_bytes:
            break
    assert not reader.held_bytes
    assert await reader.visit("b", [])
    assert reader.held_bytes
    # Nothing keeps the reader of a bundle that is not served any more.
    gone = weakref.ref(reader)
    del reader
    assert gone() is None
    await store.close()


def test_engines_forget_histories_that_do_not_come_again() -> None:
    cache = StateCache(1 << 20)
    keys = [history_key(np.arange(length)) for length in range(4)]
    cache.age(0.0)
    for key in keys:
        cache.put(key, b"state")
    for time in (1.0, IDLE_SECONDS):
        cache.age(time)
        assert cache.get(keys[1])
        cache.put(keys[2], b"again")
    assert len(cache) == 4
    cache.age(2 * IDLE_SECONDS)
    assert [key in cache for key in keys] == [False, True, True, False]
    cache.age(3 * IDLE_SECONDS)
    assert (len(cache), cache.held_bytes) == (0, 0)
    # The mark is no entry, whatever makes room.
    small = StateCache(cache._size(keys[0], b"state") * 2)
    small.age(0.0)
    for key in keys:
        small.put(key, b"state")
    small.age(IDLE_SECONDS)
    assert len(small) >= 1
    small.age(2 * IDLE_SECONDS)
    assert len(small) == 0
