"""One tree of errors. Those of requests carry a status, a reason and a remedy; a transport says them in its own way."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

# Details travel in gRPC's trailers, of which clients take 8 KiB.
MAX_VIOLATIONS = 8
# Checks that cost something stop here: one more than is shown.
ENOUGH_VIOLATIONS = MAX_VIOLATIONS + 1
MAX_TEXT_BYTES = 400


class SteersmanError(Exception):
    """Root of the tree."""


class StartupError(SteersmanError):
    """The server cannot start. The message is for the operator: it names the cause and the remedy."""


class EngineFailed(SteersmanError):
    """The engine of this process hangs, or computes nothing any more: the process has to end."""


class BundleError(StartupError):
    """A bundle that must not be served."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"bundle refused: {file}: {why}")
        self.file = file


class ChildDied(StartupError):
    """A process of the server ended before it was ready, without a word why: it may have been killed."""


class SourceError(StartupError):
    """A bundle cannot be had from where it is said to be, or not be brought there: no fault of the bundle."""

    def __init__(self, source: str, why: str) -> None:
        super().__init__(f"{source}: {why}")
        self.source = source


class RequestError(SteersmanError):
    """A call that is answered with an error. The message goes to the caller as it is."""

    code: ClassVar[str] = "INTERNAL"
    """Name of the gRPC status."""
    reason: ClassVar[str] = "INTERNAL"
    """For programs that read errors: it never changes."""

    def __init_subclass__(cls, code: str = "", reason: str = "") -> None:
        cls.code, cls.reason = code or cls.code, reason or cls.reason

    def __init__(
        self, message: str, *, metadata: Mapping[str, str] | None = None, retry_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_seconds = retry_seconds


class FieldViolation(NamedTuple):
    """What is wrong with a field of a request."""

    field: str
    """Path from the request: `controls[2].strength`."""
    description: str
    """What is wrong and what would be right."""


class InvalidRequest(RequestError, code="INVALID_ARGUMENT", reason="INVALID_REQUEST"):
    """One or more fields are wrong."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        shown = [FieldViolation(_shortened(v.field), _shortened(v.description)) for v in violations[:MAX_VIOLATIONS]]
        count = f"{len(violations) - 1} more" if len(violations) <= MAX_VIOLATIONS else "more"
        more = f" (and {count})" if len(violations) > 1 else ""
        super().__init__(f"{shown[0].field}: {shown[0].description}{more}")
        self.violations = shown


def raise_if_any(violations: Sequence[FieldViolation]) -> None:
    """Raises InvalidRequest."""
    if violations:
        raise InvalidRequest(violations)


class MalformedMessage(InvalidRequest, reason="MALFORMED_MESSAGE"):
    """The bytes of a request do not parse as its type."""

    def __init__(self, method: str) -> None:
        """`method` is "/package.Service/Method"."""
        why = (
            f"the bytes are no request of {method}: they do not parse, or hold a text that is not UTF-8;"
            " use the .proto files of this server's version"
        )
        super().__init__([FieldViolation("request", why)])


class MessageTooLarge(InvalidRequest, reason="MESSAGE_TOO_LARGE"):
    """A request of more bytes than are parsed."""

    def __init__(self, size: int, most: int) -> None:
        """Both in bytes."""
        super().__init__([FieldViolation("request", f"{size} bytes; at most {most}")])


class UnknownMethod(RequestError, code="UNIMPLEMENTED", reason="UNKNOWN_METHOD"):
    """The server has no such method. Its name is the caller's text, and is not repeated."""

    def __init__(self) -> None:
        super().__init__("this server has no such method; its reflection lists the services that it has")


class TokenMissing(RequestError, code="UNAUTHENTICATED", reason="TOKEN_MISSING"):
    """The server wants to know who calls."""

    def __init__(self) -> None:
        super().__init__("this server asks for credentials: send the header authorization: Bearer TOKEN")


class TokenRefused(RequestError, code="UNAUTHENTICATED", reason="TOKEN_REFUSED"):
    """Credentials that do not hold."""

    def __init__(self, why: str) -> None:
        """`why` says nothing of what was sent."""
        super().__init__(f"the credentials are refused: {why}")


class RoleMissing(RequestError, code="PERMISSION_DENIED", reason="ROLE_MISSING"):
    """The caller is known, and may not do this."""

    def __init__(self, what: str, needed: str, given: str) -> None:
        """`what` needs the role `needed`."""
        super().__init__(
            f"{what} needs the role {needed}, and this caller has {given}: the server's operator gives roles",
            metadata={"role": needed, "given_role": given},
        )


class TenantRefused(RequestError, code="PERMISSION_DENIED", reason="TENANT_REFUSED"):
    """The call names another tenant than its credentials."""

    def __init__(self) -> None:
        super().__init__("metadata steersman-tenant: the tenant is that of the credentials: leave it out")


class KeysUnavailable(RequestError, code="UNAVAILABLE", reason="KEYS_UNAVAILABLE"):
    """The keys that tokens are verified with were not reached yet: the token may be good."""

    def __init__(self) -> None:
        super().__init__("the keys of tokens cannot be reached", retry_seconds=5.0)


class StaleFeature(RequestError, code="FAILED_PRECONDITION", reason="FEATURE_OF_ANOTHER_BUNDLE"):
    """A feature reference of another bundle. The metadata carries the likely replacement where one is known."""


class BundleNotServed(RequestError, code="FAILED_PRECONDITION", reason="BUNDLE_NOT_SERVED"):
    """The call names a bundle version that no release here has."""

    def __init__(self, served: Sequence[str]) -> None:
        """Versions."""
        super().__init__(
            f"metadata steersman-bundle-version: names a bundle that is not served; it is {' or '.join(served)}, or leave it out",
            metadata={"served": " ".join(served)},
        )


class ReleaseRefused(RequestError, code="FAILED_PRECONDITION", reason="RELEASE_REFUSED"):
    """A bundle was not served. The message says why. What was served before still is."""


class ReleaseChanging(RequestError, code="ABORTED", reason="RELEASE_CHANGING"):
    """Another change of releases is under way."""


class NoCanary(RequestError, code="FAILED_PRECONDITION", reason="NO_CANARY"):
    """There is no canary, or another one than the call names."""


class NoReleaseBefore(RequestError, code="FAILED_PRECONDITION", reason="NO_RELEASE_BEFORE"):
    """Nothing to roll back to."""


class ReleasesFixed(RequestError, code="FAILED_PRECONDITION", reason="RELEASES_FIXED"):
    """What is served cannot be changed by a call here."""


class NotExplainable(RequestError, code="FAILED_PRECONDITION", reason="NOT_EXPLAINABLE"):
    """The bundle does not hold what accounts are made of."""

    def __init__(self) -> None:
        super().__init__("the bundle is older than format 1.5 and lacks the directions of its features: train it again")


class NotFound(RequestError, code="NOT_FOUND", reason="NOT_FOUND"):
    """What the request names does not exist."""


class VersionConflict(RequestError, code="ABORTED", reason="VERSION_CONFLICT"):
    """Another version is kept than the caller has seen."""

    def __init__(self, field: str, seen: int, kept: int) -> None:
        """`kept` is 0 where there is none."""
        there = f"version {kept} is kept" if kept else "there is none"
        remedy = "get it, and apply the change to that" if kept else "give version 0 to create it"
        super().__init__(
            f"{field}: version {seen} was seen, and {there}: {remedy}", metadata={"field": field, "version": str(kept)}
        )


class TooManyScenarios(RequestError, code="RESOURCE_EXHAUSTED", reason="TOO_MANY_SCENARIOS"):
    """No further one is taken until one is deleted."""

    def __init__(self, most: int) -> None:
        super().__init__(f"there are {most} scenarios, and no more are kept: delete one that is not needed")


class TooManySessions(RequestError, code="RESOURCE_EXHAUSTED", reason="TENANT_SESSIONS"):
    """The tenant keeps as many sessions as it may."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"the tenant has {most} sessions, and no more are kept: delete one that is not needed, or wait until one expires;"
            " a history in the request needs no session"
        )


class TooManySessionBytes(RequestError, code="RESOURCE_EXHAUSTED", reason="TENANT_SESSION_BYTES"):
    """The tenant's sessions take as much memory as they may."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"the tenant's sessions take {most} bytes, and no more are kept: delete one that is not needed, or wait until one"
            " expires; a history in the request needs no session"
        )


