"""Checks and reads STEERSMAN_REDIS_URL before anything connects. No message repeats its content: that may be a part of the password."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, unquote_plus, urlsplit

ESCAPED = (
    "special characters of user and password are written as %XX (@ is %40, / is %2F, # is %23, ? is %3F, % is %25)"
)
BEGINNING = (
    "must begin with redis://, rediss:// (TLS), unix:// (a socket's path), redis+sentinel:// or redis+cluster:// (with TLS,"
    " rediss+sentinel:// or rediss+cluster://)"
)
SEVERAL = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
SERVICE = re.compile(r"[A-Za-z0-9._-]+")
HINTS = {
    "timeout": "the setting redis_timeout_seconds (STEERSMAN_REDIS_TIMEOUT_SECONDS) says how long to wait",
    "tls": "for TLS, begin the URL with rediss://",
    "ssl": "for TLS, begin the URL with rediss://",
    "database": "the database is the path, redis://HOST:PORT/0, or the option db",
}


class StoreUrl(NamedTuple):
    """Where the store is."""

    kind: str
    """ "single", "sentinel" or "cluster"."""
    nodes: Sequence[str]
    """URLs as redis-py takes them: of the server, of each Sentinel, or of the nodes that are asked for the others. User, password
    and options are those of the servers."""
    service: str = ""
    """By which Sentinels know the primary."""
    sentinel_user: Mapping[str, str] = {}
    """`username` and `password` for the Sentinels."""


def check_redis_url(url: str) -> None:
    """Raises ValueError, in one line, for a URL that the client would refuse or misread."""
    parse_redis_url(url)


def parse_redis_url(url: str) -> StoreUrl:
    """Raises ValueError as `check_redis_url`."""
    scheme, _, rest = url.partition("://")
    transport, _, kind = scheme.partition("+")
    if not kind:
        _check_one(url)
        return StoreUrl("single", [url])
    if scheme not in SEVERAL:
        raise ValueError(BEGINNING)
    _check_characters(url)
    before, _, query = rest.partition("?")
    netloc, _, path = before.partition("/")
    user, at, hosts = netloc.rpartition("@")
    service, database = "", path
    if kind == "sentinel":
        service, _, database = path.partition("/")
        if not SERVICE.fullmatch(service):
            raise ValueError(
                f"the Sentinels' name of the primary follows the hosts: {scheme}://HOST,HOST/NAME; {ESCAPED}"
            )
    elif path:
        raise ValueError(f"a cluster has no databases: {scheme}://HOST,HOST without a path; {ESCAPED}")
    options, sentinel_user = _without_sentinel_user(query, kind)
    port = 26379 if kind == "sentinel" else 6379
    nodes = []
    for host in hosts.split(","):
        if not host:
            raise ValueError(f"a host is empty: {scheme}://HOST,HOST; {ESCAPED}")
        bare = host.rpartition("]")[2] if host.startswith("[") else host
        node = f"{transport}://{user}{at}{host}{'' if ':' in bare else f':{port}'}/{database}?{options}".rstrip("?")
        _check_one(node)
        nodes.append(node)
    if kind == "cluster" and "db" in dict(parse_qsl(query)):
        raise ValueError("db: a cluster has no databases")
    return StoreUrl(kind, nodes, service, sentinel_user)


def _without_sentinel_user(query: str, kind: str) -> tuple[str, dict[str, str]]:
    """The other options, and user and password of the Sentinels."""
    own, others = {}, []
    for option in filter(None, query.split("&")):
        name, _, value = option.partition("=")
        if kind == "sentinel" and name in ("sentinel_username", "sentinel_password"):
            if not value:
                raise ValueError(f"{name}: has no value")
            own[name.removeprefix("sentinel_")] = unquote_plus(value)
        else:
            others.append(option)
    return "&".join(others), own


def _check_characters(url: str) -> None:
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise ValueError(f"holds a space or a control character; {ESCAPED}")
    before, _, query = url.partition("://")[2].partition("?")
    if "#" in url or "@" in query or "@" in before.partition("/")[2]:
        raise ValueError(f"has an @ behind the host, or a #; {ESCAPED}")


def _check_one(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        what = "" if url.startswith("unix:") else "host or port "
        several = "; several hosts begin with redis+sentinel:// or redis+cluster://" if "," in url else ""
        raise ValueError(f"{what}cannot be read: a port is a number from 1 to 65535{several}; {ESCAPED}") from None
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError(BEGINNING)
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
