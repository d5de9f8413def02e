"""Assembles the server, and takes it down in the order that loses nothing."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple

import grpc
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from steersman.v1 import feature_service_pb2_grpc as feature_grpc
from steersman.v1 import item_service_pb2_grpc as item_grpc
from steersman.v1 import model_service_pb2_grpc as model_grpc
from steersman.v1 import recommendation_service_pb2_grpc as recommendation_grpc
from steersman.v1 import session_service_pb2_grpc as session_grpc
from steersman_service.api.features import FeatureService
from steersman_service.api.items import ItemService
from steersman_service.api.list_change import ListChange
from steersman_service.api.model import ModelService
from steersman_service.api.recommendation import RecommendationService
from steersman_service.api.sessions import SessionService
from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Items
from steersman_service.bundle.replacement import Replacements
from steersman_service.engine.engine import Engine
from steersman_service.engine.loading import load_engine
from steersman_service.errors import ServerFailed, StartupError
from steersman_service.processes.engine_process import EngineProcess
from steersman_service.processes.stall import TICK_SECONDS, StallClock, cpu_of_thread, watched_loop
from steersman_service.processes.threads import patient
from steersman_service.rpc.calls import CallInterceptor
from steersman_service.rpc.reflection import add_reflection
from steersman_service.scheduling.batcher import Batcher
from steersman_service.scheduling.remote_engine import RemoteEngine
from steersman_service.sessions.reader import SessionReader
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.settings import Settings
from steersman_service.steering.controls import ControlReader
from steersman_service.telemetry.metrics import Metrics

PACKAGE = "steersman.v1"
SERVICES = ("RecommendationService", "SessionService", "FeatureService", "ItemService", "ModelService")
SESSION_SERVICE = f"{PACKAGE}.SessionService"
STORE_CHECK_SECONDS = 1.0
# What a finished call may take to send its answer.
LAST_ANSWERS_SECONDS = 0.5
# Calls in flight beside those that the queue takes: most of them wait for the session store.
MOST_OTHER_CALLS = 4096
# Calls that gRPC's core holds until the event loop takes them, and how long. Beyond, it cancels calls that nobody here hears of: left to
# itself from 1,000 on, or after 30 s. A deadline ends them sooner.
MOST_PENDING, LONGEST_PENDING_SECONDS = 100_000, 3600
LARGEST_INT32 = 2**31 - 1
# How long a thread keeps the interpreter from another one that wants it. With Python's own 5 ms, the engine's thread waits as long for the
# event loop's after each graph that it has run.
SWITCH_SECONDS = 0.0005

log = structlog.get_logger()


class Ports(NamedTuple):
    """Where a running server listens."""

    grpc: int
    metrics: int
    """0 if there are none."""
    engine_lost: asyncio.Event
    """Set when the engine's process has ended by itself, or the engine stands still.

    The server answers nothing that needs it, and has to end.
    """


class Membership(NamedTuple):
    """What a server that is one of several workers has of its supervisor."""

    metrics: Metrics
    """They go to the supervisor, which serves those of all workers."""
    may_listen: Callable[[], Awaitable[None]]
    """Waits until the other workers are loaded, too: who listens first would get every connection, and keep it."""
    engine: socket.socket | None = None
    """Leads to the engine that the workers share."""


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM, SIGINT or SIGHUP, then drains. Raises StartupError if it cannot start, ServerFailed if it cannot go on."""
    settle()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup's servers outlive a terminal
            loop.add_signal_handler(number, stop.set)
    async with running(settings) as ports:
        metrics = f"{settings.metrics_host}:{ports.metrics}" if ports.metrics else "off"
        log.info("ready", address=f"{settings.host}:{ports.grpc}", metrics=metrics)
        with watched_loop(settings.stall_seconds):
            await first_of(stop, ports.engine_lost)
        log.info("draining", at_most_seconds=settings.drain_seconds)
    log.info("stopped")
    if ports.engine_lost.is_set() and not stop.is_set():
        raise ServerFailed(
            "the engine is lost: its process ended by itself (killed, out of memory or of order), or it stood still; the log says which"
        )


