"""The gRPC port as a gateway calls it: bytes in, bytes or an error out."""

from collections.abc import Sequence
from itertools import cycle
from random import getrandbits
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from steersman_service.api.status import status_of
from steersman_service.errors import DeadlinePassed, InternalError, RequestError, ServerUnavailable
from steersman_service.telemetry.traces import traces

Metadata = Sequence[tuple[str, str]]

# A server that returns is found again within about this time, whatever it was away for.
MOST_BACKOFF_MS, LEAST_BACKOFF_MS = 1000, 100
UNBOUNDED = -1
# Says that a call is not the gateway's own, so that its certificate does not count as the caller's.
VIA = ("steersman-via", "http")
DETAILS = "grpc-status-details-bin"
HEALTH = "/grpc.health.v1.Health/Check"
READY_SERVICE = "steersman.v1.RecommendationService"
HEALTH_SECONDS = 3.0
# gRPC takes a deadline far beyond for one that has passed.
LONGEST_SECONDS = 1e8


class Upstream:
    """Calls a server at an address, over one or more connections by turns."""

    def __init__(self, target: str, options: Sequence[tuple[str, Any]] = (), connections: int = 1) -> None:
        """`target` and `options` as gRPC takes them. Needs a running event loop.

        Front ends that share a port share connections, not calls: `connections` is as many as there are front ends, or more.
        """
        every = [
            ("grpc.initial_reconnect_backoff_ms", LEAST_BACKOFF_MS),
            ("grpc.min_reconnect_backoff_ms", MOST_BACKOFF_MS),
            ("grpc.max_reconnect_backoff_ms", MOST_BACKOFF_MS),
            # The server bounds its answers.
            ("grpc.max_receive_message_length", UNBOUNDED),
            # Channels with the same arguments would share one connection.
            ("grpc.use_local_subchannel_pool", 1),
            *options,
        ]
        self._channels = [grpc.aio.insecure_channel(target, every) for _ in range(connections)]
        self._next = cycle(self._channels)
        self._methods: dict[tuple[grpc.aio.Channel, str], Any] = {}

    async def call(self, path: str, request: bytes, seconds: float | None, metadata: Metadata) -> bytes | Status:
        """The answer of "/package.Service/Method", or its error, with details and without a word of gRPC's own.

        `seconds`: the caller's deadline. Cancelling this cancels the call.
        """
        timeout = None if seconds is None else min(seconds, LONGEST_SECONDS)
        try:
            answer: bytes = await self._method(path)(
                request, timeout=timeout, metadata=(*metadata, VIA, *traces().header())
            )
        except grpc.aio.AioRpcError as error:
            return _status(error)
        return answer

    async def ready(self) -> bool:
        """Whether a call for items would be answered."""
        request = HealthCheckRequest(service=READY_SERVICE).SerializeToString()
        answer = await self.call(HEALTH, request, HEALTH_SECONDS, ())
        serving = HealthCheckResponse.SERVING
        return isinstance(answer, bytes) and HealthCheckResponse.FromString(answer).status == serving

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    def _method(self, path: str) -> Any:
        channel = next(self._next)
        if (channel, path) not in self._methods:
            self._methods[channel, path] = channel.unary_unary(path)
        return self._methods[channel, path]


def _status(error: grpc.aio.AioRpcError) -> Status:
    """The server's own status, or one in place of gRPC's, whose text may name addresses."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS:
            try:
                return Status.FromString(value)
            except DecodeError:
                break
    return status_of(_stand_in(error.code()), f"{getrandbits(128):032x}")


def _stand_in(code: grpc.StatusCode) -> RequestError:
    # It cancels what is still in flight when its drain ends.
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return ServerUnavailable()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlinePassed("the deadline passed before the server answered")
    return InternalError()
