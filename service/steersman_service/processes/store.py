"""The embedded session store, kept alive while the server runs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from steersman_service.errors import StartupError
from steersman_service.sessions.valkey import EmbeddedValkey

CHECK_SECONDS = 1.0
# Until then the log still holds what was deleted.
REWRITE_SECONDS = 86_400.0

log = structlog.get_logger()


@asynccontextmanager
async def embedded_store(folder: Path) -> AsyncIterator[str]:
    """Gives its URL. A Valkey that died is started again. Raises StartupError."""
    # Not cancelled: a Valkey that is being started must not outlive the server.
    starting = asyncio.ensure_future(asyncio.to_thread(EmbeddedValkey.start, folder))
    try:
        valkey = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.to_thread((await starting).stop)
        raise
    closing = asyncio.Event()

    async def watch() -> None:
        rewritten = time.monotonic()
        while not closing.is_set():
            try:
                await asyncio.to_thread(valkey.revive)
            except StartupError as error:
                log.error("the embedded session store is down", error=str(error))
            if time.monotonic() - rewritten >= REWRITE_SECONDS:
                await asyncio.to_thread(valkey.rewrite)
                rewritten = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), CHECK_SECONDS)

    watching = asyncio.create_task(watch())
    try:
        yield valkey.url
    finally:
        # Nor is what starts it again.
        closing.set()
        await watching
        await asyncio.to_thread(valkey.stop)