async def first_of(*events: asyncio.Event) -> None:
    """Returns when one of them is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def settle() -> None:
    """What a process that does nothing but serve sets for itself."""
    sys.setswitchinterval(SWITCH_SECONDS)


@asynccontextmanager
async def running(settings: Settings, membership: Membership | None = None) -> AsyncIterator[Ports]:
    """A server that is ready. What is started first is stopped last: calls drain while everything they need is up.

    With a membership it is one worker of several, which share the port and a session store.
    """
    metrics = membership.metrics if membership else Metrics(collected=settings.metrics == "on")
    async with AsyncExitStack() as stack:
        most_calls = settings.queue_size + MOST_OTHER_CALLS
        calls = CallInterceptor(
            metrics,
            slow_seconds=settings.slow_call_ms / 1e3,
            most_calls=most_calls,
            max_message_bytes=settings.max_message_bytes,
            deadline_seconds=settings.default_deadline_ms / 1e3,
        )
        with patient():
            server = grpc.aio.server(interceptors=[calls], options=_options(settings, shared=membership is not None))
        stack.push_async_callback(server.stop, None)
        grpc_port = metrics_port = 0
        if membership is None:
            # The port is taken before the work of loading, and refused to a second server; calls wait until the start.
            grpc_port = _listen(server, settings)
            metrics_port = stack.enter_context(metrics.exposed(settings.metrics_host, settings.metrics_port))
        engine_lost = asyncio.Event()
        shared_engine = membership.engine if membership else None
        if shared_engine:
            engine: Engine | RemoteEngine = await _join_engine(shared_engine, settings, metrics, engine_lost, stack)
        else:
            engine = await _open_engine(settings, metrics, engine_lost, stack)
        _tell_bundle(engine, metrics)
        store, valkey = await _open_store(settings, engine.bundle, metrics, stack)
        batcher = Batcher(
            engine,
            queue_size=settings.queue_size,
            max_batch=settings.max_batch,
            batch_seconds=settings.batch_ms / 1e3,
            on_batch=metrics.batch,
            alone=lambda: calls.running <= 1,
        )
        stack.push_async_callback(batcher.close)
        if batcher.thread is not None:
            stack.callback(asyncio.create_task(_watch_thread(batcher, engine, settings, engine_lost)).cancel)
        metrics.watch_queue(lambda: batcher.depth, settings.queue_size)
        list_change = ListChange(batcher, settings.list_change_sample, metrics.list_change)
        sessions = _add_services(server, engine, batcher, store, settings, metrics, list_change)
        stack.push_async_callback(sessions.close)
        health = await _add_health(server)
        await stack.enter_async_context(_watched(store, valkey, health, metrics))
        if membership is not None:
            await membership.may_listen()
            grpc_port = _listen(server, settings)
        # What was loaded stays: to look through it for garbage, again and again, would hold up calls.
        gc.collect()
        gc.freeze()
        await server.start()
        metrics.ready(True)
        stack.push_async_callback(_drain, server, calls, settings.drain_seconds)
        stack.push_async_callback(list_change.close)
        stack.push_async_callback(health.enter_graceful_shutdown)
        stack.callback(metrics.ready, False)
        yield Ports(grpc_port, metrics_port, engine_lost)


def _options(settings: Settings, *, shared: bool) -> list[tuple[str, int]]:
    options = [
        # Where it is on, a second server shares the port in silence.
        ("grpc.so_reuseport", int(shared)),
        # Twice of what is taken: what the core refuses itself is neither counted nor logged.
        ("grpc.max_receive_message_length", min(2 * settings.max_message_bytes, LARGEST_INT32)),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.server.max_pending_requests", MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", MOST_PENDING),
        ("grpc.server_max_unrequested_time_in_server", LONGEST_PENDING_SECONDS),
    ]
    if settings.max_connection_age_seconds is not None:
        options.append(("grpc.max_connection_age_ms", int(1e3 * settings.max_connection_age_seconds)))
        options.append(("grpc.max_connection_age_grace_ms", int(1e3 * settings.drain_seconds)))
    return options


def _listen(server: grpc.aio.Server, settings: Settings) -> int:
    address = f"{settings.host}:{settings.port}"
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise StartupError(f"cannot listen on {address}; is another server running there?") from error


async def _open_engine(
    settings: Settings, metrics: Metrics, lost: asyncio.Event, stack: AsyncExitStack
) -> Engine | RemoteEngine:
    engine: Engine | RemoteEngine
    if settings.engine_kind == "thread":
        engine = load_engine(settings, metrics)
    else:
        # Both sides read the same bundle, even if the link is turned elsewhere meanwhile.
        settings = settings.model_copy(update={"bundle": settings.bundle_folder.resolve(), "engine": "process"})
        process = EngineProcess.start(settings)
        stack.push_async_callback(process.close)
        bundle = load_bundle(settings.bundle_folder, settings.backend)  # meanwhile, the process does the same
        await process.loaded()
        engine = await RemoteEngine.open(process.connect(), bundle, metrics, lost)
        stack.callback(engine.close)
        stack.callback(asyncio.create_task(process.watch(engine.abandon)).cancel)
        metrics.watch_process(process.pid)
    metrics.watch_kv_cache(lambda: engine.key_values.held_bytes)
    metrics.watch_state_cache(lambda: engine.states.held_bytes)
    return engine


async def _watch_thread(
    batcher: Batcher, engine: Engine | RemoteEngine, settings: Settings, lost: asyncio.Event
) -> None:
    """Until the engine in a thread stands still."""
    thread = batcher.thread
    assert thread is not None
    works = cpu_of_thread(thread) if engine.backend.device != "cuda" else lambda: 0.0
    clock = StallClock(settings.stall_seconds, works)
    while True:
        await asyncio.sleep(TICK_SECONDS)
        if clock.stalled(batcher.progress):
            break
    log.error("the engine stands still", seconds=settings.stall_seconds)
    batcher.abandon()
    lost.set()


async def _join_engine(
    connection: socket.socket, settings: Settings, metrics: Metrics, lost: asyncio.Event, stack: AsyncExitStack
) -> RemoteEngine:
    """It is the supervisor's, whom it tells itself what it does."""
    engine = await RemoteEngine.open(connection, load_bundle(settings.bundle_folder, settings.backend), metrics, lost)
    stack.callback(engine.close)
    return engine


