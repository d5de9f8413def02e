"""A front end: gRPC in, engines behind."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from steersman_service.app import EngineHandle, running
from steersman_service.bundle.bundle import load_bundle
from steersman_service.errors import EngineFailed
from steersman_service.processes.link import Link, Ready, first_of, run_child, settle_memory
from steersman_service.scheduling.client import EnginePool
from steersman_service.scheduling.stall import watched_loop
from steersman_service.settings import Settings
from steersman_service.telemetry.metrics import Metrics


async def serve(settings: Settings, sockets: list[str], link: Link, metrics: Metrics) -> None:
    """Until the supervisor says `drain`. Raises StartupError, or EngineFailed if an engine in this process is lost."""
    lost = asyncio.Event()
    async with AsyncExitStack() as stack:
        backend = await opened_backend(settings, sockets, metrics, lost, stack)
        await stack.enter_async_context(running(settings, metrics, backend, link.may_listen, link.leave))
        settle_memory()
        link.tell(Ready())
        with watched_loop(settings.stall_seconds):
            await first_of(link.drain, lost)
    if lost.is_set():
        raise EngineFailed


async def opened_backend(
    settings: Settings, sockets: list[str], metrics: Metrics, lost: asyncio.Event, stack: AsyncExitStack
) -> EngineHandle:
    """Engine hosts that listen on `sockets`, or, without any, an engine in this process."""
    if not sockets:
        # Imported here: a front end without an engine needs no ONNX Runtime.
        from steersman_service.processes.engine_host import open_engine

        engine, batcher = await stack.enter_async_context(open_engine(settings, metrics, lost, inline=True))
        return EngineHandle(engine.bundle, batcher, engine.backend.name, engine.backend.device)
    bundle = load_bundle(settings.bundle_folder, settings.backend, settings.bundle_keys)
    pool = EnginePool([Path(socket) for socket in sockets])
    stack.callback(pool.close)
    hello = await pool.connect(bundle.version)
    return EngineHandle(bundle, pool, hello.backend, hello.device)


if __name__ == "__main__":
    run_child(serve, "front_end")