class TooManyLabels(RequestError, code="RESOURCE_EXHAUSTED", reason="TOO_MANY_LABELS"):
    """No further one is corrected until one is automatic again."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} labels are corrected, and no more are kept: bring automatic ones back, by empty labels"
        )


class QueueFull(RequestError, code="RESOURCE_EXHAUSTED", reason="QUEUE_FULL"):
    """Overload, of which this caller's tenant has the largest share. `retry_seconds`: time that the queue needs to drain."""


class TooManyCalls(RequestError, code="RESOURCE_EXHAUSTED", reason="TOO_MANY_CALLS"):
    """Overload before any queue: this call is refused before it is parsed."""

    def __init__(self) -> None:
        super().__init__("too many calls are under way", retry_seconds=1.0)


class TooManyStreams(RequestError, code="RESOURCE_EXHAUSTED", reason="TOO_MANY_STREAMS"):
    """As many streams are open as the server takes, of all callers or of this connection."""

    def __init__(self) -> None:
        super().__init__(
            "too many streams are open: end those that are not needed, or ask again and again instead",
            retry_seconds=1.0,
        )


class SilentStream(RequestError, code="DEADLINE_EXCEEDED", reason="SILENT_STREAM"):
    """A stream of requests of which no further one comes."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no request came for {seconds:g} s; open the stream again when there is one")


class DeadlineTooNear(RequestError, code="RESOURCE_EXHAUSTED", reason="DEADLINE_TOO_NEAR"):
    """Overload: the deadline would pass before the answer is there, so the request is refused at once and not computed."""


class DeadlinePassed(RequestError, code="DEADLINE_EXCEEDED", reason="DEADLINE_PASSED"):
    """The deadline passed while the request waited: it was not computed."""


class StoreUnavailable(RequestError, code="UNAVAILABLE", reason="SESSION_STORE_UNAVAILABLE"):
    """The session store does not answer. Nothing was acknowledged."""

    def __init__(self, message: str = "the session store is unavailable", *, retry_seconds: float | None = 1.0) -> None:
        super().__init__(message, retry_seconds=retry_seconds)


class SessionUnreadable(StoreUnavailable, code="FAILED_PRECONDITION", reason="SESSION_UNREADABLE"):
    """The store holds under a session's name what no server has written. It is left as it is."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session_id: the store holds no session under {session_id!r}, but something else: DeleteSession erases it, or the"
            " server's operator repairs its keys; a history in the request needs no session",
            retry_seconds=None,
        )


