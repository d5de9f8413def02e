"""How much a tenant may keep."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from steersman_service.errors import StoreUnavailable, TooManySessionBytes, TooManySessions
from steersman_service.sessions.quotas import UNLIMITED, Limits
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.metrics import Metrics


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


def connect(valkey: EmbeddedValkey, limits: Limits, ttl_seconds: float = 100.0) -> SessionStore:
    return SessionStore(
        valkey.url, max_events=100, ttl_seconds=ttl_seconds, timeout_seconds=20.0, metrics=Metrics(), limits=limits
    )


async def test_a_tenant_keeps_as_many_sessions_as_it_may(valkey: EmbeddedValkey, redis: Any) -> None:
    store = connect(valkey, Limits(sessions=2))
    for session in ("shop/a", "shop/b", "other/a", "plain"):
        await store.append(session, [("e", "i")])
    for call in (
        store.append("shop/c", [("e", "i")]),
        store.visit("shop/c", [("e", "i")]),
        store.set_controls("shop/c", []),
    ):
        with pytest.raises(TooManySessions):
            await call
    assert await store.get("shop/c") is None
    assert redis.keys("*shop/c*") == []
    # Those that it has are read and changed, and others are not concerned.
    assert await store.visit("shop/a", [("e2", "i")])
    assert await store.visit("shop/c", []) is None
    await store.append("other/b", [("e", "i")])
    assert await store.delete("shop/b")
    await store.append("shop/c", [("e", "i")])
    await store.close()


async def test_expired_sessions_make_room(valkey: EmbeddedValkey, redis: Any) -> None:
    store = connect(valkey, Limits(sessions=1, bytes=1 << 20), ttl_seconds=0.05)
    await store.append("shop/a", [("e", "i")])
    await asyncio.sleep(0.2)
    await store.append("shop/b", [("e", "i")])
    await asyncio.sleep(0.2)
    assert redis.keys("*") == []
    await store.close()


async def test_a_tenants_sessions_take_as_much_memory_as_they_may(valkey: EmbeddedValkey, redis: Any) -> None:
    store = connect(valkey, Limits(bytes=8_000))

    async def fill() -> None:
        for number in range(1000):
            await store.append(f"shop/{number % 5}", [(f"event {number}", "item" * 10)])

    with pytest.raises(TooManySessionBytes):
        await fill()
    taken = sum(redis.memory_usage(key) for key in redis.keys("steersman:{shop/*"))
    assert 8_000 <= taken < 9_000
    assert int(redis.get("steersman:{/tenant/shop}:total")) == taken
    for number in range(5):
        assert await store.delete(f"shop/{number}")
    assert redis.keys("*") == []
    await store.append("shop/0", [("e", "i")])
    await store.close()


async def test_without_limits_nothing_is_counted(valkey: EmbeddedValkey, redis: Any) -> None:
    store = connect(valkey, UNLIMITED)
    await store.append("shop/a", [("e", "i")])
    assert redis.keys("*tenant*") == []
    await store.close()


async def test_a_store_that_is_away_admits_nothing(valkey: EmbeddedValkey, redis: Any) -> None:
    store = connect(valkey, Limits(sessions=9))
    redis.set("steersman:{/tenant/shop}:sessions", "something else")
    with pytest.raises(StoreUnavailable):
        await store.append("shop/a", [("e", "i")])
    await store.close()
