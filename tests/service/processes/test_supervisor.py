"""The port that workers share, and a worker that dies while it speaks. The rest: tests/e2e/test_serve_workers.py."""

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from steersman_service.errors import StartupError
from steersman_service.processes.supervisor import ReservedPort
from steersman_service.processes.worker_process import WorkerProcess


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
def test_a_reserved_port_is_for_workers_alone(host: str) -> None:
    port = ReservedPort(host, 0)
    port.probe()
    address = f"{host}:{port.number}"
    workers = [grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 1)]) for _ in range(2)]
    try:
        for worker in workers:
            assert worker.add_insecure_port(address) == port.number
            worker.start()
        for another in (port.probe, lambda: ReservedPort(host, port.number)):
            with pytest.raises(StartupError, match="another server"):
                another()
        alone = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
        with pytest.raises(RuntimeError):
            alone.add_insecure_port(address)
    finally:
        for worker in workers:
            worker.stop(None).wait()
        port.close()


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"127.0.0.1:{number}; is another server"):
            ReservedPort("127.0.0.1", number)


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(StartupError, match=r"nobody\.invalid"):
        ReservedPort("nobody.invalid", 0)


KILLED = "import os, socket, sys; socket.socket(fileno=int(sys.argv[1])).send(b'[[1, 2'); os.kill(os.getpid(), 9)"


async def test_half_a_line_is_no_answer() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        command = (sys.executable, "-c", KILLED, str(theirs.fileno()))
        process = await asyncio.create_subprocess_exec(*command, pass_fds=[theirs.fileno()])
    worker = WorkerProcess(process, *await asyncio.open_connection(sock=ours))
    with pytest.raises(StartupError, match="exit code -9"):
        await worker.loaded()
    assert await worker.ended == -9
    assert not worker.families
