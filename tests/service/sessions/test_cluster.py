"""Sessions in a real cluster: three primaries and three replicas."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from redis.crc import key_slot

from steersman.v1.scenario_service_pb2 import Scenario
from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.events import Kinds
from steersman_service.sessions.labels import LabelStore
from steersman_service.sessions.scenarios import ScenarioStore
from steersman_service.sessions.store import SessionStore
from steersman_service.telemetry.metrics import Metrics
from tests.stores.cluster import Cluster, cluster

SESSIONS = [f"s{number}" for number in range(24)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), node_timeout_ms=500) as started:
        yield started


def connect(servers: Cluster, timeout_seconds: float = 20.0, max_exposures: int = 0) -> SessionStore:
    return SessionStore(
        servers.url,
        max_events=1000,
        ttl_seconds=1000.0,
        timeout_seconds=timeout_seconds,
        metrics=Metrics(),
        max_exposures=max_exposures,
    )


@pytest.fixture
async def store(servers: Cluster) -> AsyncIterator[SessionStore]:
    connected = connect(servers, max_exposures=10)
    yield connected
    await connected.close()


class Load:
    """Appends to all sessions, one event after the other, each until it is acknowledged."""

    def __init__(self, store: SessionStore, run: str) -> None:
        self._store, self._run = store, run
        self.sent = dict.fromkeys(SESSIONS, 0)
        self.failures = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        workers = [asyncio.create_task(self._append(session, stop)) for session in SESSIONS]
        try:
            yield
            await asyncio.sleep(0.2)
        finally:
            stop.set()
            await asyncio.gather(*workers)

    async def _append(self, session: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            number = self.sent[session]
            event = (f"{self._run}-{number}", f"{self._run}-{number}")
            while True:
                try:
                    await self._store.append(session, [event])
                    break
                except StoreUnavailable:
                    self.failures += 1
                    await asyncio.sleep(0.02)
            self.sent[session] += 1

    async def assert_kept(self) -> None:
        """Every acknowledged event is there once, in the order in which they were sent."""
        for session, sent in self.sent.items():
            assert sent, session
            found = await self._store.get(session)
            assert found
            own = [item_id for item_id in found.item_ids if item_id.startswith(f"{self._run}-")]
            assert own == [f"{self._run}-{number}" for number in range(max(0, sent - 1000), sent)][-len(own) :]
            assert len(own) == min(sent, len(found.item_ids))


async def test_all_that_is_kept_finds_its_primary(servers: Cluster, store: SessionStore) -> None:
    primaries = servers.primaries()
    assert await store.usable()
    assert len({servers.primary_of(f"steersman:{{{session}}}:meta").port for session in SESSIONS}) == 3
    for round_number in range(2):
        shown = Kinds("s", [0])
        await asyncio.gather(*(store.append(s, [(f"e{round_number}", "i")]) for s in SESSIONS))
        await asyncio.gather(*(store.append(s, [(f"x{round_number}", "i")], shown) for s in SESSIONS))
        found = await asyncio.gather(*(store.visit(s, []) for s in SESSIONS))
        assert [each.total_events for each in found if each] == [round_number + 1] * len(SESSIONS)
        name = f"scenario{round_number}"
        await ScenarioStore(store).put(Scenario(name=name), "me")
        assert name in await ScenarioStore(store).names()
        assert await LabelStore(store).read("") is not None
        # Functions are sent again, to each primary.
        for primary in primaries:
            primary.redis.function_flush()
            primary.redis.script_flush()
    assert servers.primary_of("steersman:exposure").redis.xlen("steersman:exposure")
    assert [await store.delete(session) for session in SESSIONS] == [True] * len(SESSIONS)


async def test_slots_move_under_load(servers: Cluster, store: SessionStore) -> None:
    load = Load(store, "moving")
    async with load.running():
        await asyncio.sleep(0.1)
        for session in SESSIONS[:4]:
            key = f"steersman:{{{session}}}:meta"
            slot, source = key_slot(key.encode()), servers.primary_of(key)
            target = next(node for node in servers.primaries() if node is not source)
            # Some of its keys are here and some are there: TRYAGAIN until the rest has moved.
            await asyncio.to_thread(servers.move_slot, slot, target, stop_half_way=True)
            await asyncio.sleep(0.05)
            await asyncio.to_thread(servers.move_slot, slot, target)
    assert not load.failures
    await load.assert_kept()


async def test_primaries_are_killed_and_paused_under_load(servers: Cluster) -> None:
    store = connect(servers, timeout_seconds=0.5)
    load = Load(store, f"killing{random.random()}")
    async with load.running():
        await asyncio.sleep(0.1)
        killed = servers.primaries()[0]
        await asyncio.to_thread(servers.kill_and_fail_over, killed)
    assert load.failures
    # What came within the replication lag of a kill may be gone: only what a replica has is safe. Here nothing else runs.
    killed.start()
    await asyncio.to_thread(servers.healthy)
    async with load.running():
        paused = servers.primaries()[1]
        paused.pause()
        try:
            await asyncio.sleep(1.5)
        finally:
            paused.resume()
    await asyncio.to_thread(servers.healthy)
    assert await store.usable()
    with suppress(StoreUnavailable):
        await store.get(SESSIONS[0])
    await store.close()
