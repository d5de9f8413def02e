"""Checks STEERSMAN_REDIS_URL before anything connects. No message repeats its content: that may be a part of the password."""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

ESCAPED = (
    "special characters of user and password are written as %XX (@ is %40, / is %2F, # is %23, ? is %3F, % is %25)"
)
HINTS = {
    "timeout": "the setting redis_timeout_seconds (STEERSMAN_REDIS_TIMEOUT_SECONDS) says how long to wait",
    "tls": "for TLS, begin the URL with rediss://",
    "ssl": "for TLS, begin the URL with rediss://",
    "database": "the database is the path, redis://HOST:PORT/0, or the option db",
}


def check_redis_url(url: str) -> None:
    """Raises ValueError, in one line, for a URL that the client would refuse or misread."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        what = "" if url.startswith("unix:") else "host or port "
        raise ValueError(f"{what}cannot be read: a port is a number from 1 to 65535; {ESCAPED}") from None
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// (TLS) or unix:// (a socket's path)")
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise ValueError(f"holds a space or a control character; {ESCAPED}")
    if "#" in url or "@" in parts.query or ("@" in parts.path and parts.scheme != "unix"):
        raise ValueError(f"has an @ behind the host, or a #; {ESCAPED}")
    if port == 0:
        raise ValueError("the port is a number from 1 to 65535")
    options = _check_options(parts)
    if parts.scheme == "unix":
        if parts.netloc.rpartition("@")[2] or not parts.path.strip("/"):
            raise ValueError("a socket has a whole path: unix:///var/run/redis.sock")
    elif path := unquote(parts.path).removeprefix("/"):
        if not _is_number(path):
            raise ValueError(f"the path is the number of the database, redis://HOST:PORT/0; {ESCAPED}")
        if "db" in options:
            raise ValueError("db is given twice: as the path and as an option")


def has_password(url: str) -> bool:
    """As far as it can be read."""
    try:
        parts = urlsplit(url)
        return bool(parts.password) or any(name.endswith("password") for name, _ in parse_qsl(parts.query))
    except ValueError:
        return "@" in url


def _check_options(parts: SplitResult) -> set[str]:
    """The names of the options."""
    given = {name for name in ("username", "password") if getattr(parts, name)}
    options = parse_qsl(parts.query, keep_blank_values=True)
    if parts.query and not options:
        raise ValueError("what follows the ? is no option: write ?db=0&health_check_interval=30")
    for name, value in options:
        if name not in OPTIONS:
            # An unknown name is shown only if it looks like one.
            shown = name if name in HINTS or name.replace("_", "").isalpha() else "one of its options"
            raise ValueError(f"{shown} is no option; " + HINTS.get(name, "known are " + ", ".join(sorted(OPTIONS))))
        if name in given:
            raise ValueError(f"{name} is given twice")
        if name.startswith("ssl_") and parts.scheme != "rediss":
            raise ValueError(f"{name} is for TLS alone: begin the URL with rediss://")
        valid, why = OPTIONS[name]
        if not (value and valid(value)):
            raise ValueError(f"{name}: {why}")
        given.add(name)
    return given


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _is_seconds(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


Option = tuple[Callable[[str], object], str]


def _one_of(*words: str) -> Option:
    return words.__contains__, f"must be one of {', '.join(words)}"


_NUMBER: Option = (_is_number, "must be a whole number, 0 or more")
_SECONDS: Option = (_is_seconds, "must be a number of seconds above 0")
_TEXT: Option = (bool, "has no value")
_FILE: Option = (lambda value: Path(value).is_file(), "there is no such file")
_BOOLEAN = _one_of("true", "false", "True", "False", "yes", "no", "1", "0")

# For each option, whether a value is valid, and what to say of one that is not.
OPTIONS: Mapping[str, Option] = {
    "db": _NUMBER,
    "username": _TEXT,
    "password": _TEXT,
    "client_name": _TEXT,
    "protocol": _one_of("2", "3"),
    "health_check_interval": _NUMBER,
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _BOOLEAN,
    "retry_on_timeout": _BOOLEAN,
    "max_connections": _NUMBER,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_check_hostname": _BOOLEAN,
    "ssl_ca_certs": _FILE,
    "ssl_ca_path": (lambda value: Path(value).is_dir(), "there is no such folder"),
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_password": _TEXT,
}
