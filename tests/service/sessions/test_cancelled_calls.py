"""Calls that are cancelled, connections that are lost, replies that are slow: each caller gets the reply to its own request."""

import asyncio
import random
from pathlib import Path

import pytest

from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.store import SessionStore
from steersman_service.telemetry.metrics import Metrics
from tests.stores.nodes import standalone

SESSIONS, CALLS = 12, 1500


@pytest.mark.parametrize("seed", [0, 1])
async def test_no_caller_gets_the_reply_of_another(tmp_path: Path, seed: int) -> None:
    random_ = random.Random(seed)
    with standalone(tmp_path) as server:
        url = f"redis://{server.address}"
        store = SessionStore(url, max_events=9, ttl_seconds=100.0, timeout_seconds=0.5, metrics=Metrics())
        for session in range(SESSIONS):
            await store.append(f"s{session}", [(f"e{session}", f"item{session}")])
        ended = {"answered": 0, "cancelled": 0, "unavailable": 0}

        async def read(session: int) -> None:
            try:
                found = await store.get(f"s{session}")
            except StoreUnavailable:
                ended["unavailable"] += 1
                return
            assert found
            assert list(found.item_ids) == [f"item{session}"]
            ended["answered"] += 1

        calls: list[asyncio.Task[None]] = []
        for number in range(CALLS):
            calls.append(asyncio.create_task(read(random_.randrange(SESSIONS))))
            if random_.random() < 0.3:
                random_.choice(calls[-8:]).cancel()
            if random_.random() < 0.1:
                await asyncio.sleep(random_.choice([0, 0, 0.001]))
            if number % 250 == 100:
                server.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            if number % 500 == 200:
                # All that is on its way is slow.
                server.pause()
                await asyncio.sleep(0.02)
                server.resume()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, asyncio.CancelledError):
                ended["cancelled"] += 1
            elif outcome is not None:
                raise outcome
        assert ended["answered"] > CALLS / 4
        assert ended["cancelled"] > CALLS / 20
        await store.close()
