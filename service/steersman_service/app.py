"""Assembles a front end, and takes it down in the order that loses nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from steersman_service.api.handlers import SERVICES, Shared
from steersman_service.api.holding import Holding
from steersman_service.api.releases import ReleaseControl
from steersman_service.certificates import Certificates, watched
from steersman_service.errors import StartupError
from steersman_service.identity.authenticator import Authenticator
from steersman_service.rpc.admission import ENGINE_SERVICES, Admission
from steersman_service.rpc.credentials import server_credentials
from steersman_service.rpc.doors import Doors
from steersman_service.rpc.interceptor import CallInterceptor
from steersman_service.rpc.reflection import add_reflection
from steersman_service.rpc.services import PACKAGE, add_services
from steersman_service.rpc.threads import patient
from steersman_service.rpc.unseen import Received, count_unseen
from steersman_service.rpc.upstream import unix_target
from steersman_service.scheduling.events import first_of
from steersman_service.secret_settings import secret
from steersman_service.sessions.pipeline import Durability
from steersman_service.sessions.quotas import Limits
from steersman_service.sessions.store import SessionStore
from steersman_service.settings import Settings
from steersman_service.telemetry.metrics import Metrics

STORE_SERVICES = (f"{PACKAGE}.SessionService", f"{PACKAGE}.ScenarioService")
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
CHECK_SECONDS = 1.0
# What a finished call may take to send its answer.
LAST_ANSWERS_SECONDS = 0.5
# A connection that says nothing, or not what HTTP/2 begins with.
HANDSHAKE_MS = 10_000
# Pings of a client without a call: no closer than this, or it is sent away after the third. Left to itself, gRPC takes one each two hours:
# proxies that look each second whether a server is there would lose their connections.
LEAST_PING_MS, MOST_PING_STRIKES = 500, 2
# A caller that vanished while its calls run is found by a ping: so long after its last word, and so long without an answer.
KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS = 60_000, 20_000
# How long gRPC's core holds calls until the event loop takes them: left to itself, it cancels them after 30 s. A deadline ends them sooner.
LONGEST_WAIT_SECONDS = 3600
LARGEST_INT32 = 2**31 - 1

log = structlog.get_logger()


@asynccontextmanager
async def shared_by_releases(settings: Settings, metrics: Metrics, control: ReleaseControl) -> AsyncIterator[Shared]:
    """With the store of `redis_url`. Raises StartupError."""
    assert settings.redis_url
    try:
        store = SessionStore(
            secret(settings.redis_url),
            max_events=settings.max_session_events,
            ttl_seconds=settings.session_ttl_seconds,
            timeout_seconds=settings.redis_timeout_seconds,
            metrics=metrics,
            max_exposures=settings.exposure_stream_events,
            durability=Durability(settings.redis_wait_replicas, settings.redis_wait_ms),
            limits=Limits(settings.max_tenant_sessions, settings.max_tenant_session_bytes),
        )
    except ValueError as error:
        raise StartupError(f"settings: redis_url: {error}") from error
    try:
        yield Shared.of(settings, metrics, store, control)
    finally:
        await store.close()


@asynccontextmanager
async def running(
    shared: Shared,
    holding: Holding,
    may_listen: Callable[[], Awaitable[None]] | None = None,
    leave: asyncio.Event | None = None,
    inside: str = "",
) -> AsyncIterator[int]:
    """A front end that is ready; gives its port. What is started first is stopped last: calls drain while all they need is up.

    `holding` has a stable release. With `may_listen` the port is shared, and calls are taken when that returns. From `leave` on, health
    says NOT_SERVING, and calls are taken as before. `inside` is a Unix socket on which calls are taken, too, without TLS, and whose
    place it takes if there is one. Raises StartupError.
    """
    settings, metrics = shared.settings, shared.metrics
    async with AsyncExitStack() as stack:
        authenticator = Authenticator(settings.identity_options)
        await authenticator.refresh()
        calls = CallInterceptor(
            metrics,
            slow_seconds=settings.slow_call_ms / 1e3,
            admission=Admission(
                settings.max_calls,
                _most_engine_calls(settings),
                settings.max_streams,
                lambda: holding.channels.stable.engines.wait_seconds,
            ),
            max_message_bytes=settings.max_message_bytes,
            deadline_seconds=settings.default_deadline_ms / 1e3,
            doors=Doors(authenticator, settings.reflection),
        )
        with patient():
            server = grpc.aio.server(interceptors=[calls], options=_options(settings, shared=may_listen is not None))
        received = Received()
        stack.push_async_callback(server.stop, None)
        certificates = await stack.enter_async_context(watched(settings.tls_files, metrics))
        add_services(server, SERVICES, holding.channels.behaviour, metrics)
        health = await _add_health(server, reflection=settings.reflection != "off")
        unseen = count_unseen(received.calls, lambda: calls.seen, metrics.unseen)
        await stack.enter_async_context(_in_background(authenticator.follow(), unseen))
        await stack.enter_async_context(_watched(shared.store, holding, health, metrics))
        if may_listen is not None:
            await may_listen()
        port = _listen(server, settings, certificates)
        with _inside(server, inside):
            await server.start()
        metrics.ready(True)
        stack.push_async_callback(_drain, server, calls, settings.drain_seconds)
        stack.push_async_callback(health.enter_graceful_shutdown)
        stack.callback(metrics.ready, False)
        stack.push_async_callback(holding.calm)
        if leave is not None:
            await stack.enter_async_context(_in_background(_left(leave, health, metrics)))
        yield port


def _most_engine_calls(settings: Settings) -> int:
    """What the queues of all engines hold, and two batches of each: one that is computed, one on its way."""
    return max(1, settings.engine_count) * (settings.queue_size + 2 * settings.max_batch)


def _options(settings: Settings, *, shared: bool) -> list[tuple[str, int]]:
    options = [
        # Where it is on, a second server shares the port in silence.
        ("grpc.so_reuseport", int(shared)),
        # Twice of what is taken: what the core refuses itself is neither counted nor logged.
        ("grpc.max_receive_message_length", min(2 * settings.max_message_bytes, LARGEST_INT32)),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.server.max_pending_requests", settings.max_waiting_calls),
        ("grpc.server.max_pending_requests_hard_limit", settings.max_waiting_calls),
        ("grpc.server_max_unrequested_time_in_server", LONGEST_WAIT_SECONDS),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        # More than are taken: a client that is just below what the core allows gets resets, which say nothing.
        ("grpc.max_concurrent_streams", min(2 * settings.max_calls + settings.max_streams, LARGEST_INT32)),
        ("grpc.max_connection_idle_ms", min(int(1e3 * settings.max_connection_idle_seconds), LARGEST_INT32)),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_ping_strikes", MOST_PING_STRIKES),
    ]
    if settings.max_connection_age_seconds is not None:
        options.append(("grpc.max_connection_age_ms", int(1e3 * settings.max_connection_age_seconds)))
        options.append(("grpc.max_connection_age_grace_ms", int(1e3 * settings.drain_seconds)))
    return options


def _listen(server: grpc.aio.Server, settings: Settings, certificates: Certificates | None) -> int:
    address = f"{settings.host}:{settings.port}"
    try:
        if certificates is None:
            return server.add_insecure_port(address)
        credentials = server_credentials(certificates, demanding=settings.demands_certificates("grpc"))
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise StartupError(f"cannot listen on {address}; is another server running there?") from error


@contextmanager
def _inside(server: grpc.aio.Server, path: str) -> Iterator[None]:
    """Listens on a Unix socket, too, which has its name when this ends: that of a process before, if there was one.

    gRPC removes a name that it made when the server ends, and by then this one may be that of the next process."""
    if not path:
        yield
        return
    own = f"{path}.{os.getpid()}"
    server.add_insecure_port(unix_target([own]))
    yield
    os.rename(own, path)


async def _add_health(server: grpc.aio.Server, *, reflection: bool) -> health_aio.HealthServicer:
    """Health per service. The server as a whole ("") is alive without Redis and without an engine."""
    health = health_aio.HealthServicer()
    names = [f"{PACKAGE}.{service}" for service in SERVICES]
    for name in names:
        await health.set(name, SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if reflection:
        add_reflection((*names, HEALTH), server)
    return health


@asynccontextmanager
async def _watched(
    store: SessionStore, holding: Holding, health: health_aio.HealthServicer, metrics: Metrics
) -> AsyncIterator[None]:
    """The health of services that need the store follows it, that of services that ask engines theirs. Labels are kept fresh."""

    async def watch_engines() -> None:
        channels = holding.channels
        while True:
            engines = channels.stable.engines
            engines.changed.clear()
            channels.changed.clear()
            for service in ENGINE_SERVICES:
                await health.set(service, SERVING if engines.alive else NOT_SERVING)
            await first_of(engines.changed, channels.changed)

    async def watch_store() -> None:
        while True:
            usable = await store.usable()
            metrics.redis_up(usable)
            for service in STORE_SERVICES:
                await health.set(service, SERVING if usable else NOT_SERVING)
            await asyncio.sleep(CHECK_SECONDS)

    async with _in_background(watch_engines(), watch_store(), holding.refresh_labels()):
        yield


@asynccontextmanager
async def _in_background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Cancels it at the end. It ends before by a fault alone, which is logged."""
    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(_tell_fault)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("work beside the calls has ended", exc_info=error)


async def _left(leave: asyncio.Event, health: health_aio.HealthServicer, metrics: Metrics) -> None:
    await leave.wait()
    metrics.ready(False)
    await health.enter_graceful_shutdown()


async def _drain(server: grpc.aio.Server, calls: CallInterceptor, seconds: float) -> None:
    """Takes no new calls and waits for those in flight. Streams that watch health would never end by themselves."""
    stopping = asyncio.create_task(server.stop(seconds))
    await calls.idle()
    await server.stop(min(seconds, LAST_ANSWERS_SECONDS))
    await stopping
