"""What may go wrong, each with its gRPC status, and the one place where it becomes a `google.rpc.Status`."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "steersman"
# Details travel in trailers, and clients take 8 KiB of those.
MAX_VIOLATIONS = 8
# To look for the next one may cost more than it tells.
ENOUGH_VIOLATIONS = MAX_VIOLATIONS + 1
MAX_TEXT_BYTES = 400


class SteersmanError(Exception):
    """Root of the tree."""


class StartupError(SteersmanError):
    """The server cannot start. The message names the cause and the remedy; it is for the operator, not for callers."""


class ServerFailed(SteersmanError):
    """The server cannot go on. The message is for the operator."""


class LoadTestError(SteersmanError):
    """A load test cannot run, or cannot go on. The message names the cause and the remedy."""


class BundleError(StartupError):
    """A bundle that must not be served."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"bundle refused: {file}: {why}")
        self.file = file


class RequestError(SteersmanError):
    """A call that is answered with an error. The message goes to the caller as it is."""

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self, message: str, *, metadata: Mapping[str, str] | None = None, retry_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_seconds = retry_seconds


class Violation(NamedTuple):
    """A field of a request that is wrong."""

    field: str
    """Path from the request: `controls[2].strength`."""
    description: str
    """What is wrong and what would be right."""


class InvalidRequest(RequestError):
    """One or more fields are wrong."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"

    def __init__(self, violations: Sequence[Violation]) -> None:
        shown = [Violation(_shortened(v.field), _shortened(v.description)) for v in violations[:MAX_VIOLATIONS]]
        # Checks that cost something stop at ENOUGH_VIOLATIONS.
        count = f"{len(violations) - 1} more" if len(violations) <= MAX_VIOLATIONS else "more"
        more = f" (and {count})" if len(violations) > 1 else ""
        super().__init__(f"{shown[0].field}: {shown[0].description}{more}")
        self.violations = shown


def raise_if_any(violations: Sequence[Violation]) -> None:
    """Raises InvalidRequest."""
    if violations:
        raise InvalidRequest(violations)


class MalformedMessage(InvalidRequest):
    """The bytes of a request are no message of its type."""

    reason = "MALFORMED_MESSAGE"

    def __init__(self, method: str) -> None:
        """`method` is "/package.Service/Method"."""
        why = (
            f"the bytes are no request of {method}: they do not parse, or hold a text that is not UTF-8;"
            " use the .proto files of this server's version"
        )
        super().__init__([Violation("request", why)])


class MessageTooLarge(InvalidRequest):
    """A request of more bytes than are parsed."""

    reason = "MESSAGE_TOO_LARGE"

    def __init__(self, size: int, most: int) -> None:
        """Both in bytes."""
        super().__init__([Violation("request", f"{size} bytes; at most {most}")])


class UnknownMethod(RequestError):
    """There is no such method. What the caller named is not repeated: it goes to the log and to metrics, too."""

    status = grpc.StatusCode.UNIMPLEMENTED
    reason = "UNKNOWN_METHOD"

    def __init__(self) -> None:
        super().__init__("this server has no such method; its reflection lists the services that it has")


class StaleFeature(RequestError):
    """A feature reference of another bundle. The metadata carries the likely replacement where one is known."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "FEATURE_OF_ANOTHER_BUNDLE"


class NotFound(RequestError):
    status = grpc.StatusCode.NOT_FOUND
    reason = "NOT_FOUND"


class QueueFull(RequestError):
    """Overload, of which this caller's tenant has the largest share. `retry_seconds` is what the queue needs to drain."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"


class TooManyCalls(RequestError):
    """Overload before any queue: so many calls are under way that this one is not even parsed."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_CALLS"

    def __init__(self, *, retry_seconds: float = 1.0) -> None:
        super().__init__("too many calls are under way", retry_seconds=retry_seconds)


class DeadlineTooNear(RequestError):
    """Overload, for this caller: its deadline would pass while it waits. It is told at once, and computed for nobody."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "DEADLINE_TOO_NEAR"


class DeadlinePassed(RequestError):
    """The caller's deadline passed while the request waited: it was not computed."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_PASSED"


class StoreUnavailable(RequestError):
    """The session store does not answer. Nothing was acknowledged."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "SESSION_STORE_UNAVAILABLE"

    def __init__(self, message: str = "the session store is unavailable", *, retry_seconds: float = 1.0) -> None:
        super().__init__(message, retry_seconds=retry_seconds)


class AnswerTooLarge(RequestError):
    """The answer does not fit into a message."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "ANSWER_TOO_LARGE"

    def __init__(self, answer_bytes: int, limit_bytes: int, field: str | None) -> None:
        """`field` of the request says how much is asked for, if there is one."""
        remedy = f"ask for less in {field}" if field else "its operator can raise the setting max_message_bytes"
        metadata = {"answer_bytes": str(answer_bytes), "max_message_bytes": str(limit_bytes)}
        super().__init__(
            f"the answer has {answer_bytes} bytes, and the server sends {limit_bytes} at most: {remedy}",
            metadata={**metadata, **({"field": field} if field else {})},
        )


class SessionBehind(RequestError):
    """The store holds less of the session than the caller has seen: a replica that lags, or data that was lost."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "SESSION_BEHIND"

    def __init__(self, version: int, wanted: int, *, retry_seconds: float = 1.0) -> None:
        super().__init__(
            f"min_session_version: the session store has version {version} of the session, and {wanted} is wanted; try again, give"
            " fallback_history beside it, or leave it out to take what there is",
            metadata={"session_version": str(version)},
            retry_seconds=retry_seconds,
        )


class Draining(RequestError):
    """The server is going away."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "DRAINING"


class EngineLost(RequestError):
    """The engine is gone, or stands still. Nothing of the request was kept, and the server ends."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "ENGINE_LOST"

    def __init__(self) -> None:
        super().__init__("the server has lost its engine, and ends", retry_seconds=1.0)


class InternalError(RequestError):
    """Whatever was not foreseen: its text stays in the log."""

    def __init__(self) -> None:
        super().__init__("internal error; the server's log has it under the request id")


def reasons() -> list[str]:
    """Of all errors that a caller may get, sorted."""
    classes = [RequestError]
    for error in classes:
        classes += error.__subclasses__()
    return sorted({error.reason for error in classes})


def grpc_status(error: RequestError, request_id: str) -> grpc.Status:
    """`error` as a gRPC status whose details are ErrorInfo and, where they apply, BadRequest and RetryInfo."""
    metadata = {"request_id": request_id, **error.metadata}
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if isinstance(error, InvalidRequest):
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if error.retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_seconds * 1e9))
        details.append(retry)
    status = status_pb2.Status(code=error.status.value[0], message=error.message)
    for detail in details:
        status.details.add().Pack(detail)
    return rpc_status.to_status(status)


def _shortened(text: str) -> str:
    data = text.encode()
    return text if len(data) <= MAX_TEXT_BYTES else data[: MAX_TEXT_BYTES - 3].decode(errors="ignore") + "..."
