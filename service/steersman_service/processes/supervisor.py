"""Runs front ends, engine hosts and the gateway: starts, restarts, replaces and drains them, and adds up their metrics."""

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from pydantic import SecretStr

from steersman_service.bundle.signatures import PublicKeys
from steersman_service.bundle.sources import obtain
from steersman_service.errors import StartupError
from steersman_service.http.options import installed
from steersman_service.processes.child import ChildProcess
from steersman_service.processes.port import ReservedPort
from steersman_service.processes.store import embedded_store
from steersman_service.settings import Settings, secret
from steersman_service.telemetry import families as metric_families
from steersman_service.telemetry.families import Family
from steersman_service.telemetry.metrics import Metrics
from steersman_service.telemetry.port import exposed

# Pause before a child that died is started again. It doubles each time, unless the child had lived for STEADY_SECONDS.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, STEADY_SECONDS = 0.1, 30.0, 60.0
# A child that does not report in time is counted as of its last report.
METRICS_SECONDS = 2.0

log = structlog.get_logger()


class Addresses(NamedTuple):
    """Where a server listens."""

    http: str
    """A URL; empty if it is off."""
    grpc: str
    metrics: str
    """ "off" if it is."""


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
            log.error("process does not start", role=dead.role, error=str(error), exc_info=_unforeseen(error))
            if self.child and self.child is not dead:
                self.child.kill()
            self.child = dead


class Generation:
    """The engine hosts and front ends of one bundle."""

    def __init__(self, engines: Sequence[Slot], front_ends: Sequence[Slot]) -> None:
        self.engines = engines
        self.front_ends = front_ends

    @property
    def ready(self) -> bool:
        """Every process takes calls."""
        return all(slot.ready for slot in (*self.engines, *self.front_ends))

    async def load(self) -> None:
        """All at once: front ends connect to the engines as these come up. Raises StartupError, with nothing left running."""
        try:
            await asyncio.gather(
                *(self._load_engine(slot) for slot in self.engines), *(s.load() for s in self.front_ends)
            )
        except BaseException:
            await self.kill()
            raise

    async def listen(self) -> None:
        """Raises StartupError, with nothing left running."""
        try:
            await asyncio.gather(*(slot.listen() for slot in self.front_ends))
        except BaseException:
            await self.kill()
            raise

    async def stop(self, drain_seconds: float) -> None:
        """Front ends first: calls in flight need the engines."""
        await asyncio.gather(*(slot.stop(drain_seconds) for slot in self.front_ends))
        await asyncio.gather(*(slot.stop(0) for slot in self.engines))

    async def kill(self) -> None:
        await asyncio.gather(*(slot.kill() for slot in (*self.front_ends, *self.engines)))

    async def _load_engine(self, slot: Slot) -> None:
        await slot.load()
        await slot.listen()


class Supervisor:
    """Keeps one generation, replaces it by the next, and counts what every process counted."""

    def __init__(self, settings: Settings, metrics: Metrics, sockets: Path) -> None:
        """`settings` are those of the children, but for the bundle. `sockets` is a private folder."""
        self._settings = settings
        self._metrics = metrics
        self._sockets = sockets
        self._generations = 0
        self._current = Generation((), ())
        self._gateway: Slot | None = None
        self._alive: set[ChildProcess] = set()
        self._counted: list[Family] = []
        """What processes counted that have ended."""
        self._watching: set[asyncio.Task[None]] = set()

    async def start(self, port: ReservedPort, http_port: ReservedPort | None, metrics_port: int) -> None:
        """Returns when every process takes calls, the gateway included if there is a port for it. Raises StartupError.

        `metrics_port` is the one that `families` are served on."""
        generation = await self._next()
        await generation.load()
        port.probe()
        await generation.listen()
        self._current = generation
        if http_port is not None:
            settings = self._settings.model_copy(update={"metrics_port": metrics_port})
            self._gateway = self._slot("gateway", settings, [])
            await self._gateway.load()
            http_port.probe()
            await self._gateway.listen()

    async def replace(self) -> None:
        """The next generation, with the bundle that the link names now, takes calls before the old one drains. If it cannot start, the
        old one stays."""
        try:
            generation = await self._next()
            await generation.load()
            await generation.listen()
        except Exception as error:
            log.error("not replaced", error=str(error), exc_info=_unforeseen(error))
            return
        old, self._current = self._current, generation
        log.info("replaced", pids=[slot.child.pid for slot in generation.front_ends if slot.child])
        await old.stop(self._settings.drain_seconds)

    async def leave(self) -> None:
        """Health says NOT_SERVING from now on, that of the gateway, which asks the front ends, included; calls are taken as before."""
        await asyncio.gather(*(slot.leave() for slot in self._current.front_ends))

    async def stop(self) -> None:
        """Drains, the gateway first: its calls in flight need the front ends."""
        start = time.monotonic()
        if self._gateway:
            await self._gateway.stop(self._settings.drain_seconds)
        await self._current.stop(max(0.0, self._settings.drain_seconds - (time.monotonic() - start)))
        for task in self._watching:
            task.cancel()

    async def families(self) -> list[Family]:
        """Metrics of all processes, those that have ended included."""
        if asking := [asyncio.create_task(child.refresh()) for child in self._alive]:
            await asyncio.wait(asking, timeout=METRICS_SECONDS)
        whole = self._current.ready and (self._gateway is None or self._gateway.ready)
        self._metrics.all_ready(whole and bool(self._current.front_ends))
        # Read in one go: a child that ends meanwhile is counted among the living or among the ended, never in both.
        own = metric_families.families(self._metrics.registry)
        return metric_families.merged([own, self._counted, *(child.families for child in self._alive)])

    async def _next(self) -> Generation:
        folder = await asyncio.to_thread(bundle_of, self._settings)
        settings = self._settings.model_copy(update={"bundle": str(folder)})
        number, self._generations = self._generations, self._generations + 1
        sockets = [str(self._sockets / f"engine-{number}-{place}") for place in range(settings.engine_count)]
        engines = [self._slot("engine_host", settings, [own]) for own in sockets]
        # One replays the scenarios for all.
        others = settings.model_copy(update={"scenario_replay": "off"})
        own = [settings if place == 0 else others for place in range(settings.workers)]
        return Generation(engines, [self._slot("front_end", each, sockets) for each in own])

    def _slot(self, role: str, settings: Settings, sockets: list[str]) -> Slot:
        async def start() -> ChildProcess:
            nonlocal settings
            child = await ChildProcess.start(role, settings, sockets)
            # What is served already must not be refused by a process that takes the place of one that died.
            if settings.scenario_replay == "block":
                settings = settings.model_copy(update={"scenario_replay": "report"})
            self._alive.add(child)
            child.ended.add_done_callback(lambda _: self._bury(child))
            task = asyncio.create_task(child.watch())
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)
            return child

        return Slot(start, self._metrics.worker_died)

    def _bury(self, child: ChildProcess) -> None:
        self._alive.discard(child)
        self._counted = metric_families.merged([self._counted, metric_families.lasting(child.families)])


