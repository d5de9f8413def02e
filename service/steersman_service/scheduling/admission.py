"""Calls at a time, shared by tenants."""


class CallLimit:
    """At most `most` at a time. While so many are under way, a tenant with less than its equal share is let in all the same, up to
    twice as many."""

    def __init__(self, most: int) -> None:
        self.running = 0
        self._most = most
        self._of: dict[str, int] = {}

    def enter(self, tenant: str) -> bool:
        """Whether it may; `leave` has to follow."""
        own = self._of.get(tenant, 0)
        if self.running >= self._most:
            tenants = len(self._of) + (not own)
            if self.running >= 2 * self._most or own + 1 > max(1, self._most / tenants):
                return False
        self._of[tenant] = own + 1
        self.running += 1
        return True

    def leave(self, tenant: str) -> None:
        self.running -= 1
        if own := self._of[tenant] - 1:
            self._of[tenant] = own
        else:
            del self._of[tenant]
