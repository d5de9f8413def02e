"""The port that front ends share."""

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from steersman_service.errors import StartupError
from steersman_service.processes.port import ReservedPort


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        "localhost",
        pytest.param("[::1]", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6")),
    ],
)
def test_a_reserved_port_is_for_front_ends_alone(host: str) -> None:
    port = ReservedPort(host, 0)
    port.probe()
    address = f"{host}:{port.number}"
    servers = [grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 1)]) for _ in range(2)]
    try:
        for server in servers:
            assert server.add_insecure_port(address) == port.number
            server.start()
        for another in (port.probe, lambda: ReservedPort(host, port.number)):
            with pytest.raises(StartupError, match="another server"):
                another()
        alone = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
        with pytest.raises(RuntimeError):
            alone.add_insecure_port(address)
    finally:
        for server in servers:
            server.stop(None).wait()
        port.close()


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"127.0.0.1:{number}; is another server"):
            ReservedPort("127.0.0.1", number)


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(StartupError, match=r"nobody\.invalid"):
        ReservedPort("nobody.invalid", 0)
