"""Servers that hang: calls end in time, and a server that fails for a while is not called."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.breaker import FAILURES, PROBE_SECONDS, Breaker, BreakerOpen
from steersman_service.sessions.functions import DeadlineTooNear
from steersman_service.sessions.patience import DEADLINE
from steersman_service.sessions.pipeline import Durability
from steersman_service.sessions.reasons import reason_of
from steersman_service.sessions.store import SessionStore
from steersman_service.telemetry.metrics import Metrics
from tests.stores.nodes import Node, standalone, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with standalone(tmp_path_factory.mktemp("server")) as started:
        yield started


def connect(server: Node, timeout_seconds: float) -> SessionStore:
    url = f"redis://{server.address}"
    return SessionStore(url, max_events=9, ttl_seconds=100.0, timeout_seconds=timeout_seconds, metrics=Metrics())


async def cause(store: SessionStore) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await store.get("s")
    assert caught.value.__cause__
    return reason_of(caught.value.__cause__)


def test_it_opens_after_failures_that_last_and_closes_with_an_answer() -> None:
    now = [0.0]
    breaker = Breaker(1.0, lambda: now[0])
    for _ in range(10 * FAILURES):  # all within the time that a restart takes
        breaker.failed()
    assert not breaker.is_open
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed()
        now[0] += 1.0
    assert not breaker.is_open
    breaker.failed()
    assert breaker.is_open
    assert not breaker.admits()
    now[0] += PROBE_SECONDS
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.failed()
    assert not breaker.admits()
    now[0] += PROBE_SECONDS
    assert breaker.admits()
    breaker.succeeded()
    assert not breaker.is_open


async def test_a_server_that_hangs_is_not_called_until_it_answers(server: Node) -> None:
    store = connect(server, 0.1)
    await store.append("s", [("e", "i")])
    server.pause()
    try:
        reasons = [await cause(store) for _ in range(FAILURES + 2)]
    finally:
        server.resume()
    assert reasons[:FAILURES] == ["TIMEOUT"] * FAILURES
    assert reasons[FAILURES:] == ["BREAKER_OPEN"] * 2
    # The health probe goes through, and its answer closes it.
    assert await store.usable()
    assert await store.get("s")
    await store.close()


async def test_calls_end_with_the_deadline_of_their_request(server: Node) -> None:
    """Those of other requests go on, on the same connections."""
    store = connect(server, 20.0)
    await store.append("s", [("e", "i")])
    server.pause()
    try:
        DEADLINE.set(time.monotonic() + 0.05)
        hurried = [asyncio.create_task(store.get("s")) for _ in range(20)]
        DEADLINE.set(time.monotonic() - 1.0)
        assert await cause(store) == "DEADLINE"
        DEADLINE.set(float("inf"))
        patient = [asyncio.create_task(store.get("s")) for _ in range(20)]
        found = await asyncio.gather(*hurried, return_exceptions=True)
        assert all(isinstance(each, StoreUnavailable) for each in found)
        assert all(isinstance(each.__cause__, DeadlineTooNear) for each in found if isinstance(each, Exception))
    finally:
        server.resume()
    assert all(await asyncio.gather(*patient))
    clients = len(server.redis.client_list())
    assert all(await asyncio.gather(*(store.get("s") for _ in range(20))))
    assert len(server.redis.client_list()) == clients
    await store.close()


def test_an_open_breaker_is_a_reason() -> None:
    assert reason_of(BreakerOpen()) == "BREAKER_OPEN"


async def test_without_as_many_replicas_as_are_waited_for_nothing_is_acknowledged(server: Node, tmp_path: Path) -> None:
    store = SessionStore(
        f"redis://{server.address}",
        max_events=9,
        ttl_seconds=100.0,
        timeout_seconds=20.0,
        metrics=Metrics(),
        durability=Durability(1, 60),
    )

    async def refused(call: object) -> None:
        with pytest.raises(StoreUnavailable) as caught:
            await call  # type: ignore[misc]
        assert reason_of(caught.value.__cause__ or caught.value) == "NOT_REPLICATED"

    await refused(store.append("w", [("e", "i")]))
    found = await store.get("w")
    assert found
    assert found.total_events == 1  # it was made
    with standalone(tmp_path, replicaof=f"127.0.0.1 {server.port}") as replica:
        until(lambda: replica.redis.info("replication")["master_link_status"] == "up", "the replica does not follow")
        repeated = await asyncio.gather(*(store.append("w", [("e", "i")]) for _ in range(4)))
        assert {(each.appended, each.total_events) for each in repeated} == {(0, 1)}
        replica.pause()
        try:
            await refused(store.append("w", [("e2", "i")]))
            # On whichever connection it is repeated: the replica does not have it.
            for _ in range(4):
                await refused(store.append("w", [("e2", "i")]))
                await refused(store.visit("w", [("e2", "i")]))
                await refused(store.set_controls("w", []))
            await refused(store.delete("w"))
            await refused(store.delete("w"))
            assert await store.get("w") is None
        finally:
            replica.resume()
        assert not await store.delete("w")
        assert replica.redis.keys("*{w}*") == []
    await store.close()