def _tell_bundle(engine: Engine | RemoteEngine, metrics: Metrics) -> None:
    manifest = engine.bundle.manifest
    metrics.bundle(
        version=engine.bundle.version,
        bundle_format=f"{manifest.format_major}.{manifest.format_minor}",
        data=manifest.provenance.data,
        backend=engine.backend.name,
        device=engine.backend.device,
    )


async def _open_store(
    settings: Settings, bundle: Bundle, metrics: Metrics, stack: AsyncExitStack
) -> tuple[SessionStore, EmbeddedValkey | None]:
    if settings.max_session_events < bundle.manifest.window.length:
        raise StartupError(
            f"settings: max_session_events of {settings.max_session_events} is less than the bundle's window of"
            f" {bundle.manifest.window.length}: sessions would forget what the recommender has to see"
        )
    url, valkey = settings.redis_url, None
    if url is None:
        valkey = await asyncio.to_thread(EmbeddedValkey.start, settings.data / "valkey")
        stack.push_async_callback(asyncio.to_thread, valkey.stop)
        url = valkey.url
    try:
        store = SessionStore.connect(
            url,
            max_events=settings.max_session_events,
            ttl_seconds=settings.session_ttl_seconds,
            timeout_seconds=settings.redis_timeout_seconds,
            metrics=metrics,
        )
    except ValueError as error:
        raise StartupError(f"settings: redis_url: {error}") from error
    stack.push_async_callback(store.close)
    return store, valkey


