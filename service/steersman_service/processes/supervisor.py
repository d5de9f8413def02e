"""Keeps several workers on one port, and the engine that they may share: starts them, again if they die, replaces them, adds up metrics."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from steersman_service.errors import StartupError
from steersman_service.processes.engine_process import EngineProcess
from steersman_service.processes.worker_process import WorkerProcess
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.settings import Settings
from steersman_service.telemetry import families as worker_metrics
from steersman_service.telemetry.families import Family
from steersman_service.telemetry.metrics import Metrics
from steersman_service.telemetry.port import exposed

# Before a worker that died is started again. It doubles each time, unless the worker had lived for as long as STEADY_SECONDS.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, STEADY_SECONDS = 0.1, 30.0, 60.0
# A worker that does not answer in time is counted as it was.
METRICS_SECONDS = 2.0
STORE_CHECK_SECONDS = 1.0

log = structlog.get_logger()


class Release(NamedTuple):
    """What workers are started for."""

    bundle: Path
    engine: EngineProcess | None = None
    """Which they share, and which has loaded this bundle. None: each has its own."""


class Supervisor:
    """Workers in slots: a slot's worker may die or be replaced, the slot goes on."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """`settings` are those of a worker, but for its bundle."""
        self._settings = settings
        self._metrics = metrics
        self._slots: list[WorkerProcess] = []
        self._changing = [asyncio.Lock() for _ in range(settings.workers)]
        self._alive: set[WorkerProcess] = set()
        self._counted: list[Family] = []
        """What workers and engines counted that have ended."""
        self._release = Release(settings.bundle_folder.resolve())
        """What a worker that died is started again for. Whoever holds `_releasing` changes it."""
        self._releasing = asyncio.Lock()
        self._engines: set[EngineProcess] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._watching: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Every slot's worker takes calls."""
        return bool(self._slots) and all(worker.ready for worker in self._slots)

    async def start(self, port: "ReservedPort") -> None:
        """Returns when all workers take calls. Raises StartupError if one cannot."""
        self._release = await self._released(self._release.bundle)
        self._slots = [await self._start(self._release) for _ in self._changing]
        await asyncio.gather(*(worker.loaded() for worker in self._slots))
        port.probe()
        await asyncio.gather(*(worker.listen() for worker in self._slots))
        self._tasks = [asyncio.create_task(self._keep(slot)) for slot in range(len(self._slots))]
        log.info("workers ready", pids=[worker.pid for worker in self._slots])

    async def replace(self) -> None:
        """Every worker by a new one, which reads anew what `current` names, and takes calls before the old one drains.

        The old ones stay if a new one cannot start.
        """
        replaced, release = 0, None
        try:
            release = await self._released(self._settings.bundle_folder.resolve())
            for slot, changing in enumerate(self._changing):
                async with changing:
                    old = self._slots[slot]
                    new = self._slots[slot] = await self._ready(release)
                    async with self._releasing:
                        self._release = release
                    replaced += 1
                    log.info("worker replaced", pid=old.pid, by=new.pid)
                    await old.stop(self._settings.drain_seconds)
        # Whatever it was: it must not end the task that hears of the next SIGHUP.
        except Exception as error:
            log.error("workers not replaced", error=str(error), replaced=replaced, exc_info=_unforeseen(error))
            if release:
                self._retire(release.engine)

    async def stop(self) -> None:
        """Lets every worker drain."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await asyncio.gather(*(worker.stop(self._settings.drain_seconds) for worker in self._alive))
        finally:
            await asyncio.gather(*map(self._end, self._engines), *self._leaving)
            for task in self._watching:
                task.cancel()

    async def families(self) -> list[Family]:
        """The metrics of all, those of workers that have ended included."""
        alive: list[WorkerProcess | EngineProcess] = [*self._alive, *self._engines]
        if asking := [asyncio.create_task(process.refresh()) for process in alive]:
            await asyncio.wait(asking, timeout=METRICS_SECONDS)
        self._metrics.all_ready(self.ready)
        # Read in one go: a worker that ends meanwhile is counted among the living or among the ended, never in both.
        return worker_metrics.merged(
            [
                worker_metrics.families(self._metrics.registry),
                self._counted,
                *(worker.families for worker in self._alive),
                *(engine.families for engine in self._engines),
            ]
        )

    async def _released(self, bundle: Path) -> Release:
        """With an engine that has loaded it, if workers share one. Raises StartupError if it cannot."""
        if self._settings.engine != "shared":
            return Release(bundle)
        engine = EngineProcess.start(self._settings.model_copy(update={"bundle": bundle}))
        try:
            await engine.loaded()
        except asyncio.CancelledError:
            # Not waited for: it ends when it has loaded, and a drain is not to begin later for that.
            self._leave(engine.close())
            raise
        except BaseException:
            await engine.close()
            raise
        self._engines.add(engine)
        engine.ended.add_done_callback(lambda _: self._lose(engine))
        self._spawn(engine.watch(lambda: self._lose(engine)))
        return Release(bundle, engine)

    async def _alive_again(self) -> Release:
        """What a worker is started for now: its engine is started again if it died. Raises StartupError if it cannot."""
        async with self._releasing:
            if self._release.engine and self._release.engine.gone:
                self._release = await self._released(self._release.bundle)
            return self._release

    def _lose(self, engine: EngineProcess) -> None:
        """Those who share it answer nothing any more, and are started again with another one."""
        if engine not in self._engines:
            return  # it stood still, and has ended since
        self._engines.remove(engine)
        self._count(engine.families)
        for worker in self._alive:
            if worker.engine is engine:
                worker.terminate()

    def _retire(self, engine: EngineProcess | None) -> None:
        """Ends it, unless there is a worker that needs it, or will be."""
        if engine in self._engines - {self._release.engine, *(worker.engine for worker in self._alive)}:
            self._leave(self._end(engine))

    def _spawn(self, watching: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(watching)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def _leave(self, ending: Coroutine[Any, Any, None]) -> None:
        leaving = asyncio.create_task(ending)
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _end(self, engine: EngineProcess) -> None:
        # What it has counted since it was asked last.
        await asyncio.wait([asyncio.create_task(engine.refresh())], timeout=METRICS_SECONDS)
        await engine.close()

    async def _start(self, release: Release) -> WorkerProcess:
        settings = self._settings.model_copy(update={"bundle": release.bundle})
        worker = await WorkerProcess.start(settings, release.engine)
        self._alive.add(worker)
        worker.ended.add_done_callback(lambda _: self._bury(worker))
        self._spawn(worker.watch())
        return worker

    async def _ready(self, release: Release) -> WorkerProcess:
        worker = await self._start(release)
        try:
            await worker.loaded()
            await worker.listen()
        except BaseException:
            worker.terminate()
            raise
        return worker

    def _bury(self, worker: WorkerProcess) -> None:
        self._alive.discard(worker)
        self._count(worker.families)
        self._retire(worker.engine)

    def _count(self, families: Sequence[Family]) -> None:
        self._counted = worker_metrics.merged([self._counted, worker_metrics.lasting(families)])

    async def _keep(self, slot: int) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            worker = self._slots[slot]
            code = await asyncio.shield(worker.ended)
            if self._slots[slot] is not worker:
                continue  # it was replaced
            if time.monotonic() - worker.born > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._metrics.worker_died()
            log.error("worker died", pid=worker.pid, exit_code=code, again_in_seconds=pause)
            while self._slots[slot] is worker:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                await self._again(slot, worker)

    async def _again(self, slot: int, dead: WorkerProcess) -> None:
        async with self._changing[slot]:
            if self._slots[slot] is not dead:
                return
            try:
                self._slots[slot] = await self._ready(await self._alive_again())
            # Whatever it was: it must not end the task that keeps this slot.
            except Exception as error:
                log.error("worker does not start", error=str(error), exc_info=_unforeseen(error))
            else:
                log.info("worker ready", pid=self._slots[slot].pid)


def _unforeseen(error: Exception) -> bool:
    """Whether its text alone may not say what happened."""
    return not isinstance(error, StartupError)


class ReservedPort:
    """A port that workers share, held as long as there are any, so that it stays the same and is nobody else's."""

    def __init__(self, host: str, port: int) -> None:
        """Raises StartupError if somebody listens there."""
        self._where = f"{host}:{port}"
        try:
            # gRPC wants the brackets of [::1], and this does not.
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise StartupError(f"settings: host: {host}: {error.strerror}") from error
        self._family, self._address = found[0], found[4]
        self.probe()
        # Bound, and never listening: connections go to the workers alone.
        self._held = self._bound(shared=True)
        self._address = self._held.getsockname()
        self.number: int = self._held.getsockname()[1]

    def probe(self) -> None:
        """Raises StartupError if somebody listens there: sharing it, one would hear of nobody."""
        self._bound(shared=False).close()

    def close(self) -> None:
        self._held.close()

    def _bound(self, *, shared: bool) -> socket.socket:
        bound = socket.socket(self._family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        try:
            bound.bind(self._address)
        except OSError as error:
            bound.close()
            raise StartupError(f"cannot listen on {self._where}; is another server running there?") from error
        return bound


class _Merged(Collector):
    """Collects, on the thread of the HTTP server, what the supervisor's event loop finds out."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()

    def collect(self) -> Iterator[Metric]:
        found = asyncio.run_coroutine_threadsafe(self._supervisor.families(), self._loop)
        yield from worker_metrics.metrics(found.result())


async def supervise(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then drains. SIGHUP replaces the workers. Raises StartupError if it cannot start."""
    stop, renew = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, renew.set)
    async with _supervised(settings) as supervisor:
        renewing = asyncio.create_task(_renewed(supervisor, renew))
        await stop.wait()
        log.info("draining", at_most_seconds=settings.drain_seconds)
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
    log.info("stopped")