class ScenarioUnreadable(StoreUnavailable, code="FAILED_PRECONDITION", reason="SCENARIO_UNREADABLE"):
    """The store holds under a scenario's name what no server has written. It is left as it is."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the store holds no scenario under the name {name!r}, but something else: put the scenario again, or delete it",
            retry_seconds=None,
        )


class AnswerTooLarge(RequestError, code="RESOURCE_EXHAUSTED", reason="ANSWER_TOO_LARGE"):
    """The answer does not fit into a message."""

    def __init__(self, answer_bytes: int, limit_bytes: int, field: str | None) -> None:
        """`field` of the request bounds the answer's size, if there is one."""
        remedy = f"ask for less in {field}" if field else "its operator can raise the setting max_message_bytes"
        metadata = {"answer_bytes": str(answer_bytes), "max_message_bytes": str(limit_bytes)}
        super().__init__(
            f"the answer has {answer_bytes} bytes, and the server sends {limit_bytes} at most: {remedy}",
            metadata={**metadata, **({"field": field} if field else {})},
        )


class SessionBehind(RequestError, code="UNAVAILABLE", reason="SESSION_BEHIND"):
    """The store holds less of the session than the caller has seen: a replica that lags, or data that was lost."""

    def __init__(self, version: int, wanted: int) -> None:
        super().__init__(
            f"min_session_version: the session store has version {version} of the session, and {wanted} is wanted; try again, give"
            " fallback_history beside it, or leave it out to take what there is",
            metadata={"session_version": str(version)},
            retry_seconds=1.0,
        )


