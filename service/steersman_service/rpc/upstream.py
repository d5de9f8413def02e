"""The gRPC port as a gateway calls it: bytes in, bytes or an error out."""

from collections.abc import Iterable, Sequence
from random import getrandbits
from typing import Any
from urllib.parse import quote

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
# Several addresses are called by turns, those that do not answer left out.
ROUND_ROBIN = ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')
# Says that a call is not the gateway's own, so that its certificate does not count as the caller's.
VIA = ("steersman-via", "http")
DETAILS = "grpc-status-details-bin"
HEALTH = "/grpc.health.v1.Health/Check"
HEALTH_SECONDS = 3.0
# gRPC takes a deadline far beyond for one that has passed.
LONGEST_SECONDS = 1e8


def unix_target(paths: Iterable[str]) -> str:
    """What listens on Unix sockets, as gRPC takes it."""
    return f"unix:{','.join(map(quote, paths))}"


class Upstream:
    """Calls one server, or several by turns: those of its addresses that answer."""

    def __init__(
        self,
        target: str,
        options: Sequence[tuple[str, Any]] = (),
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """`target` and `options` as gRPC takes them; without `credentials` there is no TLS. Needs a running event loop."""
        every = [
            ROUND_ROBIN,
            ("grpc.initial_reconnect_backoff_ms", LEAST_BACKOFF_MS),
            ("grpc.min_reconnect_backoff_ms", MOST_BACKOFF_MS),
            ("grpc.max_reconnect_backoff_ms", MOST_BACKOFF_MS),
            # The server bounds its answers.
            ("grpc.max_receive_message_length", UNBOUNDED),
            *options,
        ]
        self._channel = (
            grpc.aio.insecure_channel(target, every)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, every)
        )
        self._methods: dict[str, Any] = {}

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

    async def serves(self, service: str) -> bool:
        """What its health says of a service; empty: of the server as a whole."""
        request = HealthCheckRequest(service=service).SerializeToString()
        answer = await self.call(HEALTH, request, HEALTH_SECONDS, ())
        serving = HealthCheckResponse.SERVING
        return isinstance(answer, bytes) and HealthCheckResponse.FromString(answer).status == serving

    async def close(self) -> None:
        await self._channel.close()

    def _method(self, path: str) -> Any:
        if path not in self._methods:
            self._methods[path] = self._channel.unary_unary(path)
        return self._methods[path]


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