async def _renewed(supervisor: Supervisor, renew: asyncio.Event) -> None:
    while True:
        await renew.wait()
        renew.clear()
        await supervisor.replace()


@asynccontextmanager
async def _supervised(settings: Settings) -> AsyncIterator[Supervisor]:
    if sys.platform != "linux":
        raise StartupError("settings: workers: several share a port on Linux alone; run one, or one on each port")
    metrics = Metrics(collected=settings.metrics == "on")
    async with AsyncExitStack() as stack:
        port = ReservedPort(settings.host, settings.port)
        stack.callback(port.close)
        url = settings.redis_url or await _store(settings, stack)
        changes = {"port": port.number, "redis_url": url}
        if settings.engine_kind == "shared":
            changes["engine"] = "shared"
        supervisor = Supervisor(settings.model_copy(update=changes), metrics)
        metrics_port = 0
        if settings.metrics == "on":
            registry = CollectorRegistry()
            registry.register(_Merged(supervisor))
            metrics_port = stack.enter_context(exposed(registry, settings.metrics_host, settings.metrics_port))
        stack.push_async_callback(supervisor.stop)
        await supervisor.start(port)
        where = f"{settings.metrics_host}:{metrics_port}" if metrics_port else "off"
        log.info("ready", address=f"{settings.host}:{port.number}", metrics=where)
        yield supervisor


async def _store(settings: Settings, stack: AsyncExitStack) -> str:
    """The embedded Valkey of all workers, which is started again when it dies."""
    valkey = await asyncio.to_thread(EmbeddedValkey.start, settings.data / "valkey")
    stack.push_async_callback(asyncio.to_thread, valkey.stop)
    closing = asyncio.Event()

    async def watch() -> None:
        while not closing.is_set():
            try:
                await asyncio.to_thread(valkey.revive)
            except StartupError as error:
                log.error("the embedded session store is down", error=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), STORE_CHECK_SECONDS)

    async def end(watching: asyncio.Task[None]) -> None:
        # Not cancelled: a Valkey that is being started must not outlive the server.
        closing.set()
        await watching

    stack.push_async_callback(end, asyncio.create_task(watch()))
    return valkey.url
