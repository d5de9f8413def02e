"""The one error of calls, and how it is read from what a server sends."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from steersman.v1.recommendation_service_pb2 import RequestFailure
from steersman_client.status import Status

NOTHING: Mapping[str, str] = MappingProxyType({})
# google.rpc.Code, from 0.
CODES = (
    *(
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
    ),
    *(
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
    ),
    *("DATA_LOSS", "UNAUTHENTICATED"),
)


@dataclass(eq=False)
class CallError(Exception):
    """A call was refused, or not answered."""

    code: str
    """Name of the gRPC status: "INVALID_ARGUMENT"."""
    message: str
    reason: str = ""
    """For programs: "QUEUE_FULL". Empty if no Steersman answered (no server, a deadline that passed on the way)."""
    fields: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """What is wrong with each field, by its path from the request: "controls[0].concept"."""
    metadata: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """More for programs: "replacement_id" of a feature of another bundle."""
    retry_seconds: float | None = None
    """When the call may be sent again. None: not said."""

    def __str__(self) -> str:
        said = "; ".join(f"{path}: {why}" for path, why in self.fields.items()) or self.message
        return f"{self.code}: {said}"

    @classmethod
    def of_call(cls, code: str, message: str, trailers: Iterable[tuple[str, Any]], target: str, why: str = "") -> Self:
        """From a call's code, details and trailing metadata. `why`: what an UNAVAILABLE means, if that is known."""
        data = next((value for key, value in trailers if key == "grpc-status-details-bin"), None)
        if data is None:
            return cls(code, _explained(code, message, target, why))
        status = Status.parse(data)
        return cls(code, status.message, status.reason, status.fields, status.metadata, status.retry_seconds)

    @classmethod
    def of(cls, failure: RequestFailure) -> Self:
        """Of one request of a batch."""
        code = CODES[failure.code] if 0 <= failure.code < len(CODES) else "UNKNOWN"
        fields = {wrong.field: wrong.description for wrong in failure.fields}
        retry = failure.retry_seconds or None
        return cls(code, failure.message, failure.reason, fields, dict(failure.metadata), retry)


def _explained(code: str, message: str, target: str, why: str) -> str:
    if code == "UNAVAILABLE" and why:
        return f"{target}: {why}. gRPC says: {message}"
    if code == "UNAVAILABLE":
        return f"no server answers at {target} (steersman serve starts one). gRPC says: {message}"
    if code == "DEADLINE_EXCEEDED":
        return f"no answer from {target} in time; Client(timeout=...) allows more. gRPC says: {message}"
    if code == "CANCELLED":
        return f"the server at {target} is stopping, or has more calls waiting than it takes: try again later"
    if code == "UNIMPLEMENTED":
        return f"the server at {target} has no such call: it is older than this client. gRPC says: {message}"
    return message
