"""Runs front ends, engine hosts and the gateway: starts, restarts, replaces and drains them, and adds up their metrics."""

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from google.protobuf.message_factory import GetMessageClass
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from pydantic import SecretStr

from steersman.v1 import release_service_pb2
from steersman_service.certificates import watched
from steersman_service.errors import Draining, InternalError, RequestError, StartupError
from steersman_service.http.options import installed
from steersman_service.processes.bundle_source import BundleSource
from steersman_service.processes.child import ChildProcess
from steersman_service.processes.exposure import check_exposed
from steersman_service.processes.generation import Generation, HostedRelease
from steersman_service.processes.link import Answer, Ask, Plan, Refusal, Sockets
from steersman_service.processes.port import ReservedPort
from steersman_service.processes.releases import Releases
from steersman_service.processes.slot import Slot
from steersman_service.processes.source_watch import SourceWatch
from steersman_service.processes.store import embedded_store
from steersman_service.processes.threads import in_thread
from steersman_service.secret_settings import secret
from steersman_service.settings import Settings
from steersman_service.telemetry import families as metric_families
from steersman_service.telemetry.families import Family
from steersman_service.telemetry.metrics import Metrics
from steersman_service.telemetry.port import exposed, exposed_inside

# A child that does not report in time is counted as of its last report.
METRICS_SECONDS = 2.0
# With the number of its place, the name of a front end's private socket. deploy/healthcheck.py knows it.
FRONT_END = "front-end-"

log = structlog.get_logger()


class Addresses(NamedTuple):
    """Where a server listens."""

    http: str
    """A URL; empty if it is off."""
    grpc: str
    metrics: str
    """ "off" if it is."""


class Supervisor:
    """Starts all processes, has releases change, and counts what every process counted."""

    def __init__(self, settings: Settings, metrics: Metrics, sockets: Path) -> None:
        """`settings` are those of the children, but for the bundle. `sockets` is a private folder."""
        self._settings = settings
        self._metrics = metrics
        self._sockets = sockets
        self._source = BundleSource(settings.bundle_source, settings.bundles, settings.bundle_keys)
        self._engines = settings.engine_count
        self._numbers = count(1)
        self._releases: Releases | None = None
        """Once it is started."""
        self._gateway: Slot | None = None
        self._alive: set[ChildProcess] = set()
        self._counted: list[Family] = []
        """What processes counted that have ended."""
        self._watching: set[asyncio.Task[None]] = set()
        self._changing: set[asyncio.Task[None]] = set()

    async def start(self, port: ReservedPort, http_port: ReservedPort | None, metrics: str) -> None:
        """Returns when every process takes calls, the gateway included if there is a port for it. Raises StartupError.

        `metrics` is the socket that `families` are served on, empty if there is none."""
        generation = await self._generation()
        self._releases = Releases(
            generation,
            self._hosted_beside,
            self._source,
            self._metrics,
            drain_seconds=self._settings.drain_seconds,
            on_trial=not self._engines,
        )
        await generation.load()
        port.probe()
        await generation.listen()
        if http_port is not None:
            front_ends = [self._front_end_socket(place) for place in range(self._settings.workers)]
            sockets = Sockets(called=front_ends, metrics=metrics)
            self._gateway = self._slot(lambda: ChildProcess.start("gateway", self._settings, sockets))
            await self._gateway.load()
            http_port.probe()
            await self._gateway.listen()
        if self._settings.bundle_watch_seconds:
            watch = SourceWatch(self._source, self._releases, self._metrics)
            _run(watch.run(self._settings.bundle_watch_seconds), self._changing)

    async def replace(self) -> None:
        """SIGHUP: all processes but the gateway anew."""
        if self._releases:
            await self._releases.renew(self._generation)

    async def leave(self) -> None:
        """Health says NOT_SERVING from now on, that of the gateway, which asks the front ends, included; calls are taken as before."""
        if self._releases:
            await asyncio.gather(*(slot.leave() for slot in self._releases.generation.front_ends))

    async def stop(self) -> None:
        """Drains, the gateway first: its calls in flight need the front ends."""
        start = time.monotonic()
        for task in self._changing:
            task.cancel()
        await asyncio.gather(*self._changing, return_exceptions=True)
        if self._gateway:
            await self._gateway.stop(self._settings.drain_seconds)
        left = max(0.0, self._settings.drain_seconds - (time.monotonic() - start))
        if self._releases:
            await self._releases.stop(left)
        for task in self._watching:
            task.cancel()

    async def families(self) -> list[Family]:
        """Metrics of all processes, those that have ended included."""
        if asking := [asyncio.create_task(child.refresh()) for child in self._alive]:
            await asyncio.wait(asking, timeout=METRICS_SECONDS)
        gateway = self._gateway is None or self._gateway.ready
        self._metrics.all_ready(self._releases is not None and self._releases.generation.ready and gateway)
        # Read in one go: a child that ends meanwhile is counted among the living or among the ended, never in both.
        own = metric_families.families(self._metrics.registry)
        return metric_families.merged([own, self._counted, *(child.families for child in self._alive)])

    async def _generation(self) -> Generation:
        """With the bundle that the source names now; not started yet. Raises StartupError."""
        stable = self._hosted(await in_thread(self._source.target), self._engines)

        def front_end(plan: Callable[[], Plan], place: int) -> Slot:
            # One replays the scenarios for all.
            changed = {} if place == 0 else {"scenario_replay": "off"}
            settings = self._settings.model_copy(update=changed)

            async def start() -> ChildProcess:
                sockets = Sockets(self._front_end_socket(place))
                child = await ChildProcess.start("front_end", settings, sockets, plan)
                generation.started(child)
                child.on_ask = lambda ask: _run(self._answer(child, ask), self._changing)
                return child

            return self._slot(start)

        generation = Generation(front_end, self._settings.workers, stable)
        return generation

    def _hosted_beside(self, folder: Path) -> HostedRelease:
        """Where front ends compute, one engine host tries the bundle first."""
        return self._hosted(folder, self._engines, trial=not self._engines)

    def _hosted(self, folder: Path, engines: int, *, trial: bool = False) -> HostedRelease:
        settings, number = self._settings.model_copy(update={"bundle": str(folder)}), next(self._numbers)

        def engine(socket: str) -> Slot:
            return self._slot(lambda: ChildProcess.start("engine_host", settings, Sockets(socket)))

        sockets = [str(self._sockets / f"engine-{number}-{place}") for place in range(engines)]
        slots = [engine(socket) for socket in (sockets if not trial else [str(self._sockets / f"trial-{number}")])]
        return HostedRelease(number, folder, sockets, slots)

    def _front_end_socket(self, place: int) -> str:
        """The same in every generation: the gateway calls who took it last."""
        return str(self._sockets / f"{FRONT_END}{place}")

    def _slot(self, start: Callable[[], Awaitable[ChildProcess]]) -> Slot:
        async def started() -> ChildProcess:
            child = await start()
            self._alive.add(child)
            child.ended.add_done_callback(lambda _: self._bury(child))
            _run(child.watch(), self._watching)
            return child

        return Slot(started, self._metrics.worker_died)

    async def _answer(self, child: ChildProcess, ask: Ask) -> None:
        """Of a caller of ReleaseService."""
        answer: Answer | Refusal
        try:
            request = release_service_pb2.DESCRIPTOR.message_types_by_name[ask.method]
            assert self._releases
            releases = await self._releases.answer(GetMessageClass(request).FromString(ask.data))
            data = release_service_pb2.ListReleasesResponse(releases=releases).SerializeToString()
            answer = Answer(ask.number, data)
        except RequestError as error:
            answer = Refusal(ask.number, error.reason, error.message)
        except asyncio.CancelledError:
            child.answer(Refusal(ask.number, Draining.reason, "the server is shutting down"))
            raise
        except Exception:
            log.exception("releases were not changed")
            answer = Refusal(ask.number, InternalError.reason, "")
        child.answer(answer)

    def _bury(self, child: ChildProcess) -> None:
        self._alive.discard(child)
        self._counted = metric_families.merged([self._counted, metric_families.lasting(child.families)])


