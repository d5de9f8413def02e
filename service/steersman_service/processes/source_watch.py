"""Has the server serve what its source names, whenever that changes."""

import asyncio
from pathlib import Path

import structlog

from steersman_service.errors import BundleError, ChildDied, StartupError
from steersman_service.processes.bundle_source import BundleSource, State, state_of
from steersman_service.processes.releases import Releases, holds
from steersman_service.processes.threads import in_thread
from steersman_service.telemetry.metrics import Metrics

# Of a bundle whose loading a process did not survive, which may have had other reasons.
ATTEMPTS = 3
# A source that cannot be read is asked less and less often: each attempt may pull a large file that is damaged.
LONGEST_PAUSE_SECONDS = 300.0

log = structlog.get_logger()


class SourceWatch:
    """What was refused is tried again once it has changed."""

    def __init__(self, source: BundleSource, releases: Releases, metrics: Metrics) -> None:
        self._source, self._releases, self._metrics = source, releases, metrics
        self._unserved: tuple[Path, State, int] | None = None
        """What the source named that was refused, and how often."""
        self._unread = ""
        """Why the source itself cannot be read."""

    async def run(self, seconds: float) -> None:
        """Looks again and again, every so many seconds."""
        pause = seconds
        while True:
            await asyncio.sleep(pause)
            try:
                readable = await self.look()
            except Exception:
                log.exception("the source of bundles was not followed")
                readable = False
            pause = seconds if readable else max(seconds, min(2 * pause, LONGEST_PAUSE_SECONDS))

    async def look(self) -> bool:
        """Whether the source could be read."""
        if not self._source.there:
            return True
        folder = await self._named()
        if folder is None:
            return False
        if await holds(self._releases.generation.stable, folder):
            self._refused(None)
            return True
        state = await asyncio.to_thread(state_of, folder)
        tried = self._unserved[2] if self._unserved and self._unserved[:2] == (folder, state) else 0
        if tried < ATTEMPTS:
            try:
                await self._releases.follow(folder, self._named)
            except StartupError as error:
                self._refused((folder, state, tried + 1 if isinstance(error, ChildDied) else ATTEMPTS))
        return True

    async def _named(self) -> Path | None:
        """The folder that the source names. None: it cannot be read, which is logged once in a row; storage that is away is no refusal
        of a bundle."""
        try:
            folder = await in_thread(self._source.target)
        except StartupError as error:
            damaged = isinstance(error, BundleError)
            if str(error) != self._unread:
                log.error("the source of bundles cannot be read", error=str(error))
                if damaged:
                    self._metrics.swapped(ok=False)
            self._unread = str(error)
            if damaged:
                self._metrics.bundle_refused(True)
            return None
        self._unread = ""
        return folder

    def _refused(self, unserved: tuple[Path, State, int] | None) -> None:
        self._unserved = unserved
        self._metrics.bundle_refused(unserved is not None)
