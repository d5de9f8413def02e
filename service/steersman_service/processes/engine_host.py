"""An engine host: one engine, its queue, and the socket that front ends call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from steersman_service.engine.engine import Engine
from steersman_service.engine.loading import load_engine
from steersman_service.errors import EngineFailed
from steersman_service.processes.link import Link, Ready, Start, run_child, settle_memory
from steersman_service.scheduling.batcher import Batcher
from steersman_service.scheduling.events import first_of
from steersman_service.scheduling.host import EngineHost
from steersman_service.scheduling.stall import TICK_SECONDS, StallClock, cpu_of_thread, watched_loop
from steersman_service.scheduling.wire import Hello
from steersman_service.settings import Settings
from steersman_service.telemetry.metrics import Metrics

# After `drain`, for front ends to disconnect, beyond the time that calls in flight have.
END_SECONDS = 5.0

log = structlog.get_logger()


async def serve(start: Start, settings: Settings, link: Link, metrics: Metrics) -> None:
    """Until the supervisor says `drain`. Raises StartupError, or EngineFailed if the engine is lost."""
    lost = asyncio.Event()
    async with open_engine(settings, metrics, lost) as (engine, batcher):
        settle_memory()
        host = EngineHost(batcher, Hello(engine.bundle.version, engine.backend.name, engine.backend.device))
        await host.listen(Path(start.sockets.own))
        await link.may_listen()
        link.tell(Ready())
        with watched_loop(settings.stall_seconds):
            await first_of(link.drain, lost)
        await host.close(0 if lost.is_set() else settings.drain_seconds + END_SECONDS)
    if lost.is_set():
        raise EngineFailed


@asynccontextmanager
async def open_engine(
    settings: Settings, metrics: Metrics, lost: asyncio.Event, *, inline: bool = False
) -> AsyncIterator[tuple[Engine, Batcher]]:
    """An engine and its queue in this process. `lost` is set when the engine hangs, or computes nothing any more."""
    engine = await asyncio.to_thread(load_engine, settings.bundle_folder, settings.engine_options, metrics)
    batcher = Batcher(
        engine,
        queue_size=settings.queue_size,
        max_batch=settings.max_batch,
        batch_seconds=settings.batch_ms / 1e3,
        on_batch=metrics.batch,
        on_broken=lost.set,
        inline=inline,
    )
    unwatched = [
        metrics.watch_kv_cache(lambda: engine.key_values.held_bytes),
        metrics.watch_state_cache(lambda: engine.states.held_bytes),
        metrics.watch_queue_depth(lambda: batcher.depth),
        metrics.watch_queue_capacity(lambda: settings.queue_size),
    ]
    # While a GPU hangs, the processor may wait in a loop: its time is no sign of work.
    works = (lambda: 0.0) if engine.backend.device == "cuda" else cpu_of_thread(batcher.thread)
    watching = asyncio.create_task(_watch(batcher, StallClock(settings.stall_seconds, works), lost))
    try:
        yield engine, batcher
    finally:
        watching.cancel()
        await batcher.close()
        for unwatch in unwatched:
            unwatch()


async def _watch(batcher: Batcher, clock: StallClock, lost: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        if clock.stalled(batcher.progress):
            break
    log.error("the engine stands still")
    batcher.abandon()
    lost.set()


if __name__ == "__main__":
    run_child(serve, "engine_host")
