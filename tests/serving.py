"""Starts the real server for tests, and reads what its errors say."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import uvloop
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pydantic import SecretStr

from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.item_service_pb2_grpc import ItemServiceStub
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.scenario_service_pb2_grpc import ScenarioServiceStub
from steersman.v1.session_service_pb2_grpc import SessionServiceStub
from steersman_service.api.handlers import EngineHandle
from steersman_service.api.holding import Holding
from steersman_service.api.releases import OneRelease
from steersman_service.app import running, shared_by_releases
from steersman_service.bundle.files import read_manifest
from steersman_service.processes.front_end import opened_backend
from steersman_service.processes.store import embedded_store
from steersman_service.secret_settings import secret
from steersman_service.settings import Settings
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics


class Ports(NamedTuple):
    """Of a server in this process."""

    grpc: int
    metrics: int
    engine_lost: asyncio.Event


class Running(NamedTuple):
    """A server, and stubs that talk to it."""

    ports: Ports
    channel: grpc.Channel
    recommendation: RecommendationServiceStub
    session: SessionServiceStub
    feature: FeatureServiceStub
    model: ModelServiceStub
    item: ItemServiceStub
    scenario: ScenarioServiceStub
    stop: Callable[[], None]
    """Begins the drain, as a signal does."""


class Failure(NamedTuple):
    """What a call that failed told its caller."""

    code: grpc.StatusCode
    message: str
    reason: str
    fields: dict[str, str]
    metadata: dict[str, str]
    retry_seconds: float | None


def settings_for(data: Path, bundle: Path, **changes: Any) -> Settings:
    """Free ports, nothing outside of `data`, no further process, no work beside calls, and all the time that a busy machine takes."""
    return Settings(
        **{
            "port": 0,
            "metrics_port": 0,
            "data": data,
            "bundle": bundle,
            "inference_threads": 1,
            "engines": 0,
            "stall_seconds": float("inf"),
            "scenario_replay": "off",
            **changes,
        }
    )


@asynccontextmanager
async def in_process(settings: Settings) -> AsyncIterator[Ports]:
    """All that the processes of a server do, in this one."""
    metrics, lost = Metrics(collected=settings.metrics == "on"), asyncio.Event()
    async with AsyncExitStack() as stack:
        if settings.redis_url is None:
            url = await stack.enter_async_context(embedded_store(settings.data / "valkey"))
            settings = settings.model_copy(update={"redis_url": SecretStr(url)})
        folder = settings.bundle_folder.resolve()
        control = OneRelease(read_manifest(folder).version, folder.name)
        shared = await stack.enter_async_context(shared_by_releases(settings, metrics, control))
        holding = Holding(shared)
        stack.push_async_callback(holding.close)

        async def opened(engines: AsyncExitStack) -> EngineHandle:
            return await opened_backend(settings, [], metrics, lost, engines)

        await holding.load(1, opened, block=settings.scenario_replay == "block")
        holding.route(1)
        metrics_port = stack.enter_context(
            metrics.exposed(settings.metrics_host, settings.metrics_port, secret(settings.metrics_token))
        )
        port = await stack.enter_async_context(running(shared, holding))
        yield Ports(port, metrics_port, lost)


@contextmanager
def serving(settings: Settings, opened: Callable[[str], grpc.Channel] = grpc.insecure_channel) -> Iterator[Running]:
    """The server, on a thread and an event loop of its own, drained at the end. `opened` is how its address is called."""
    configure_logs("critical", "json")
    ready = threading.Event()
    box: dict[str, Any] = {}

    async def serve() -> None:
        stop = asyncio.Event()
        async with in_process(settings) as ports:
            loop = asyncio.get_running_loop()
            box.update(ports=ports, stop=lambda: loop.call_soon_threadsafe(stop.set))
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        except BaseException as error:
            box["error"] = error
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    if "error" in box:
        thread.join()
        raise box["error"]
    with opened(f"127.0.0.1:{box['ports'].grpc}") as channel:
        try:
            yield Running(
                box["ports"],
                channel,
                RecommendationServiceStub(channel),
                SessionServiceStub(channel),
                FeatureServiceStub(channel),
                ModelServiceStub(channel),
                ItemServiceStub(channel),
                ScenarioServiceStub(channel),
                box["stop"],
            )
        finally:
            if thread.is_alive():
                box["stop"]()
            thread.join()
    if "error" in box:
        raise box["error"]


def failure(call: Callable[[Any], Any], request: Any, **options: Any) -> Failure:
    """Makes a call that has to fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **options)
    return explain(caught.value)


def explain(error: Any) -> Failure:
    """Every error of the server carries details: one without them fails the test."""
    status = rpc_status.from_call(error)
    assert status is not None, f"{error.code()}: {error.details()} has no details"
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    retried = False
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        retried |= detail.Unpack(retry)
    assert info.domain == "steersman"
    fields = {violation.field: violation.description for violation in bad.field_violations}
    seconds = retry.retry_delay.ToNanoseconds() / 1e9 if retried else None
    return Failure(error.code(), error.details(), info.reason, fields, dict(info.metadata), seconds)
