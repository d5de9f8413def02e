"""Who calls, and until when."""

import time
from typing import NamedTuple

from steersman_service.identity.identity import OPEN, Identity
from steersman_service.sessions.keys import session_key


class Caller(NamedTuple):
    """What a handler knows of a call beside its request."""

    deadline: float = float("inf")
    """In seconds of `time.monotonic()`: the caller's, or else the server's own."""
    tenant: str = ""
    """Whose share of the queue the call takes: the identity's tenant, or, where callers have no identity, the name that the call
    brings. Calls without one share one."""
    request_id: str = ""
    """The caller's, or one made for the call."""
    identity: Identity = OPEN
    bundle_version: str = ""
    """The release that shall answer; empty: any."""

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def session_key(self, session_id: str) -> str:
        """What the store, caches and the choice of an engine know the session by. It depends on what was verified alone."""
        return session_key(self.identity.tenant, session_id)

    def author(self, given: str) -> str:
        """Whom a change is recorded under: the identity, or, where callers have none, who they say they are."""
        return self.identity.name or given