class Draining(RequestError, code="UNAVAILABLE", reason="DRAINING"):
    """The server is shutting down."""


class EngineLost(RequestError, code="UNAVAILABLE", reason="ENGINE_LOST"):
    """The engine ended or hangs. Nothing of the request was kept, and the server ends."""

    def __init__(self) -> None:
        super().__init__("the server has lost its engine, and ends", retry_seconds=1.0)


class GatewayError(RequestError):
    """An error of the HTTP gateway itself: no server has seen the request."""


class ServerUnavailable(GatewayError, code="UNAVAILABLE", reason="SERVER_UNAVAILABLE"):
    """The gateway does not reach the server."""

    def __init__(self) -> None:
        super().__init__("the server does not answer", retry_seconds=1.0)


class NoSuchPath(GatewayError, code="NOT_FOUND", reason="NO_SUCH_PATH"):
    """Of the gateway. What was asked for is the caller's text, and is not repeated."""

    def __init__(self) -> None:
        super().__init__("there is nothing here: / lists the calls, /openapi.json describes them")


class NoConsole(GatewayError, code="NOT_FOUND", reason="NO_CONSOLE"):
    """The package was made without the console's files."""

    def __init__(self) -> None:
        super().__init__("this installation has no console: its files were not built into the package")


class NoMetrics(GatewayError, code="NOT_FOUND", reason="NO_METRICS"):
    """The gateway was told of no metrics."""

    def __init__(self) -> None:
        why = "the server's setting metrics is off, or this gateway runs alone and was started without --metrics URL"
        super().__init__(f"there are no metrics here: {why}")


class MetricsUnavailable(GatewayError, code="UNAVAILABLE", reason="METRICS_UNAVAILABLE"):
    """The metrics port does not answer, or with something else."""

    def __init__(self) -> None:
        super().__init__("the server's metrics do not answer", retry_seconds=1.0)


class OnlyPost(GatewayError, code="UNIMPLEMENTED", reason="ONLY_POST"):
    """A call by another method of HTTP."""

    def __init__(self) -> None:
        super().__init__("a call is a POST")


class OnlyGet(GatewayError, code="UNIMPLEMENTED", reason="ONLY_GET"):
    """Something other than a read of what the gateway says of itself."""

    def __init__(self) -> None:
        super().__init__("this can be read only: GET")


class ContentTypeRefused(GatewayError, code="INVALID_ARGUMENT", reason="CONTENT_TYPE"):
    """A body that is not said to be JSON or a message. A browser sends others to any site without asking it."""


class HostRefused(GatewayError, code="PERMISSION_DENIED", reason="HOST"):
    """The header Host names a server that this one is not: a page of another site whose name leads here, or a setting."""

    def __init__(self) -> None:
        super().__init__("this server does not go by the name in the header Host: see its setting http_allowed_hosts")


class SlowRequest(GatewayError, code="DEADLINE_EXCEEDED", reason="SLOW_REQUEST"):
    """A body that does not come to its end."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request had not come whole within {seconds:g} s")


class InternalError(RequestError):
    """An exception that was not foreseen: its text stays in the log."""

    def __init__(self) -> None:
        super().__init__("internal error; the server's log has it under the request id")


def reasons() -> list[str]:
    """Of all errors that a server may answer with, sorted. Those of the gateway itself are not among them."""
    classes: list[type[RequestError]] = [RequestError]
    for error in classes:
        classes += [each for each in error.__subclasses__() if each is not GatewayError]
    return sorted({error.reason for error in classes})


def _shortened(text: str) -> str:
    data = text.encode()
    return text if len(data) <= MAX_TEXT_BYTES else data[: MAX_TEXT_BYTES - 3].decode(errors="ignore") + "..."
