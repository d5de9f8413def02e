"""The record of one call: its times, its outcome and the checks that its answer failed."""

from enum import StrEnum
from typing import NamedTuple


class CallKind(StrEnum):
    """The method, and how it was called."""

    APPEND = "append"
    """AppendEvents."""
    SESSION = "session"
    """Recommend by session id, steered or not."""
    PLAIN = "plain"
    """Recommend by history."""
    STEERED = "steered"
    """Recommend by history, with a control."""


class CallOutcome(StrEnum):
    """How a call ended."""

    OK = "ok"
    DEGRADED = "degraded"
    """Answered, and the answer says that it is degraded."""
    REFUSED = "refused"
    """RESOURCE_EXHAUSTED: the server refused it under load."""
    ERROR = "error"
    """Any other status."""
    UNSENT = "unsent"
    """Not sent: too many calls of the client were in flight."""


class FailedCheck(NamedTuple):
    """A check that an answer failed."""

    check: str
    """Its name, as in `checks.Check`."""
    detail: str


class ConceptShare(NamedTuple):
    """Share of a concept's items in the answer to one call that steered it, 0 to 1."""

    concept: str
    plain: float
    """In the answer to the same call without the control."""
    steered: float


class CallRecord(NamedTuple):
    """Times are seconds since the run began."""

    kind: CallKind
    due: float
    sent: float
    done: float
    outcome: CallOutcome
    code: str = "OK"
    """gRPC status."""
    reason: str = ""
    """Of an error: the reason of its ErrorInfo, or of the transport."""
    violations: tuple[FailedCheck, ...] = ()
    share: ConceptShare | None = None

    @property
    def latency(self) -> float:
        """Seconds since the call was due, however late it was sent, or since it was sent, if that was earlier."""
        return self.done - min(self.due, self.sent)

    @property
    def lag(self) -> float:
        """Seconds from when the call was due to when it was sent."""
        return max(0.0, self.sent - self.due)
