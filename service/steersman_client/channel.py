"""Channels: the address, TLS, the token, retries, and what goes with every call."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from steersman_client.credentials import Access, bearer

DEFAULT_PORT = 50051
HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:/\s]+)(:(?P<port>\d+))?")
PACKAGE = "steersman.v1"
# The published one: which calls are repeated, and when. Nothing counts twice where they are: events have ids. To put or delete a scenario
# again, after an answer that got lost, would be a conflict of versions, so those calls are not repeated.
SERVICE_CONFIG = files("steersman.v1").joinpath("service_config.json").read_text("utf-8")
# Of a connection that was reset while it opened, as by a server that begins to drain. By itself gRPC waits a second: by then the attempts
# of the service config are used up.
RECONNECT = ("grpc.initial_reconnect_backoff_ms", 100)


@dataclass(frozen=True)
class Connection:
    """How a server is reached."""

    target: str
    access: Access
    """The token is in `metadata`."""
    options: Sequence[tuple[str, Any]]
    metadata: Sequence[tuple[str, str]] = field(repr=False)
    """Of every call."""
    timeout_seconds: float


def connection(
    target: str,
    *,
    tls_ca: str | Path | None,
    tls_cert: str | Path | None,
    tls_key: str | Path | None,
    token: str | None,
    tenant: str | None,
    timeout: float,
) -> Connection:
    """Raises ValueError, with the remedy, for arguments that do not go together."""
    if not timeout > 0:
        raise ValueError(f"timeout: {timeout} is no time to wait; give seconds, from 0 upwards")
    target, loopback = _read_target(target)
    access = Access(tls_ca, tls_cert, tls_key, token)
    access.check_token(target, local=loopback)
    options: list[tuple[str, Any]] = [("grpc.enable_retries", 1), ("grpc.service_config", SERVICE_CONFIG), RECONNECT]
    if loopback:
        options.append(("grpc.enable_http_proxy", 0))
    metadata = [bearer(token)] if token is not None else []
    if tenant is not None:
        metadata.append(("steersman-tenant", tenant))
    return Connection(target, access._replace(token=None), options, metadata, timeout)


def _read_target(target: str) -> tuple[str, bool]:
    """As gRPC takes it, with a port, and whether it stays on this machine."""
    if "://" in target and not target.startswith("dns:"):
        raise ValueError(f"{target!r} is a URL: write host:port, as in localhost:{DEFAULT_PORT}")
    if target.startswith(("unix:", "unix-abstract:")):
        return target, True
    typed = HOST_AND_PORT.fullmatch(target)
    if not typed:
        return target, False  # gRPC resolves it, or says what is wrong
    return f"{typed['host']}:{typed['port'] or DEFAULT_PORT}", _is_loopback(typed["host"].strip("[]"))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
