"""The server under test: its address, channels to it, and explanations of calls that fail."""

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import grpc
from grpc_status import rpc_status

from steersman_loadtest.errors import LoadTestError

DEFAULT_PORT = 50051
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:/\s]+)(:(?P<port>\d+))?")


class Target(NamedTuple):
    """A server as gRPC takes it."""

    name: str
    options: tuple[tuple[str, int], ...] = ()
    """Of channels."""


def read_target(address: str) -> Target:
    """`host` or `host:port`; anything else is left to gRPC, such as `unix:/path` or `ipv6:[::1]:7`. No proxy is used for loopback.

    Raises ValueError, with the remedy, if `address` is a URL or names no host.
    """
    typed = HOST_AND_PORT.fullmatch(address)
    if not address or address.startswith((":", "http:", "https:")):
        raise ValueError(f"{address!r} is no address: write host:port, as in {DEFAULT_ADDRESS}")
    if not typed:
        return Target(address)
    host = typed["host"]
    options = (("grpc.enable_http_proxy", 0),) if _is_loopback(host.strip("[]")) else ()
    return Target(f"{host}:{typed['port'] or DEFAULT_PORT}", options)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def connected(address: str) -> Iterator[grpc.Channel]:
    """A channel. Raises LoadTestError if a call inside fails."""
    target = read_target(address)
    try:
        with grpc.insecure_channel(target.name, target.options) as channel:
            yield channel
    except grpc.RpcError as error:
        raise LoadTestError(_explained(error, target)) from error


def _explained(error: grpc.RpcError, target: Target) -> str:
    assert isinstance(error, grpc.Call)
    code, details = error.code(), error.details()
    if code is grpc.StatusCode.UNAVAILABLE and rpc_status.from_call(error) is None:
        return f"No server answers at {target.name}. Start one: steersman serve. gRPC says: {details}"
    remedy = ". Allow more time: --timeout SECONDS" if code is grpc.StatusCode.DEADLINE_EXCEEDED else ""
    return f"{target.name}: {code.name}: {details}{remedy}"
