"""The releases that a process holds. The rest: tests/e2e/test_serve_swaps.py."""

import asyncio
import gc
import weakref
from contextlib import AsyncExitStack
from pathlib import Path

from pydantic import SecretStr

from steersman_service.api.handlers import EngineHandle
from steersman_service.api.holding import Holding
from steersman_service.api.releases import OneRelease
from steersman_service.app import shared_by_releases
from steersman_service.processes.front_end import opened_backend
from steersman_service.telemetry.metrics import Metrics
from tests.serving import settings_for


async def test_what_is_let_go_is_freed_without_a_collection_of_garbage(bundle_dir: Path, tmp_path: Path) -> None:
    """What is served is frozen: no collection looks at it."""
    settings = settings_for(tmp_path, bundle_dir, redis_url=SecretStr("redis://127.0.0.1:9/0"))
    metrics, lost = Metrics(collected=True), asyncio.Event()

    async def opened(stack: AsyncExitStack) -> EngineHandle:
        return await opened_backend(settings, [], metrics, lost, stack, beside=True)

    async with shared_by_releases(settings, metrics, OneRelease("a", "b")) as shared:
        holding = Holding(shared)
        await holding.load(1, opened)
        holding.route(1)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            stable = holding.channels.stable
            gone = [
                weakref.ref(each)
                for each in (stable, stable.release, stable.release.bundle, stable.release.catalogue, stable.engines)
            ]
            del stable
            await holding.load(2, opened)
            holding.route(2)
            await holding.let_go(1, 1.0)
            # What was cancelled ends.
            await asyncio.sleep(0.1)
            assert [each() for each in gone] == [None] * len(gone)
        finally:
            gc.enable()
            gc.unfreeze()
        await holding.close()
