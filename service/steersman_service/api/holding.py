"""The releases that a process holds, by number: loaded, routed to, and let go."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from typing import NamedTuple

import structlog

from steersman_service.api.channels import CANARY, STABLE, Channels, HeldRelease
from steersman_service.api.handlers import EngineHandle, Handlers, Shared, handlers
from steersman_service.api.labels import POLL_SECONDS
from steersman_service.api.release import Release
from steersman_service.api.replay_watch import ReplayWatch
from steersman_service.errors import StartupError, StoreUnavailable

OpenEngines = Callable[[AsyncExitStack], Awaitable[EngineHandle]]
"""Opens a bundle and its engines; the stack closes them."""

log = structlog.get_logger()


class _Held(NamedTuple):
    release: HeldRelease
    backend: EngineHandle
    handlers: Handlers
    watch: ReplayWatch
    open: AsyncExitStack


class Holding:
    """What is stable, what is the canary, and what still finishes calls."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._held: dict[int, _Held] = {}
        self._routed: tuple[int, int, float] = (0, 0, 0.0)
        self._replaying: asyncio.Task[None] | None = None
        self.channels: Channels
        """Once there was a `route`."""

    @property
    def versions(self) -> dict[int, str]:
        return {number: held.release.release.version for number, held in self._held.items()}

    async def load(self, number: int, open_engines: OpenEngines, *, block: bool = False) -> None:
        """Loads a release beside the others, in a thread; no call is answered by it. With `block`, scenarios are replayed.

        Raises StartupError with nothing changed.
        """
        shared = self._shared
        async with AsyncExitStack() as stack:
            backend = await open_engines(stack)
            _check_window(backend, shared)
            release, made = await asyncio.to_thread(_derived, backend, shared)
            stack.push_async_callback(made.list_change.close)
            stack.callback(shared.metrics.watch_session_cache(lambda: made.sessions.held_bytes))
            with suppress(StoreUnavailable):
                await made.labels.refresh()
            watch = ReplayWatch(made.replays, shared.metrics.scenario_replays)
            if block:
                await watch.block()
            held = HeldRelease(release, backend.engines, made.services)
            self._held[number] = _Held(held, backend, made, watch, stack.pop_all())

    def route(self, stable: int, canary: int = 0, share: float = 0.0) -> None:
        """Calls that begin now go to these. A canary that is not held has none (0: there is none)."""
        trial = self._held.get(canary)
        if self._routed[0] != stable:
            self._replay(self._held[stable])
        release = self._held[stable].release
        if not self._routed[0]:
            self.channels = Channels(release, self._shared.metrics.answered)
        self.channels.route(release, trial.release if trial else None, share)
        self._routed = stable, canary, share
        served = [(STABLE, self._held[stable]), *([(CANARY, trial)] if trial else [])]
        self._shared.metrics.bundles(_labels(channel, held.backend) for channel, held in served)

    def others(self, numbers: Collection[int]) -> Sequence[int]:
        """Those that are held and not among `numbers`."""
        return [number for number in self._held if number not in numbers]

    async def let_go(self, number: int, seconds: float) -> None:
        """Of a release that gets no more calls: waits until it has answered those in flight, at most `seconds`, and frees it."""
        held = self._held.pop(number)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await held.release.idle()
        await held.open.aclose()

    async def refresh_labels(self) -> None:
        """Again and again, those of every release."""
        while True:
            for held in tuple(self._held.values()):
                with suppress(StoreUnavailable):
                    await held.handlers.labels.refresh()
            await asyncio.sleep(POLL_SECONDS)

    async def calm(self) -> None:
        """Ends what is computed beside calls."""
        if self._replaying:
            self._replaying.cancel()
        for held in self._held.values():
            await held.handlers.list_change.close()

    async def close(self) -> None:
        """All of them, at once."""
        await self.calm()
        for held in self._held.values():
            await held.open.aclose()
        self._held.clear()

    def _replay(self, held: _Held) -> None:
        """The scenarios, in the background, for as long as it is stable."""
        if self._replaying:
            self._replaying.cancel()
            self._replaying = None
        if self._shared.settings.scenario_replay != "off":
            self._replaying = asyncio.create_task(held.watch.run())


def _derived(backend: EngineHandle, shared: Shared) -> tuple[Release, Handlers]:
    release = Release.of(backend.bundle, shared.settings)
    return release, handlers(release, backend, shared)


def _check_window(backend: EngineHandle, shared: Shared) -> None:
    length, kept = backend.bundle.manifest.window.length, shared.settings.max_session_events
    if kept < length:
        raise StartupError(
            f"settings: max_session_events of {kept} is less than the bundle's window of {length}: sessions would forget"
            " what the recommender has to see"
        )


def _labels(channel: str, backend: EngineHandle) -> tuple[str, str, str, str, str, str]:
    manifest = backend.bundle.manifest
    bundle_format = f"{manifest.format_major}.{manifest.format_minor}"
    return channel, backend.bundle.version, bundle_format, manifest.provenance.data, backend.name, backend.device
