"""The server under test: its address, channels to it, and explanations of calls that fail."""

import ipaddress
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
from grpc_status import rpc_status

from steersman_client.credentials import Access, open_channel, why_not_let_in
from steersman_loadtest.errors import LoadTestError

TOKEN_VARIABLE = "STEERSMAN_TOKEN"
ANYBODY = Access()
DEFAULT_PORT = 50051
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:/\s]+)(:(?P<port>\d+))?")


class Target(NamedTuple):
    """A server as gRPC takes it."""

    name: str
    options: tuple[tuple[str, int], ...] = ()
    """Of channels."""
    local: bool = False
    """Calls stay on this machine."""


def read_target(address: str) -> Target:
    """`host` or `host:port`; anything else is left to gRPC, such as `unix:/path` or `ipv6:[::1]:7`. No proxy is used for loopback.

    Raises ValueError, with the remedy, if `address` is a URL or names no host.
    """
    typed = HOST_AND_PORT.fullmatch(address)
    if not address or address.startswith((":", "http:", "https:")):
        raise ValueError(f"{address!r} is no address: write host:port, as in {DEFAULT_ADDRESS}")
    if not typed:
        return Target(address, local=address.startswith("unix"))
    host = typed["host"]
    local = _is_loopback(host.strip("[]"))
    options = (("grpc.enable_http_proxy", 0),) if local else ()
    return Target(f"{host}:{typed['port'] or DEFAULT_PORT}", options, local)


def read_access(
    target: Target, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None, token_file: Path | None
) -> Access:
    """The token is that of the file, or else of the environment. Raises ValueError, with the remedy, or OSError."""
    token = token_file.read_text("utf-8", "replace") if token_file else os.environ.get(TOKEN_VARIABLE, "")
    access = Access(tls_ca, tls_cert, tls_key, token.strip() if token_file else token.strip() or None)
    access.credentials()
    access.check_token(target.name, local=target.local)
    return access


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def connected(address: str, access: Access = ANYBODY) -> Iterator[grpc.Channel]:
    """A channel. Raises LoadTestError if a call inside fails."""
    target = read_target(address)
    try:
        with open_channel(target.name, access, target.options) as channel:
            yield channel
    except grpc.RpcError as error:
        raise LoadTestError(_explained(error, target, access)) from error


def _explained(error: grpc.RpcError, target: Target, access: Access) -> str:
    assert isinstance(error, grpc.Call)
    code, details = error.code(), error.details()
    if code is grpc.StatusCode.UNAVAILABLE and rpc_status.from_call(error) is None:
        if why := why_not_let_in(details or "", access):
            return f"{target.name} does not let you in: {why.replace('tls_', '--tls-')}"
        return f"No server answers at {target.name}. Start one: steersman serve. gRPC says: {details}"
    remedy = ". Allow more time: --timeout SECONDS" if code is grpc.StatusCode.DEADLINE_EXCEEDED else ""
    return f"{target.name}: {code.name}: {details}{remedy}"
