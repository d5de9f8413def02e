"""A front end: gRPC in, engines behind, and the releases that the supervisor's plan says."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import structlog
from google.protobuf.message import Message

from steersman.v1 import release_service_pb2 as pb
from steersman_service.api.handlers import EngineHandle
from steersman_service.api.holding import Holding
from steersman_service.app import running, shared_by_releases
from steersman_service.bundle.bundle import load_bundle
from steersman_service.errors import EngineFailed, StartupError
from steersman_service.processes.link import (
    CannotFollow,
    Follows,
    Link,
    Plan,
    PlannedRelease,
    Ready,
    Start,
    run_child,
    settle_memory,
)
from steersman_service.scheduling.client import EnginePool
from steersman_service.scheduling.events import first_of
from steersman_service.scheduling.stall import watched_loop
from steersman_service.settings import Settings
from steersman_service.telemetry.metrics import Metrics

# For an engine host of a release beside what is served, which listens when a front end is told of it; and until it is tried again.
CONNECT_SECONDS, AGAIN_SECONDS = 5.0, 30.0

log = structlog.get_logger()


async def serve(start: Start, settings: Settings, link: Link, metrics: Metrics) -> None:
    """Until the supervisor says `drain`. Raises StartupError, or EngineFailed if an engine in this process is lost."""
    lost = asyncio.Event()
    assert start.plan
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(shared_by_releases(settings, metrics, _Supervisor(link)))
        holding = Holding(shared)
        stack.push_async_callback(holding.close)
        follower = Follower(holding, settings, metrics, link, lost)
        await follower.begin(start.plan)

        async def may_listen() -> None:
            await link.may_listen()
            # Those that came while it loaded.
            while not link.plans.empty():
                await follower.follow(link.plans.get_nowait())

        await stack.enter_async_context(running(shared, holding, may_listen, link.leave, start.sockets.own))
        settle_memory()
        link.tell(Ready())
        stack.enter_context(_following(follower))
        with watched_loop(settings.stall_seconds):
            await first_of(link.drain, lost)
    if lost.is_set():
        raise EngineFailed


@contextmanager
def _following(follower: "Follower") -> Iterator[None]:
    task = asyncio.create_task(follower.run())
    try:
        yield
    finally:
        task.cancel()


class Follower:
    """Does what plans say, one after the other."""

    def __init__(self, holding: Holding, settings: Settings, metrics: Metrics, link: Link, lost: asyncio.Event) -> None:
        self._holding = holding
        self._settings = settings
        self._metrics = metrics
        self._link = link
        self._lost = lost
        self._leaving: set[asyncio.Task[None]] = set()
        self._plan: Plan
        """The latest one."""
        self._lacks = False
        """Whether a release of it could not be loaded."""

    async def begin(self, plan: Plan) -> None:
        """The plan of the start. Raises StartupError if the stable release does not load."""
        (stable,) = (release for release in plan.releases if release.number == plan.stable)
        await self._load(stable, beside=False)
        await self.follow(plan)

    async def run(self) -> None:
        while True:
            plan = self._plan
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS if self._lacks else None):
                    plan = await self._link.plans.get()
            await self.follow(plan)

    async def follow(self, plan: Plan) -> None:
        self._plan, failed = plan, ""
        for release in plan.releases:
            if release.number not in self._holding.versions:
                try:
                    await self._load(release)
                except StartupError as error:
                    failed = str(error)
                # Whatever it is: what is served goes on.
                except Exception as error:
                    log.exception("release not loaded", folder=release.folder)
                    failed = f"it cannot be loaded: {type(error).__name__}; the log has more"
        if plan.stable in self._holding.versions:
            self._holding.route(plan.stable, plan.canary, plan.share)
        self._lacks = bool(failed)
        told = CannotFollow(plan.serial, failed) if failed else Follows(plan.serial, self._holding.versions)
        self._link.tell(told)
        for number in self._holding.others([release.number for release in plan.releases]):
            task = asyncio.create_task(self._let_go(number))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _load(self, release: PlannedRelease, *, beside: bool = True) -> None:
        settings = self._settings.model_copy(update={"bundle": release.folder})

        async def opened(stack: AsyncExitStack) -> EngineHandle:
            backend = await opened_backend(settings, release.sockets, self._metrics, self._lost, stack, beside=beside)
            if release.version not in ("", backend.bundle.version):
                raise StartupError(
                    f"bundle refused: {release.version} is served, and {release.folder} holds {backend.bundle.version} now:"
                    " a bundle's folder must not change while it is served"
                )
            return backend

        block = release.block and settings.scenario_replay == "block"
        await self._holding.load(release.number, opened, block=block)

    async def _let_go(self, number: int) -> None:
        await self._holding.let_go(number, self._settings.drain_seconds)
        settle_memory()


class _Supervisor:
    """Changes what is served."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def ask(self, request: Message) -> Sequence[pb.Release]:
        data = await self._link.ask(request.DESCRIPTOR.name, request.SerializeToString())
        return pb.ListReleasesResponse.FromString(data).releases


async def opened_backend(
    settings: Settings,
    sockets: Sequence[str],
    metrics: Metrics,
    lost: asyncio.Event,
    stack: AsyncExitStack,
    *,
    beside: bool = False,
) -> EngineHandle:
    """Engine hosts that listen on `sockets`, or, without any, an engine in this process. `beside`: while calls are answered."""
    if not sockets:
        # Imported here: a front end without an engine needs no ONNX Runtime.
        from steersman_service.processes.engine_host import open_engine

        engine, batcher = await stack.enter_async_context(
            open_engine(settings, metrics, lost, inline=True, beside=beside)
        )
        return EngineHandle(engine.bundle, batcher, engine.backend.name, engine.backend.device)
    read = partial(load_bundle, settings.bundle_folder, settings.backend, settings.bundle_keys)
    bundle = await asyncio.to_thread(read) if beside else read()
    pool = EnginePool([Path(socket) for socket in sockets])
    stack.callback(pool.close)
    try:
        async with asyncio.timeout(CONNECT_SECONDS if beside else None):
            hello = await pool.connect(bundle.version)
    except TimeoutError:
        raise StartupError(f"bundle refused: its engine host has not answered for {CONNECT_SECONDS:g} s") from None
    return EngineHandle(bundle, pool, hello.backend, hello.device)


if __name__ == "__main__":
    run_child(serve, "front_end")
