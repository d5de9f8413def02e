"""The record of one call: when it was due, sent and done, and what came of it. Clients make them, figures are made of them."""

from enum import StrEnum
from typing import NamedTuple


class CallKind(StrEnum):
    """What was called."""

    APPEND = "append"
    """AppendEvents."""
    SESSION = "session"
    """Recommend by session id, steered or not."""
    PLAIN = "plain"
    """Recommend by history."""
    STEERED = "steered"
    """Recommend by history, with a control."""


class CallOutcome(StrEnum):
    """What came of a call."""

    OK = "ok"
    DEGRADED = "degraded"
    """Answered, and the answer says that it is degraded."""
    REFUSED = "refused"
    """RESOURCE_EXHAUSTED: the server was full, and said so."""
    ERROR = "error"
    """Any other status."""
    UNSENT = "unsent"
    """Not sent: too many calls of this client were still without an answer."""


class FailedCheck(NamedTuple):
    """Something that must hold and did not."""

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
    """Of an error: the reason of its ErrorInfo, or what the transport says."""
    violations: tuple[FailedCheck, ...] = ()
    share: ConceptShare | None = None

    @property
    def latency(self) -> float:
        """Seconds from the time the call was due, however late it left: a call that had to wait for its turn waited.

        One that left a little early is measured from when it left.
        """
        return self.done - min(self.due, self.sent)

    @property
    def lag(self) -> float:
        """Seconds that it left late."""
        return max(0.0, self.sent - self.due)
