"""Which calls a front end takes: so many at a time, shared by tenants, and none that would be answered too late.

Both are known before a call is parsed, so that refusing costs little: neither the session store nor an engine is asked.
"""

# Calls of a method that are always taken, and how many have to be under way all the time for its rate to be measured.
ALWAYS, BUSY = 8, 4
WINDOW_SECONDS = 0.1
# Weight of the latest window. What no busy window confirms fades.
SMOOTHING, FADING = 0.3, 1.02
# Part of the time left that an answer may be expected to take: others take longer than the mean.
SHARE_OF_DEADLINE = 0.5


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


class AnswerEstimate:
    """How long a method's next call will take, by Little's law: calls under way / calls that end in a second (Little 1961).

    The rate is measured where calls were under way all the time: elsewhere it says how many came, not how many could be answered.
    Times are in seconds of time.monotonic().
    """

    def __init__(self) -> None:
        self.running = 0
        self.rate = 0.0
        """Calls a second, when there is always one to answer. 0: not known."""
        self._since = 0.0
        self._least = 0
        self._answered = 0

    @property
    def seconds(self) -> float:
        """Of a call that begins now."""
        return (self.running + 1) / self.rate if self.rate else 0.0

    def admits(self, seconds_left: float) -> bool:
        return self.running < ALWAYS or self.seconds <= SHARE_OF_DEADLINE * seconds_left

    def begin(self, now: float) -> None:
        if now - self._since >= WINDOW_SECONDS:
            self._next_window(now)
        self.running += 1

    def end(self, now: float, *, answered: bool) -> None:
        """A call that failed, or was refused or given up after it had begun, is not `answered`."""
        self.running -= 1
        self._answered += answered
        self._least = min(self._least, self.running)
        if now - self._since >= WINDOW_SECONDS:
            self._next_window(now)

    def _next_window(self, now: float) -> None:
        if self._least >= BUSY:
            rate = max(1, self._answered) / (now - self._since)
            self.rate += SMOOTHING * (rate - self.rate) if self.rate else rate
        else:
            self.rate *= FADING
        self._since, self._least, self._answered = now, self.running, 0
