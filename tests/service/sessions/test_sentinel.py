"""Sessions on a primary that Sentinels watch: it is found anew after a failover."""

import asyncio
from collections.abc import Iterator

import pytest
from redis.asyncio.sentinel import SentinelConnectionPool

from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.pipeline import NOT_WAITED, Durability
from steersman_service.sessions.reasons import reason_of
from steersman_service.sessions.store import SessionStore
from steersman_service.telemetry.metrics import Metrics
from tests.stores.sentinel import Watched, sentinels


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with sentinels(tmp_path_factory.mktemp("sentinels"), replicas=1) as started:
        yield started


def connect(url: str, timeout_seconds: float = 1.0, durability: Durability = NOT_WAITED) -> SessionStore:
    return SessionStore(
        url,
        max_events=99,
        ttl_seconds=100.0,
        timeout_seconds=timeout_seconds,
        metrics=Metrics(),
        durability=durability,
    )


async def test_the_primary_is_found_anew_after_a_failover(servers: Watched) -> None:
    # Without it, a primary that is stopped right after it has answered may not have sent on what it acknowledged.
    waits = connect(servers.url, durability=Durability(1, 900))
    for number in range(5):
        await waits.append("s", [(f"e{number}", f"i{number}")])
    await waits.close()
    store = connect(servers.url)
    assert await store.get("s")
    old = servers.primary()
    old.pause()
    try:
        servers.replaced(old)
        servers.primary().redis.function_flush()
        async with asyncio.timeout(30):
            while True:
                try:
                    result = await store.append("s", [("last", "last")])
                    break
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
    finally:
        old.resume()
    assert result.total_events == 6
    # The old primary is back, and may not know yet that it is a replica: nothing is written to it.
    await asyncio.gather(*(store.append("s", [(f"f{number}", "i")]) for number in range(20)))
    assert (await store.append("s", [("f0", "i")])).total_events == 26
    assert await store.usable()
    await store.close()


async def test_a_sentinel_that_hangs_does_not_keep_the_others_from_being_asked(servers: Watched) -> None:
    servers.sentinels[0].pause()
    store = connect(servers.url)
    try:
        await store.append("t", [("e", "i")])
    finally:
        servers.sentinels[0].resume()
    await store.close()


async def test_a_name_that_no_sentinel_knows_is_a_reason(servers: Watched) -> None:
    store = connect(servers.url.replace("/sessions", "/others"), 0.3)
    with pytest.raises(StoreUnavailable) as caught:
        await store.get("s")
    assert reason_of(caught.value.__cause__ or caught.value) == "NO_PRIMARY"
    await store.close()


async def test_it_ends_though_a_cancellation_is_taken_for_a_timeout(
    servers: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def deaf(*_: object) -> None:
        asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise TimeoutError from None

    store = connect(servers.url)
    monkeypatch.setattr(SentinelConnectionPool, "get_master_address", deaf)
    following = asyncio.create_task(store.usable())
    async with asyncio.timeout(60):
        await asked.wait()
        following.cancel()
        await store.close()
