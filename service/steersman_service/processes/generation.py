"""Front ends, the releases that they hold, and the plan that they follow."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from steersman_service.errors import StartupError
from steersman_service.processes.child import ChildProcess
from steersman_service.processes.link import Plan, PlannedRelease
from steersman_service.processes.slot import Slot

log = structlog.get_logger()


@dataclass(eq=False)
class HostedRelease:
    """A bundle and its engine hosts, which front ends connect to."""

    number: int
    folder: Path
    sockets: Sequence[str]
    engines: Sequence[Slot]
    version: str = ""
    """Known once a front end holds it."""
    since: float = field(default_factory=time.time)
    """When it came to be what it is, in seconds since 1970."""

    @property
    def ready(self) -> bool:
        return all(slot.ready for slot in self.engines)

    def planned(self, *, block: bool = False) -> PlannedRelease:
        return PlannedRelease(self.number, str(self.folder), [*self.sockets], block, self.version)

    async def load(self) -> None:
        """Raises StartupError; what was started is still to be killed."""
        await _all(*(self._load(slot) for slot in self.engines))

    async def end_trial(self) -> None:
        """Its engine hosts have shown that the bundle loads. Front ends compute themselves."""
        await self.stop(0)
        self.engines = ()

    async def stop(self, drain_seconds: float) -> None:
        """Ends its engine hosts once front ends have disconnected; kills them after `drain_seconds`, about."""
        await asyncio.gather(*(slot.stop(drain_seconds) for slot in self.engines))

    async def kill(self) -> None:
        await asyncio.gather(*(slot.kill() for slot in self.engines))

    async def _load(self, slot: Slot) -> None:
        await slot.load()
        await slot.listen()


class Generation:
    """All processes that answer calls over gRPC."""

    def __init__(self, start: Callable[[Callable[[], Plan], int], Slot], workers: int, stable: HostedRelease) -> None:
        """`start` makes the slot of a front end, by its place, which is started with the plan of that moment."""
        self.stable = stable
        self.canary: HostedRelease | None = None
        self.share = 0.0
        self._children: set[ChildProcess] = set()
        self._plan = Plan(1, [stable.planned(block=True)], stable.number)
        self.front_ends = [start(lambda: self._plan, place) for place in range(workers)]

    @property
    def ready(self) -> bool:
        """Every process takes calls."""
        canary = self.canary is None or self.canary.ready
        return self.stable.ready and canary and all(slot.ready for slot in self.front_ends)

    def started(self, child: ChildProcess) -> None:
        """A front end that was started with the plan."""
        self._children.add(child)
        child.ended.add_done_callback(lambda _: self._children.discard(child))

    async def load(self) -> None:
        """All at once: front ends connect to the engines as these come up. Raises StartupError, with nothing left running."""
        try:
            await _all(self.stable.load(), *(slot.load() for slot in self.front_ends))
        except BaseException:
            await self.kill()
            raise
        # What is served already must not be refused by a process that takes the place of one that died.
        self._plan = Plan(1, [self.stable.planned()], self.stable.number)

    async def listen(self) -> None:
        """Raises StartupError, with nothing left running."""
        try:
            await _all(*(slot.listen() for slot in self.front_ends))
            await self.route(self.stable)
        except BaseException:
            await self.kill()
            raise

    async def try_out(self, release: HostedRelease) -> None:
        """Has all front ends hold it beside what they serve. Raises StartupError if one cannot."""
        await self._follow(self.stable, self.canary, self.share, release)

    async def route(self, stable: HostedRelease, canary: HostedRelease | None = None, share: float = 0.0) -> None:
        """From when this returns, all calls begin there, and front ends let go of what they hold beside."""
        self.stable, self.canary, self.share = stable, canary, share
        try:
            await self._follow(stable, canary, share)
        # Of one that died: it comes back with the plan.
        except StartupError as error:
            log.error("a front end does not follow", error=str(error))

    async def stop(self, drain_seconds: float) -> None:
        """Front ends first: calls in flight need the engines."""
        await asyncio.gather(*(slot.stop(drain_seconds) for slot in self.front_ends))
        await asyncio.gather(*(release.stop(0) for release in self._served()))

    async def kill(self) -> None:
        await asyncio.gather(*(slot.kill() for slot in self.front_ends), *(one.kill() for one in self._served()))

    def _served(self) -> list[HostedRelease]:
        return [self.stable, *([self.canary] if self.canary else [])]

    async def _follow(
        self,
        stable: HostedRelease,
        canary: HostedRelease | None,
        share: float,
        beside: HostedRelease | None = None,
    ) -> None:
        """Returns when all front ends have answered. Raises the first StartupError."""
        releases = [release for release in (stable, canary, beside) if release]
        serial = self._plan.serial + 1

        def plan() -> Plan:
            planned = [release.planned(block=release is beside) for release in releases]
            return Plan(serial, planned, stable.number, canary.number if canary else 0, share)

        self._plan = plan()
        told = await asyncio.gather(*(child.follow(self._plan) for child in self._children), return_exceptions=True)
        for answer in told:
            if isinstance(answer, BaseException):
                continue
            for release in releases:
                release.version = answer.get(release.number, release.version)
        # With the versions, for those that start later.
        self._plan = plan()
        for answer in told:
            if isinstance(answer, BaseException):
                raise answer


async def _all(*work: Coroutine[Any, Any, None]) -> None:
    """Raises what the first raises, once the others have ended: none of them starts a process after that."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