def bundle_of(settings: Settings) -> Path:
    """The folder of the bundle that the settings name now, pulled if need be. Raises StartupError."""
    keys = PublicKeys.read(settings.bundle_keys) if settings.bundle_keys else None
    return obtain(settings.bundle_source, settings.bundles, keys)


def _unforeseen(error: Exception) -> bool:
    """Whether its text alone may not say what happened."""
    return not isinstance(error, StartupError)


class _Merged(Collector):
    """Collects, in the thread of the HTTP server, what the supervisor's event loop finds out."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()

    def collect(self) -> Iterator[Metric]:
        found = asyncio.run_coroutine_threadsafe(self._supervisor.families(), self._loop)
        yield from metric_families.metrics(found.result())


async def supervise(settings: Settings, on_ready: Callable[[Addresses], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains, after `drain_delay_seconds` or a second signal.

    SIGHUP replaces every process, but for the gateway, which holds nothing of a bundle. Calls `on_ready` once. Raises StartupError if it
    cannot start.
    """
    stop, renew = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, renew.set)
    async with _supervised(settings, on_ready) as supervisor:
        renewing = asyncio.create_task(_renewed(supervisor, renew))
        await stop.wait()
        stop.clear()
        log.info("draining", after_seconds=settings.drain_delay_seconds, at_most_seconds=settings.drain_seconds)
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await supervisor.leave()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), settings.drain_delay_seconds)
    log.info("stopped")


async def _renewed(supervisor: Supervisor, renew: asyncio.Event) -> None:
    while True:
        await renew.wait()
        renew.clear()
        await supervisor.replace()


def private_folder() -> "tempfile.TemporaryDirectory[str]":
    """For the sockets of engine hosts: in TMPDIR or /tmp, or in shared memory where a container's root is read-only."""
    for place in (None, "/dev/shm"):
        with suppress(OSError):
            return tempfile.TemporaryDirectory(prefix="steersman-", dir=place)
    raise StartupError("no folder for the engines' sockets: set TMPDIR to one that can be written to")


def reserved_for_http(settings: Settings) -> ReservedPort | None:
    """None if HTTP is off. Raises StartupError."""
    if settings.http == "off" or (settings.http == "auto" and not installed()):
        return None
    if not installed():
        raise StartupError("settings: http: it needs the extra http: pip install 'steersman[http]'")
    try:
        return ReservedPort(settings.http_host, settings.http_port)
    except StartupError as error:
        raise StartupError(f"HTTP: {error} --http-port 0 picks a free port, --http off does without") from None


@asynccontextmanager
async def _supervised(settings: Settings, on_ready: Callable[[Addresses], None]) -> AsyncIterator[Supervisor]:
    if settings.workers > 1 and sys.platform != "linux":
        raise StartupError("settings: workers: several share a port on Linux alone; run one, or one on each port")
    metrics = Metrics(collected=settings.metrics == "on")
    async with AsyncExitStack() as stack:
        port = ReservedPort(settings.host, settings.port)
        stack.callback(port.close)
        http_port = reserved_for_http(settings)
        if http_port:
            stack.callback(http_port.close)
        url = settings.redis_url
        if url is None:
            url = SecretStr(await stack.enter_async_context(embedded_store(settings.data / "valkey")))
        sockets = Path(stack.enter_context(private_folder()))
        numbers = {"port": port.number, "http_port": http_port.number if http_port else 0}
        changed = settings.model_copy(update={**numbers, "redis_url": url})
        supervisor = Supervisor(changed, metrics, sockets)
        metrics_port = 0
        if settings.metrics == "on":
            registry = CollectorRegistry()
            registry.register(_Merged(supervisor))
            metrics_port = stack.enter_context(
                exposed(registry, settings.metrics_host, settings.metrics_port, secret(settings.metrics_token))
            )
        stack.push_async_callback(supervisor.stop)
        await supervisor.start(port, http_port, metrics_port)
        addresses = Addresses(
            f"http://{settings.http_host}:{http_port.number}" if http_port else "",
            f"{settings.host}:{port.number}",
            f"{settings.metrics_host}:{metrics_port}" if metrics_port else "off",
        )
        log.info("ready", http=addresses.http or "off", address=addresses.grpc, metrics=addresses.metrics)
        on_ready(addresses)
        yield supervisor
