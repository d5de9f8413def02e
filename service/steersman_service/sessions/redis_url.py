"""Checks STEERSMAN_REDIS_URL before anything connects. No message repeats what stands in it: it may be a part of the password."""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss", "unix")
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
    """Raises ValueError, in one line, for what the client would not understand or would take otherwise."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        if not url.startswith("unix:"):
            raise ValueError(f"host or port cannot be read: a port is a number from 1 to 65535; {ESCAPED}") from None
        raise ValueError(f"cannot be read; {ESCAPED}") from None
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        raise ValueError("must begin with redis://, rediss:// (TLS) or unix:// (a socket's path)")
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise ValueError(f"holds a space or a control character; {ESCAPED}")
    if "#" in url or "@" in parts.query or ("@" in parts.path and parts.scheme != "unix"):
        raise ValueError(f"has an @ behind the host, or a #; {ESCAPED}")
    if port == 0:
        raise ValueError("the port is a number from 1 to 65535")
    options = _options(parts)
    if parts.scheme == "unix":
        _check_socket(parts)
    else:
        _check_database(parts, options)


def _options(parts: SplitResult) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        # An unknown name is shown only if it looks like one.
        shown = name if name in READERS or name in HINTS or name.replace("_", "").isalpha() else "one of its options"
        if name not in READERS:
            hint = HINTS.get(name, f"known are {', '.join(sorted(READERS))}")
            raise ValueError(f"{shown} is no option; {hint}")
        if name in options:
            raise ValueError(f"{name} is given twice")
        if name.startswith("ssl_") and parts.scheme != "rediss":
            raise ValueError(f"{name} is for TLS alone: begin the URL with rediss://")
        if (why := READERS[name](value)) or not value:
            raise ValueError(f"{name}: {why or 'has no value'}")
        options[name] = value
    if parts.query and not options:
        raise ValueError("what follows the ? is no option: write ?db=0&health_check_interval=30")
    for name, given in (("username", parts.username), ("password", parts.password)):
        if given and name in options:
            raise ValueError(f"{name} is given twice")
    return options


def _check_database(parts: SplitResult, options: Mapping[str, str]) -> None:
    path = unquote(parts.path)
    if path in ("", "/"):
        return
    if not _is_number(path[1:]):
        raise ValueError(f"the path is the number of the database, redis://HOST:PORT/0; {ESCAPED}")
    if "db" in options:
        raise ValueError("db is given twice: as the path and as an option")


def _check_socket(parts: SplitResult) -> None:
    if parts.netloc.rpartition("@")[2] or not parts.path.strip("/"):
        raise ValueError("a socket has a whole path: unix:///var/run/redis.sock")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _whole(value: str) -> str:
    return "" if _is_number(value) else "must be a whole number, 0 or more"


def _seconds(value: str) -> str:
    try:
        return "" if 0 < float(value) < float("inf") else "must be a number of seconds above 0"
    except ValueError:
        return "must be a number of seconds above 0"


def _text(value: str) -> str:
    return ""


def _file(value: str) -> str:
    return "" if Path(value).is_file() else "there is no such file"


def _folder(value: str) -> str:
    return "" if Path(value).is_dir() else "there is no such folder"


def _one_of(*words: str) -> Callable[[str], str]:
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}"


_YES_OR_NO = _one_of("true", "false", "True", "False", "yes", "no", "1", "0")

# What is wrong with the value of each option that is known; "" if nothing.
READERS: Mapping[str, Callable[[str], str]] = {
    "db": _whole,
    "username": _text,
    "password": _text,
    "client_name": _text,
    "protocol": _one_of("2", "3"),
    "health_check_interval": _whole,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _YES_OR_NO,
    "retry_on_timeout": _YES_OR_NO,
    "max_connections": _whole,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_check_hostname": _YES_OR_NO,
    "ssl_ca_certs": _file,
    "ssl_ca_path": _folder,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_password": _text,
}
