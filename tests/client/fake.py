"""A server that has every RPC of the contract, answers what it is told, and remembers what it was asked."""

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import steersman_client  # noqa: F401  the contract is in the pool once it is imported

PACKAGE = "steersman.v1"
SERVICES = (
    *("RecommendationService", "ExplanationService", "SessionService"),
    *("FeatureService", "ItemService", "ModelService", "ScenarioService", "ReleaseService"),
)


class Asked(NamedTuple):
    method: str
    request: Any
    metadata: dict[str, str]


class Failing(NamedTuple):
    """An answer that is an error."""

    code: grpc.StatusCode
    trailers: tuple[tuple[str, str], ...] = ()


def contract() -> dict[str, tuple[type[Message], type[Message]]]:
    """Request and answer of every method, by "Service/Method"."""
    found = {}
    for service in SERVICES:
        for method in descriptor_pool.Default().FindServiceByName(f"{PACKAGE}.{service}").methods:
            found[f"{service}/{method.name}"] = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    return found


class FakeServer:
    """What is not told otherwise is answered with an empty message."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, list[Message | Failing]] = defaultdict(list)
        """By method, those to come; the last one stays."""
        self.may_answer = threading.Event()
        """Cleared, it holds all answers back."""
        self.may_answer.set()
        self._server = grpc.server(ThreadPoolExecutor(4))
        methods = contract()
        for service in SERVICES:
            handlers = {
                name.split("/")[1]: self._handler(name, *classes)
                for name, classes in methods.items()
                if name.startswith(f"{service}/")
            }
            generic = grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", handlers)
            self._server.add_generic_rpc_handlers((generic,))
        where = "127.0.0.1:0"
        add = self._server.add_insecure_port
        self.port = self._server.add_secure_port(where, credentials) if credentials else add(where)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Any]:
        return [asked.request for asked in self.asked]

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.may_answer.set()
        self._server.stop(0).wait()

    def _handler(self, name: str, request: type[Message], answer: type[Message]) -> "grpc.RpcMethodHandler[Any, Any]":
        def handle(message: Message, context: Any) -> Message:
            self.asked.append(Asked(name, message, dict(context.invocation_metadata())))
            self.may_answer.wait(60)
            waiting = self.answers[name]
            told = (waiting.pop(0) if len(waiting) > 1 else waiting[0]) if waiting else answer()
            if isinstance(told, Failing):
                context.set_trailing_metadata(told.trailers)
                context.abort(told.code, "as told")
            return told  # type: ignore[return-value]

        return grpc.unary_unary_rpc_method_handler(handle, request.FromString, answer.SerializeToString)
