"""Finds the reason in an error of the Redis client."""

import errno
import re
import socket
import ssl
from collections.abc import Iterator

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from steersman_service.sessions.reasons import REASONS

_SAYINGS = {
    "DB index is out of range": "NO_SUCH_DATABASE",
    "max number of clients": "MAX_CLIENTS",
    "invalid password": "WRONGPASS",
    "no password is set": "WRONGPASS",
    "unknown command": "NO_SCRIPTS",
    "invalid DB index": "NO_SUCH_DATABASE",
    "Connect call failed": "REFUSED",
    "ACL failure": "NOPERM",
}
# Before version 7, Redis puts what a script's command answered into its own error.
_WORDS = re.compile(rf"\b({'|'.join(word for word in REASONS if word.isupper() and '_' not in word)})\b")
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


def reason_of(error: BaseException) -> str:
    """One of REASONS. The text of an error is never shown: it may hold what a caller sent."""
    for one in _causes(error):
        if isinstance(one, TimeoutError | RedisTimeoutError):
            return "TIMEOUT"
        if isinstance(one, ssl.SSLError):
            return "TLS"
        if isinstance(one, socket.gaierror):
            return "DNS"
        if isinstance(one, OSError) and one.errno in _ERRNOS:
            return _ERRNOS[one.errno]
        if isinstance(one, InvalidResponse):
            return "NO_REDIS"
        if isinstance(one, RedisError) and (said := _said(one)):
            return said
    return "CLOSED" if isinstance(error, RedisConnectionError | OSError) else "OTHER"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised for."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _said(error: RedisError) -> str | None:
    code, text = getattr(error, "status_code", None), str(error)
    if code in REASONS:
        return str(code)
    for saying, reason in _SAYINGS.items():
        if saying in text:
            return reason
    word = _WORDS.search(text)
    return word[1] if word else None
