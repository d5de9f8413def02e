"""Why the session store fails: the reason in an error of the Redis client, and the log of reasons."""

import errno
import re
import socket
import ssl
import time

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from steersman_service.sessions.breaker import BreakerOpen
from steersman_service.sessions.functions import DeadlineTooNear
from steersman_service.sessions.pipeline import NotReplicated

# What is wrong, and what to do. docs/runbook.md has them as a table.
REASONS = {
    "WRONGPASS": "it refuses user or password of STEERSMAN_REDIS_URL (special characters are written as %XX)",
    "NOAUTH": "it wants a password: redis://:PASSWORD@HOST, or redis://USER:PASSWORD@HOST",
    "NOPERM": "its ACL forbids the user a command or the keys steersman:*; FCALL, FUNCTION LOAD and what sessions.lua calls are needed",
    "OOM": "it is full (maxmemory): give it more memory, or shorten session_ttl_seconds or max_session_events",
    "READONLY": "it is a replica: point STEERSMAN_REDIS_URL to the primary",
    "MISCONF": "it cannot write to its disk and refuses changes: its own log says why",
    "NOREPLICAS": "it has fewer replicas than min-replicas-to-write and refuses changes",
    "MOVED": "it is a node of a cluster, or its slots move on and on: begin STEERSMAN_REDIS_URL with redis+cluster://",
    "CLUSTERDOWN": "it is a node of a cluster that is down, or no node has the session's slot: see CLUSTER INFO",
    "TRYAGAIN": "a slot is being moved and some of a session's keys are here, some there: end the move that was begun",
    "NO_CLUSTER": "it is no node of a cluster: begin STEERSMAN_REDIS_URL with redis:// or redis+sentinel://",
    "NO_PRIMARY": "no Sentinel answers, or none knows a primary of that name that is up: see SENTINEL MASTERS",
    "NOT_REPLICATED": "fewer replicas than redis_wait_replicas had a change within redis_wait_ms: it was made, and not acknowledged",
    "BREAKER_OPEN": "it has failed for a while: calls are refused at once, and one goes through now and then to try it",
    "DEADLINE": "a request's deadline came before the answer, and before redis_timeout_seconds: give requests more time",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "LOADING": "it still loads its data",
    "BUSY": "a script or a function of another program has run in it for too long",
    "WRONGTYPE": "a key of a session, steersman:{SESSION}:*, holds something else: another program uses these names",
    "MALFORMED": "a session's numbers, in steersman:{SESSION}:meta, are none: another program, or a hand, has written there",
    "NEWERSCHEMA": "a server of a later version wrote a session: serve with that one, or the one before it; the session is left as it is",
    "NO_SUCH_DATABASE": "it has no database of the number in STEERSMAN_REDIS_URL",
    "MAX_CLIENTS": "it has as many clients as it takes (maxclients)",
    "NO_SCRIPTS": "it knows no FCALL: sessions need functions (Redis 7, or Valkey)",
    "REFUSED": "nothing listens at the address of STEERSMAN_REDIS_URL",
    "UNREACHABLE": "its host cannot be reached",
    "DNS": "the host in STEERSMAN_REDIS_URL has no address",
    "NO_SOCKET": "there is no socket at the path of STEERSMAN_REDIS_URL, or it is forbidden",
    "TIMEOUT": "it did not answer within redis_timeout_seconds: overload, a firewall, or one side speaks TLS and the other does not",
    "CLOSED": "it closed the connection: it was restarted, or expects TLS (rediss://) or another client certificate",
    "TLS": "TLS fails: no TLS on that port, or a certificate that is not trusted, expired or of another host",
    "NO_REDIS": "what answers there does not speak Redis' protocol",
    "OTHER": "none of the known reasons",
}
_PHRASES = {
    "DB index is out of range": "NO_SUCH_DATABASE",
    "invalid DB index": "NO_SUCH_DATABASE",
    "max number of clients": "MAX_CLIENTS",
    "invalid password": "WRONGPASS",
    "no password is set": "WRONGPASS",
    "unknown command": "NO_SCRIPTS",
    "Connect call failed": "REFUSED",
    "ACL failure": "NOPERM",
    "cluster support disabled": "NO_CLUSTER",
    "No master found": "NO_PRIMARY",
}
# The error of a command that a function calls may stand within the function's own.
_WORDS = re.compile(rf"\b({'|'.join(word for word in REASONS if word.isupper() and '_' not in word)})\b")
_TYPES: dict[type[BaseException], str] = {
    TimeoutError: "TIMEOUT",
    RedisTimeoutError: "TIMEOUT",
    ssl.SSLError: "TLS",
    socket.gaierror: "DNS",
    InvalidResponse: "NO_REDIS",
    NotReplicated: "NOT_REPLICATED",
    BreakerOpen: "BREAKER_OPEN",
    DeadlineTooNear: "DEADLINE",
}
_ERRNOS = {
    errno.ECONNREFUSED: "REFUSED",
    errno.ENOENT: "NO_SOCKET",
    errno.EACCES: "NO_SOCKET",
    errno.EHOSTUNREACH: "UNREACHABLE",
    errno.ENETUNREACH: "UNREACHABLE",
    errno.ETIMEDOUT: "TIMEOUT",
    errno.ECONNRESET: "CLOSED",
    errno.EPIPE: "CLOSED",
}
# A reason is logged again after so long without it.
QUIET_SECONDS = 60.0

log = structlog.get_logger()


def reason_of(error: BaseException) -> str:
    """One of REASONS. The text of an error is never shown: it may hold what a caller sent."""
    cause: BaseException | None = error
    while cause is not None:
        for kind, reason in _TYPES.items():
            if isinstance(cause, kind):
                return reason
        if isinstance(cause, OSError) and cause.errno in _ERRNOS:
            return _ERRNOS[cause.errno]
        if isinstance(cause, RedisError) and (told := _told(cause)):
            return told
        cause = cause.__cause__ or cause.__context__
    return "CLOSED" if isinstance(error, RedisConnectionError | OSError) else "OTHER"


def _told(error: RedisError) -> str | None:
    """The reason in what the server or the client wrote."""
    code, text = getattr(error, "status_code", None), str(error)
    if code in REASONS:
        return str(code)
    for phrase, reason in _PHRASES.items():
        if phrase in text:
            return reason
    word = _WORDS.search(text)
    return word[1] if word else None


class StoreLog:
    """Logs when the store begins to fail for a reason, and when it can be used again: no line for each call."""

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