def _run(work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(work)
    among.add(task)
    task.add_done_callback(among.discard)


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
    cannot start. A signal ends a start, too.
    """
    stop, renew = asyncio.Event(), asyncio.Event()
    loop, starting = asyncio.get_running_loop(), asyncio.current_task()

    def end() -> None:
        if starting and not stop.is_set():
            starting.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, renew.set)
    try:
        async with _supervised(settings, on_ready) as supervisor:
            starting = None
            renewing = asyncio.create_task(_renewed(supervisor, renew))
            await stop.wait()
            stop.clear()
            log.info("draining", after_seconds=settings.drain_delay_seconds, at_most_seconds=settings.drain_seconds)
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await supervisor.leave()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), settings.drain_delay_seconds)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        log.info("stopped", why="a signal came before it was ready")
        return
    log.info("stopped")


async def _renewed(supervisor: Supervisor, renew: asyncio.Event) -> None:
    while True:
        await renew.wait()
        renew.clear()
        await supervisor.replace()


def private_folder() -> "tempfile.TemporaryDirectory[str]":
    """For sockets between the processes: in TMPDIR or /tmp, or in shared memory where a container's root is read-only."""
    for place in (None, "/dev/shm"):
        with suppress(OSError):
            return tempfile.TemporaryDirectory(prefix="steersman-", dir=place)
    raise StartupError("no folder for the processes' sockets: set TMPDIR to one that can be written to")


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
        certificates = await stack.enter_async_context(watched(settings.tls_files, metrics))
        if certificates:
            certificates.warn()
        port = ReservedPort(settings.host, settings.port)
        stack.callback(port.close)
        http_port = reserved_for_http(settings)
        if http_port:
            stack.callback(http_port.close)
        check_exposed(settings, http=http_port is not None)
        url = settings.redis_url
        if url is None:
            url = SecretStr(await stack.enter_async_context(embedded_store(settings.data / "valkey")))
        sockets = Path(stack.enter_context(private_folder()))
        numbers = {"port": port.number, "http_port": http_port.number if http_port else 0}
        changed = settings.model_copy(update={**numbers, "redis_url": url})
        supervisor = Supervisor(changed, metrics, sockets)
        metrics_port, metrics_socket = 0, sockets / "metrics"
        if settings.metrics == "on":
            registry = CollectorRegistry()
            registry.register(_Merged(supervisor))
            context, token = None, secret(settings.metrics_token)
            if certificates and settings.insecure != "metrics":
                context = certificates.context(demanding=settings.demands_certificates("metrics"))
            where = settings.metrics_host, settings.metrics_port
            metrics_port = stack.enter_context(exposed(registry, *where, token, context))
            stack.enter_context(exposed_inside(registry, metrics_socket))
        stack.push_async_callback(supervisor.stop)
        await supervisor.start(port, http_port, str(metrics_socket) if metrics_port else "")
        scheme = "https" if certificates else "http"
        addresses = Addresses(
            f"{scheme}://{settings.http_host}:{http_port.number}" if http_port else "",
            f"{settings.host}:{port.number}",
            f"{settings.metrics_host}:{metrics_port}" if metrics_port else "off",
        )
        log.info("ready", http=addresses.http or "off", address=addresses.grpc, metrics=addresses.metrics)
        on_ready(addresses)
        yield supervisor
