"""Channels: the address, TLS, the token, retries, and what goes with every call."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc

DEFAULT_PORT = 50051
HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:/\s]+)(:(?P<port>\d+))?")
PACKAGE = "steersman.v1"
# The published one: which calls are repeated, and when. Nothing counts twice where they are: events have ids. To put or delete a scenario
# again, after an answer that got lost, would be a conflict of versions, so those calls are not repeated.
SERVICE_CONFIG = files("steersman.v1").joinpath("service_config.json").read_text("utf-8")


@dataclass(frozen=True)
class Connection:
    """How a server is reached."""

    target: str
    credentials: grpc.ChannelCredentials | None
    """None: without TLS."""
    options: Sequence[tuple[str, Any]]
    metadata: Sequence[tuple[str, str]]
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
    """Raises ValueError, with the remedy, for arguments that do not go together, OSError for files that cannot be read."""
    if not timeout > 0:
        raise ValueError(f"timeout: {timeout} is no time to wait; give seconds, from 0 upwards")
    target, loopback = _read_target(target)
    credentials = _credentials(tls_ca, tls_cert, tls_key)
    if token is not None and credentials is None and not loopback:
        raise ValueError(f"token: it would travel readable to {target}; give tls_ca= as well")
    options: list[tuple[str, Any]] = [("grpc.enable_retries", 1), ("grpc.service_config", SERVICE_CONFIG)]
    if loopback:
        options.append(("grpc.enable_http_proxy", 0))
    metadata = [("authorization", f"Bearer {token}")] if token is not None else []
    if tenant is not None:
        metadata.append(("steersman-tenant", tenant))
    return Connection(target, credentials, options, metadata, timeout)


def _credentials(
    tls_ca: str | Path | None, tls_cert: str | Path | None, tls_key: str | Path | None
) -> grpc.ChannelCredentials | None:
    if (tls_cert is None) != (tls_key is None):
        raise ValueError("tls_cert and tls_key go together: the client's certificate and its key")
    if tls_ca is None:
        if tls_cert is not None:
            raise ValueError("tls_cert: give tls_ca= as well, the certificates that sign the server's")
        return None
    ca, cert, key = (Path(file).read_bytes() if file is not None else None for file in (tls_ca, tls_cert, tls_key))
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)


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
