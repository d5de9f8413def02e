"""What a server serves, and how that changes while it runs: by calls of ReleaseService, and by what names the bundle to serve."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import structlog

from steersman.v1 import release_service_pb2 as pb
from steersman_service.errors import (
    NoCanary,
    NoReleaseBefore,
    NotFound,
    ReleaseChanging,
    ReleaseRefused,
    StartupError,
)
from steersman_service.processes.bundle_source import BundleSource, version_in
from steersman_service.processes.generation import Generation, HostedRelease
from steersman_service.processes.slot import unforeseen
from steersman_service.processes.threads import in_thread
from steersman_service.telemetry.metrics import Metrics

MOST_REFUSED = MOST_BEFORE = 10
STABLE, CANARY = pb.CHANNEL_STABLE, pb.CHANNEL_CANARY

log = structlog.get_logger()


class _Refused(NamedTuple):
    folder: Path
    version: str
    channel: pb.Channel
    why: str
    time: float


class Releases:
    """Makes one change at a time. What fails leaves what is served as it was."""

    def __init__(
        self,
        generation: Generation,
        hosted: Callable[[Path], HostedRelease],
        source: BundleSource,
        metrics: Metrics,
        *,
        drain_seconds: float,
        on_trial: bool,
    ) -> None:
        """`hosted` makes a release, not started yet. `on_trial`: its engine hosts end before front ends load it themselves."""
        self.generation = generation
        self._hosted = hosted
        self._source = source
        self._metrics = metrics
        self._drain_seconds = drain_seconds
        self._on_trial = on_trial
        self._changing = asyncio.Lock()
        self._loading: tuple[HostedRelease, pb.Channel] | None = None
        self._draining: dict[HostedRelease, pb.Channel] = {}
        self._before: deque[tuple[Path, str, float]] = deque(maxlen=MOST_BEFORE)
        self._refused: deque[_Refused] = deque(maxlen=MOST_REFUSED)
        self._tasks: set[asyncio.Task[None]] = set()
        self._replaced: set[Generation] = set()
        """Those that drain."""

    async def answer(self, request: object) -> list[pb.Release]:
        """Does what a request of ReleaseService asks. Raises a RequestError."""
        try:
            match request:
                case pb.LoadReleaseRequest():
                    await self._load_asked(request)
                case pb.SetCanaryShareRequest(canary_share=share):
                    async with _exclusive(self._changing):
                        await self._set_share(share)
                case pb.PromoteCanaryRequest(version=version):
                    async with _exclusive(self._changing):
                        canary = self._canary()
                        if not canary.version.startswith(version):
                            raise NoCanary(f"version: the canary is {canary.version}")
                        if not canary.ready:
                            raise ReleaseRefused(
                                "the canary has an engine that does not answer: the server's log says why"
                            )
                        await self._promote(canary, turn=True)
                case pb.RollBackRequest():
                    async with _exclusive(self._changing):
                        await self._roll_back()
        except StartupError as error:
            raise ReleaseRefused(f"{self._refused[0].why}; what was served before still is") from error
        return [*_in_order(self)]

    async def follow(self, folder: Path, named: Callable[[], Awaitable[Path | None]]) -> None:
        """Serves the bundle that lies in `folder`, if that is what is `named` once no other change is under way. Raises StartupError."""
        async with self._changing:
            if await named() != folder or await holds(self.generation.stable, folder):
                return
            canary = self.generation.canary
            if canary and canary.ready and await holds(canary, folder):
                await self._promote(canary, turn=False)
            else:
                await self._bring(folder, STABLE)

    async def renew(self, made: Callable[[], Awaitable[Generation]]) -> None:
        """All processes anew, with what the source names; then the old ones drain, a canary too. If they cannot start, those stay."""
        async with self._changing:
            try:
                generation = await made()
                await generation.load()
                await generation.listen()
            except Exception as error:
                log.error("not replaced", error=str(error), exc_info=unforeseen(error))
                return
            old, self.generation = self.generation, generation
            if old.stable.folder != generation.stable.folder:
                self._remember(old.stable)
        canary = old.canary.folder.name if old.canary else ""
        pids = [slot.child.pid for slot in generation.front_ends if slot.child]
        log.info("replaced", pids=pids, **({"canary_ended": canary} if canary else {}))
        self._replaced.add(old)
        await old.stop(self._drain_seconds)
        self._replaced.discard(old)

    async def stop(self, drain_seconds: float) -> None:
        """Drains all front ends, those of a generation before too, and ends all engine hosts."""
        await asyncio.gather(*(each.stop(drain_seconds) for each in (self.generation, *self._replaced)))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(release.kill() for release in self._draining))

    async def _load_asked(self, request: pb.LoadReleaseRequest) -> None:
        async with _exclusive(self._changing):
            if request.channel != CANARY:
                self._source.check_turnable()
            try:
                folder = await in_thread(partial(self._source.find, request.bundle))
            except StartupError as error:
                log.error("bundle not pulled", error=str(error))
                raise ReleaseRefused("bundle: it cannot be pulled from the server's source; its log says why") from None
            if folder is None:
                raise NotFound(
                    "bundle: none beside the one that is served has this version or folder; ListBundles names them"
                )
            stable, canary = self.generation.stable, self.generation.canary
            is_stable, is_canary = await holds(stable, folder), canary and await holds(canary, folder)
            if request.channel == CANARY:
                if is_stable:
                    raise ReleaseRefused("bundle: it is the stable release already")
                if is_canary:
                    await self._set_share(request.canary_share)
                else:
                    await self._bring(folder, CANARY, request.canary_share)
            elif is_stable:
                self._source.turn(folder)
            elif canary and is_canary and canary.ready:
                await self._promote(canary, turn=True)
            else:
                await self._bring(folder, STABLE, turn=True)

    async def _bring(
        self, folder: Path, channel: pb.Channel, share: float = 0.0, *, turn: bool = False, back: bool = False
    ) -> None:
        """Loads a bundle beside what is served, then serves it. Raises StartupError, or ReleasesFixed, with nothing changed."""
        release, generation, began = self._hosted(folder), self.generation, time.monotonic()
        self._loading = release, channel
        try:
            await release.load()
            if self._on_trial:
                await release.end_trial()
            await generation.try_out(release)
            if turn:
                self._source.turn(folder)
        except Exception as error:
            self._refuse(release, channel, error)
            await generation.route(generation.stable, generation.canary, generation.share)
            await release.kill()
            raise
        except BaseException:
            await release.kill()
            raise
        finally:
            self._loading = None
        release.since = time.time()
        if channel == CANARY:
            await self._route(generation.stable, release, share)
        else:
            if not back:
                self._remember(generation.stable)
            await self._route(release, generation.canary, generation.share)
        self._metrics.swapped(ok=True)
        seconds = round(time.monotonic() - began, 3)
        log.info("release served", bundle=release.version, channel=_word(channel), share=share, seconds=seconds)

    async def _promote(self, canary: HostedRelease, *, turn: bool) -> None:
        if turn:
            self._source.check_turnable()
            self._source.turn(canary.folder)
        self._remember(self.generation.stable)
        canary.since = time.time()
        await self._route(canary)
        self._metrics.swapped(ok=True)
        log.info("canary promoted", bundle=canary.version)

    async def _set_share(self, share: float) -> None:
        canary = self._canary()
        await self.generation.route(self.generation.stable, canary, share)
        log.info("canary share", bundle=canary.version, share=share)

    async def _roll_back(self) -> None:
        if canary := self.generation.canary:
            await self._route(self.generation.stable)
            log.info("canary ended", bundle=canary.version)
            return
        if not self._before:
            raise NoReleaseBefore("no other release was stable since the server was started: load one")
        self._source.check_turnable()
        folder, version, _ = self._before[-1]
        if await asyncio.to_thread(version_in, folder) not in ("", version):
            raise ReleaseRefused(
                f"the folder {folder.name} no longer holds {version}, which was stable before: load one"
            )
        await self._bring(folder, STABLE, turn=True, back=True)
        self._before.pop()

    def _canary(self) -> HostedRelease:
        if self.generation.canary is None:
            raise NoCanary("there is no canary: load one first")
        return self.generation.canary

    async def _route(self, stable: HostedRelease, canary: HostedRelease | None = None, share: float = 0.0) -> None:
        """Calls go there. What served until now drains, even if this is cancelled."""
        before = {self.generation.stable: STABLE, self.generation.canary: CANARY}
        try:
            await self.generation.route(stable, canary, share)
        finally:
            for release, channel in before.items():
                if release not in (None, stable, canary):
                    self._leave(release, channel)

    def _leave(self, release: HostedRelease, channel: pb.Channel) -> None:
        """Its engine hosts end once no front end needs them any more."""
        release.since = time.time()
        self._draining[release] = channel
        task = asyncio.create_task(release.stop(self._drain_seconds))
        self._tasks.add(task)

        def gone(task: "asyncio.Task[None]") -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                self._draining.pop(release, None)

        task.add_done_callback(gone)

    def _remember(self, stable: HostedRelease) -> None:
        self._before.append((stable.folder, stable.version, time.time()))

    def _refuse(self, release: HostedRelease, channel: pb.Channel, error: Exception) -> None:
        # Where it lies is for the log.
        why = str(error).replace(str(release.folder), release.folder.name)
        if unforeseen(error):
            why = why or type(error).__name__
        self._refused.appendleft(_Refused(release.folder, release.version, channel, why, time.time()))
        self._metrics.swapped(ok=False)
        log.error(
            "release refused",
            folder=str(release.folder),
            channel=_word(channel),
            error=str(error),
            exc_info=unforeseen(error),
        )


async def holds(release: HostedRelease, folder: Path) -> bool:
    """Whether it is the bundle that lies there now. One whose manifest cannot be read was not replaced by another."""
    return folder == release.folder and await asyncio.to_thread(version_in, folder) in ("", release.version)


@asynccontextmanager
async def _exclusive(lock: asyncio.Lock) -> AsyncIterator[None]:
    """Raises ReleaseChanging if another change is under way."""
    if lock.locked():
        raise ReleaseChanging("another release is being loaded: try again when ListReleases says that it is done")
    async with lock:
        yield


def _in_order(releases: Releases) -> Iterator[pb.Release]:
    """As ListReleases lists them."""
    generation, canary = releases.generation, releases.generation.canary
    share = generation.share if canary else 0.0
    stable = generation.stable
    yield _listed(stable, STABLE, pb.RELEASE_STATE_SERVING, 1 - share)
    if canary:
        yield _listed(canary, CANARY, pb.RELEASE_STATE_SERVING, share)
    if releases._loading:
        yield _listed(*releases._loading, pb.RELEASE_STATE_LOADING)
    for release, channel in releases._draining.items():
        yield _listed(release, channel, pb.RELEASE_STATE_DRAINING)
    if releases._before:
        folder, version, since = releases._before[-1]
        yield _message(folder, version, STABLE, pb.RELEASE_STATE_BEFORE, since)
    for each in releases._refused:
        message = _message(each.folder, each.version, each.channel, pb.RELEASE_STATE_REFUSED, each.time)
        message.problem = each.why
        yield message


def _listed(release: HostedRelease, channel: pb.Channel, state: pb.ReleaseState, share: float = 0.0) -> pb.Release:
    message = _message(release.folder, release.version, channel, state, release.since)
    message.share = share
    return message


def _message(folder: Path, version: str, channel: pb.Channel, state: pb.ReleaseState, since: float) -> pb.Release:
    message = pb.Release(version=version, name=folder.name, channel=channel, state=state)
    message.since.FromNanoseconds(int(since * 1e9))
    return message


def _word(channel: pb.Channel) -> str:
    return "canary" if channel == CANARY else "stable"
