"""Why the session store fails, in a word (the first one of Redis' error, or what became of the connection), and the log of it."""

import time

import structlog

# What is wrong, and what to do. docs/operate.md has them as a table.
REASONS = {
    "WRONGPASS": "it refuses user or password of STEERSMAN_REDIS_URL (special characters are written as %XX)",
    "NOAUTH": "it wants a password: redis://:PASSWORD@HOST, or redis://USER:PASSWORD@HOST",
    "NOPERM": "its ACL forbids the user a command or the keys steersman:*; scripts and what sessions.lua calls are needed",
    "OOM": "it is full (maxmemory): give it more memory, or shorten session_ttl_seconds or max_session_events",
    "READONLY": "it is a replica: point STEERSMAN_REDIS_URL to the primary",
    "MISCONF": "it cannot write to its disk and refuses changes: its own log says why",
    "NOREPLICAS": "it has fewer replicas than min-replicas-to-write and refuses changes",
    "MOVED": "it is a node of a cluster: put a proxy that follows redirections before it, or use a store that is none",
    "CLUSTERDOWN": "it is a node of a cluster that is down",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "LOADING": "it still loads its data",
    "BUSY": "a script of somebody else has run in it for too long",
    "WRONGTYPE": "a key of a session, steersman:{SESSION}:*, holds something else: another program uses these names",
    "NO_SUCH_DATABASE": "it has no database of the number in STEERSMAN_REDIS_URL",
    "MAX_CLIENTS": "it has as many clients as it takes (maxclients)",
    "NO_SCRIPTS": "it knows no EVALSHA: sessions need Lua scripts",
    "REFUSED": "nothing listens at the address of STEERSMAN_REDIS_URL",
    "UNREACHABLE": "its host cannot be reached",
    "DNS": "the host in STEERSMAN_REDIS_URL has no address",
    "NO_SOCKET": "there is no socket at the path of STEERSMAN_REDIS_URL, or it is forbidden",
    "TIMEOUT": "it did not answer within redis_timeout_seconds: overload, a firewall, or one side speaks TLS and the other does not",
    "CLOSED": "it closed the connection: it was restarted, or expects TLS (rediss://)",
    "TLS": "TLS fails: no TLS on that port, or a certificate that is not trusted, expired or of another host",
    "NO_REDIS": "what answers there does not speak Redis' protocol",
    "OTHER": "none of the known reasons",
}
# A reason that has not been met for so long is told again.
QUIET_SECONDS = 60.0

log = structlog.get_logger()


class StoreLog:
    """Writes a line when the store begins to fail for a reason, and one when it can be used again: none for each call."""

    def __init__(self) -> None:
        self._met: dict[str, float] = {}
        """When each reason was met last."""
        self._usable = True

    def failed(self, reason: str) -> None:
        """An operation failed."""
        now = time.monotonic()
        if now - self._met.get(reason, -QUIET_SECONDS) >= QUIET_SECONDS:
            log.warning("the session store fails", reason=reason, meaning=REASONS[reason])
        self._met[reason] = now

    def probed(self, reason: str) -> None:
        """The probe found that sessions can be used ("") or why not."""
        if reason:
            self.failed(reason)
        elif not self._usable:
            self._met.clear()
            log.info("the session store can be used again")
        self._usable = not reason
