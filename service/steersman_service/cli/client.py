"""The client side of the command line: reaches a server, and explains errors."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from steersman_service.cli.address import DEFAULT_PORT, Address, read_address
from steersman_service.cli.printing import fail

DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
# What to ask for when a field names something that there is not.
LISTS = {"concept": "steersman features --concepts", "feature.id": "steersman features"}


@contextmanager
def connected(address: str) -> Iterator[grpc.Channel]:
    """A channel; an error of a call inside is explained, and ends the command with exit code 1.

    To this machine it goes directly, whatever proxy the environment names.
    """
    try:
        read = read_address(address)
    except ValueError as error:
        fail(f"--address: {error}", 2)
    try:
        with grpc.insecure_channel(read.target, read.options) as channel:
            yield channel
    except grpc.RpcError as error:
        _explain(error, read)


def command(words: str, address: str, *quoted: str) -> str:
    """A command to type next, for the same server: `words` as they are, `quoted` as the shell wants them."""
    where = [] if address == DEFAULT_ADDRESS else ["--address", address]
    return " ".join(["steersman", words, *map(shlex.quote, [*quoted, *where])])


def _explain(error: grpc.RpcError, address: Address) -> NoReturn:
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    if status is None and error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        fail(_unreached(error, address))
    violations = error_details_pb2.BadRequest()
    any(detail.Unpack(violations) for detail in (status.details if status else ()))
    fields = [f"{violation.field}: {violation.description}" for violation in violations.field_violations]
    lists = [names for end, names in LISTS.items() if any(v.field.endswith(end) for v in violations.field_violations)]
    hint = f". Names: {lists[0]}" if lists else ""
    fail(f"{error.code().name}: {'; '.join(fields) or error.details()}{hint}")


def _unreached(error: grpc.Call, address: Address) -> str:
    if proxy := address.proxy:
        return (
            f"No server answers at {address.target} through the proxy of {proxy}. "
            f"If that is in the way: no_proxy={address.host.strip('[]')}"
        )
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"No answer from {address.target} in time. Give it longer: --timeout SECONDS"
    if "DNS" in (error.details() or "") or "resolution" in (error.details() or ""):
        return f"No server answers at {address.target}: the name cannot be resolved. Write host:port after --address"
    start = "" if address.target == DEFAULT_ADDRESS or not address.loopback else _port_flag(address)
    return f"No server answers at {address.target}. Start one: steersman serve{start}"


def _port_flag(address: Address) -> str:
    return f" --port {address.target.rpartition(':')[2]}"
