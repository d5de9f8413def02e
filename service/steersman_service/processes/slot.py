"""The place of one child process."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from steersman_service.errors import StartupError
from steersman_service.processes.child import ChildProcess

# Pause before a child that died is started again. It doubles each time, unless the child had lived for STEADY_SECONDS.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, STEADY_SECONDS = 0.1, 30.0, 60.0

log = structlog.get_logger()


class Slot:
    """The place of one child. A child that dies is started again."""

    def __init__(self, start: Callable[[], Awaitable[ChildProcess]], on_death: Callable[[], None]) -> None:
        self._start = start
        self._on_death = on_death
        self._keeping: asyncio.Task[None] | None = None
        self.child: ChildProcess | None = None

    @property
    def ready(self) -> bool:
        return self.child is not None and self.child.ready

    async def load(self) -> None:
        """Raises StartupError with the child's own words."""
        # Shielded: a child that was started while this is cancelled must be known, to be killed.
        starting = asyncio.ensure_future(self._start())
        try:
            self.child = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self.child = await starting
            raise
        await self.child.loaded()

    async def listen(self) -> None:
        """Lets the child take calls, and keeps the slot filled from now on. Raises StartupError."""
        assert self.child
        await self.child.listen()
        self._keeping = asyncio.create_task(self._keep(self.child))

    async def leave(self) -> None:
        await self._end_keeping()
        if self.child:
            self.child.leave()

    async def stop(self, drain_seconds: float) -> None:
        await self._end_keeping()
        if self.child:
            await self.child.stop(drain_seconds)

    async def kill(self) -> None:
        await self._end_keeping()
        if self.child:
            self.child.kill()
            await self.child.ended

    async def _end_keeping(self) -> None:
        if self._keeping:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping

    async def _keep(self, child: ChildProcess) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            code = await asyncio.shield(child.ended)
            if time.monotonic() - child.born > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._on_death()
            log.error("process died", role=child.role, pid=child.pid, exit_code=code, again_in_seconds=pause)
            while self.child is child:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                await self._again(child)
            assert self.child
            child = self.child

    async def _again(self, dead: ChildProcess) -> None:
        try:
            await self.load()
            assert self.child
            await self.child.listen()
            log.info("process started again", role=dead.role, pid=self.child.pid)
        # Whatever failed, the next attempt may succeed.
        except Exception as error:
            log.error("process does not start", role=dead.role, error=str(error), exc_info=unforeseen(error))
            if self.child and self.child is not dead:
                self.child.kill()
            self.child = dead


def unforeseen(error: Exception) -> bool:
    """Whether its text alone may not say what happened."""
    return not isinstance(error, StartupError)
