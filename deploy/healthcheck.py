"""Exits with 0 if the server in this container answers that a service serves: `healthcheck.py [SERVICE]`, by default the whole.

Where the server speaks TLS it asks on the private socket of a front end, which wants no certificate; with flags, as any client.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from steersman_client.credentials import Access, open_channel, why_not_let_in

TIMEOUT_SECONDS = 3.0
# The way to one's own machine leads through no proxy that the environment names.
OPTIONS = (("grpc.enable_http_proxy", 0),)
# Where a supervisor puts them: see processes/supervisor.py.
SOCKETS = "steersman-*/front-end-?"


def main() -> None:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    given = _parser().parse_args()
    token = given.token_file.read_text().strip() if given.token_file else os.environ.get("STEERSMAN_TOKEN") or None
    access = Access(given.tls_ca, given.tls_cert, given.tls_key, token)
    try:
        problems = [_problem(target, access, given.service) for target in _targets(given.address, given.tls_ca)]
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    if "" not in problems:
        sys.exit(problems[-1] if problems else f"no server has a socket in {tempfile.gettempdir()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", nargs="?", default="")
    parser.add_argument("--address", help="host:port; default: that of this container's server")
    parser.add_argument("--tls-ca", type=Path, help="authorities of the server's certificate: with it, TLS")
    parser.add_argument("--tls-cert", type=Path, help="a client's certificate, where the server wants to see one")
    parser.add_argument("--tls-key", type=Path, help="its private key")
    parser.add_argument("--token-file", type=Path, help="a file with a token; or set STEERSMAN_TOKEN")
    return parser


def _targets(address: str | None, tls_ca: Path | None) -> list[str]:
    """A server that was killed may have left sockets behind: each is asked."""
    if address is None and tls_ca is None and os.environ.get("STEERSMAN_TLS_CERT"):
        found = [*Path(tempfile.gettempdir()).glob(SOCKETS), *Path("/dev/shm").glob(SOCKETS)]
        return [f"unix:{quote(str(socket))}" for socket in found]
    return [address or f"127.0.0.1:{os.environ.get('STEERSMAN_PORT') or 50051}"]


def _problem(target: str, access: Access, service: str) -> str:
    """Empty if it serves."""
    try:
        with open_channel(target, access, OPTIONS) as channel:
            stub: Any = HealthStub(channel)
            status = stub.Check(HealthCheckRequest(service=service), timeout=TIMEOUT_SECONDS).status
    except grpc.RpcError as error:
        why = why_not_let_in(error.details() or "", access).replace("tls_", "--tls-")
        return f"{target}: {error.code().name}{why and f': {why}'}"
    return (
        "" if status == HealthCheckResponse.SERVING else f"{target}: {HealthCheckResponse.ServingStatus.Name(status)}"
    )


if __name__ == "__main__":
    main()
