"""A server between a load test and the real one, which may answer wrongly."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc

from steersman.v1.recommendation_service_pb2 import RecommendRequest, RecommendResponse
from steersman.v1.session_service_pb2 import AppendEventsRequest, AppendEventsResponse

RECOMMEND = "/steersman.v1.RecommendationService/Recommend"
APPEND = "/steersman.v1.SessionService/AppendEvents"
Recommend = Callable[[RecommendRequest], RecommendResponse]
Append = Callable[[AppendEventsRequest], AppendEventsResponse]


class Refused(Exception):
    """To be answered with RESOURCE_EXHAUSTED."""


class Proxy(grpc.GenericRpcHandler):
    """Hands every call on as it is, but for those of a run that a test takes over (preparation and audit are not)."""

    def __init__(self, target: str) -> None:
        self.answers: Callable[[RecommendRequest, Recommend], RecommendResponse] | None = None
        """Answers a Recommend of a run; it gets the request, and the honest way to answer one."""
        self.appends: Callable[[AppendEventsRequest, Append], AppendEventsResponse] | None = None
        """Answers an AppendEvents."""
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(ThreadPoolExecutor(16), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()
        self._channel.close()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        method = handler_call_details.method
        honest: Any = self._channel.unary_unary(method)

        def call(data: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                return self._answer(method, data, honest)
            except Refused:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

        return grpc.unary_unary_rpc_method_handler(call)

    def _answer(self, method: str, data: bytes, honest: Any) -> bytes:
        if method == RECOMMEND and self.answers:
            request = RecommendRequest.FromString(data)
            if request.request_id:
                return self.answers(
                    request, lambda request: RecommendResponse.FromString(honest(request.SerializeToString()))
                ).SerializeToString()
        if method == APPEND and self.appends:
            return self.appends(
                AppendEventsRequest.FromString(data),
                lambda request: AppendEventsResponse.FromString(honest(request.SerializeToString())),
            ).SerializeToString()
        answer: bytes = honest(data)
        return answer