def _add_services(
    server: grpc.aio.Server,
    engine: Engine | RemoteEngine,
    batcher: Batcher,
    store: SessionStore,
    settings: Settings,
    metrics: Metrics,
    list_change: ListChange,
) -> SessionReader:
    bundle = engine.bundle
    items = Items(bundle.items)
    catalogue = Catalogue(bundle, items)
    controls = ControlReader(
        bundle.version,
        catalogue,
        items,
        Replacements(bundle, catalogue),
        max_controls=settings.max_controls,
        max_strength=settings.max_strength,
    )
    sessions = SessionReader(
        store,
        items,
        max_events=settings.max_session_events,
        limit_bytes=settings.session_cache_mb << 20,
        bundle=bundle.version if _replicated(settings) else "",
        observe=metrics.session_read,
    )
    metrics.watch_session_cache(lambda: sessions.held_bytes)
    recommendation = RecommendationService(
        bundle, items, catalogue, controls, batcher, sessions, settings, metrics, list_change
    )
    recommendation_grpc.add_RecommendationServiceServicer_to_server(recommendation, server)
    session = SessionService(store, controls, settings.max_events_per_append)
    session_grpc.add_SessionServiceServicer_to_server(session, server)
    feature = FeatureService(bundle.version, catalogue, controls, settings.max_message_bytes)
    feature_grpc.add_FeatureServiceServicer_to_server(feature, server)
    items_service = ItemService(bundle, items, settings.max_message_bytes)
    item_grpc.add_ItemServiceServicer_to_server(items_service, server)
    model = ModelService(bundle, items, engine.backend.name, engine.backend.device, settings)
    model_grpc.add_ModelServiceServicer_to_server(model, server)
    for name in (f"{PACKAGE}.{service}" for service in SERVICES):
        for method in descriptor_pool.Default().FindServiceByName(name).methods:
            metrics.calls("unary", name, method.name)
    return sessions


def _replicated(settings: Settings) -> bool:
    """Whether another process may serve the same sessions, and could use the hidden states of this one."""
    return bool(settings.state_cache_mb) and (settings.redis_url is not None or settings.workers > 1)


async def _add_health(server: grpc.aio.Server) -> health_aio.HealthServicer:
    """Health per service. The server as a whole ("") is alive without Redis."""
    health = health_aio.HealthServicer()
    names = [f"{PACKAGE}.{service}" for service in SERVICES]
    for name in names:
        await health.set(name, HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    add_reflection((*names, HEALTH), server)
    return health


@asynccontextmanager
async def _watched(
    store: SessionStore, valkey: EmbeddedValkey | None, health: health_aio.HealthServicer, metrics: Metrics
) -> AsyncIterator[None]:
    """Lets the health of the SessionService follow the store's, and brings back an embedded Valkey that died."""
    closing = asyncio.Event()

    async def watch() -> None:
        while not closing.is_set():
            usable = await store.usable()
            metrics.redis_up(usable)
            status = HealthCheckResponse.SERVING if usable else HealthCheckResponse.NOT_SERVING
            await health.set(SESSION_SERVICE, status)
            if not usable:
                await _revive(valkey)
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), STORE_CHECK_SECONDS)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        # Not cancelled: a Valkey that is being started must not outlive the server.
        closing.set()
        await task


async def _revive(valkey: EmbeddedValkey | None) -> None:
    try:
        if valkey is not None:
            await asyncio.to_thread(valkey.revive)
    except StartupError as error:
        log.error("the embedded session store is down", error=str(error))


async def _drain(server: grpc.aio.Server, calls: CallInterceptor, seconds: float) -> None:
    """Takes no new calls and waits for those in flight. Streams that watch health would never end by themselves."""
    stopping = asyncio.create_task(server.stop(seconds))
    await calls.idle()
    await server.stop(min(seconds, LAST_ANSWERS_SECONDS))
    await stopping
