"""Clients: over gRPC with the published retries, and over HTTP without any."""

import asyncio
import base64
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from bench.chaos.parts import ROOT
from bench.chaos.traffic import ANSWERS, Call

SERVICE_CONFIG: Path = ROOT / "proto" / "service_config.json"
# What a client that reconnects to one address waits at most.
RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
THREADS = 16
# Less than the gateway keeps an idle connection (75 s).
MOST_IDLE_SECONDS = 30.0


class CallFailed(NamedTuple):
    """A call without an answer."""

    code: str
    reason: str
    """Of the server. Empty if no Steersman said anything: the transport failed."""


class Caller(ABC):
    @abstractmethod
    async def call(self, call: Call, seconds: float) -> Message | CallFailed:
        """The answer, within a deadline."""

    @abstractmethod
    async def close(self) -> None: ...


class GrpcCaller(Caller):
    """A channel with a connection of its own."""

    def __init__(self, target: str, *, retries: bool = True) -> None:
        options: list[tuple[str, Any]] = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.lb_policy_name", "round_robin"),
            *RECONNECT,
        ]
        if retries:
            options.append(("grpc.service_config", SERVICE_CONFIG.read_text("utf-8")))
        self._channel = grpc.aio.insecure_channel(target, options)
        self._methods: dict[str, Any] = {
            method: self._channel.unary_unary(
                method,
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            for method, answer in ANSWERS.items()
        }

    async def call(self, call: Call, seconds: float) -> Message | CallFailed:
        try:
            answer: Message = await self._methods[call.method](call.request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            return _failed(error)
        return answer

    async def close(self) -> None:
        await self._channel.close()


def _failed(error: grpc.aio.AioRpcError) -> CallFailed:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = ErrorInfo()
    told = status is not None and any(detail.Unpack(info) for detail in status.details)
    return CallFailed(error.code().name, info.reason if told else "")


class HttpCaller(Caller):
    """Connections of HTTP/1.1 to a gateway, one a thread."""

    def __init__(self, address: str) -> None:
        """`address` is host:port."""
        self._address = address
        self._threads = ThreadPoolExecutor(THREADS)
        self._idle: list[tuple[HTTPConnection, float]] = []
        """With the time from which on it is idle, oldest first."""

    async def call(self, call: Call, seconds: float) -> Message | CallFailed:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._call, call, seconds)

    async def close(self) -> None:
        self._threads.shutdown()
        for connection, _ in self._idle:
            connection.close()

    def _call(self, call: Call, seconds: float) -> Message | CallFailed:
        connection = self._connection(seconds)
        try:
            connection.request(
                "POST", call.method, call.request.SerializeToString(), {"content-type": "application/proto"}
            )
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            return CallFailed("DEADLINE_EXCEEDED" if isinstance(error, TimeoutError) else "UNAVAILABLE", "")
        self._idle.append((connection, time.monotonic()))
        if response.status == 200:
            answer = ANSWERS[call.method]()
            answer.ParseFromString(body)
            return answer
        return _refused(body)

    def _connection(self, seconds: float) -> HTTPConnection:
        """One that is idle, or a new one. The gateway may close one that was idle for long just as a request is sent."""
        while self._idle:
            connection, since = self._idle.pop()
            if time.monotonic() - since < MOST_IDLE_SECONDS:
                return connection
            connection.close()
        return HTTPConnection(self._address, timeout=seconds)


def _refused(body: bytes) -> CallFailed:
    """From the error of Connect."""
    try:
        error = json.loads(body)
    except ValueError:
        return CallFailed("UNKNOWN", "")
    reason = ""
    for detail in error.get("details", ()):
        if detail.get("type") == ErrorInfo.DESCRIPTOR.full_name:
            data: str = detail["value"]
            reason = ErrorInfo.FromString(base64.b64decode(data + "=" * (-len(data) % 4))).reason
    return CallFailed(str(error.get("code", "unknown")).upper(), reason)


def grpc_callers(target: str, count: int) -> Sequence[Caller]:
    return [GrpcCaller(target) for _ in range(count)]
