"""The port that Prometheus scrapes, and who else connects to it."""

import socket
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily

from steersman_service.telemetry import port as metrics_port
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.port import MAX_CONNECTIONS, exposed

HEAD = b"GET /metrics HTTP/1.1\r\n"
# More than any buffer holds.
LABELS, LABEL_BYTES = 8000, 2000


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("answer", "Of everything.", registry=registry).set(42)
    return registry


@pytest.fixture
def port(registry: CollectorRegistry) -> Iterator[int]:
    with exposed(registry, "127.0.0.1", 0) as port:
        yield port


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        return str(response.read().decode())


def connect(port: int, sent: bytes = HEAD) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(sent)
    return connection


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        threading.Event().wait(0.01)


def test_a_scrape_works_beside_many_connections_that_say_nothing(port: int) -> None:
    # Threads of earlier tests may end meanwhile.
    before = set(threading.enumerate())

    def serving() -> int:
        return len(set(threading.enumerate()) - before)

    with ExitStack() as stack:
        for _ in range(5 * MAX_CONNECTIONS):
            stack.enter_context(connect(port))
        assert "answer 42.0" in scrape(port)
        until(lambda: serving() <= MAX_CONNECTIONS)
    until(lambda: serving() == 0)


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"X: y\r\n"])
def test_a_connection_that_says_nothing_is_closed(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(metrics_port, "MAX_SECONDS", 0.1)
    monkeypatch.setattr(metrics_port, "CHECK_SECONDS", 0.05)
    with exposed(registry, "127.0.0.1", 0) as port, connect(port, sent) as connection:
        assert connection.recv(1) == b""


class Wide:
    """Metrics with long labels, and the thread that serves them."""

    def __init__(self) -> None:
        self.served_by: threading.Thread | None = None

    def collect(self) -> Iterator[Metric]:
        self.served_by = threading.current_thread()
        gauge = GaugeMetricFamily("wide", "Of long labels.", labels=["label"])
        for number in range(LABELS):
            gauge.add_metric([str(number).zfill(LABEL_BYTES)], 1)
        yield gauge


def test_a_connection_that_reads_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_port, "MAX_SECONDS", 1000.0)
    monkeypatch.setattr(metrics_port, "CHECK_SECONDS", 0.05)
    registry, wide = CollectorRegistry(), Wide()
    registry.register(wide)
    with exposed(registry, "127.0.0.1", 0) as port, connect(port, HEAD + b"\r\n") as connection:
        until(lambda: connection.recv(12, socket.MSG_PEEK) == b"HTTP/1.0 200")
        thread = wide.served_by
        assert thread is not None
        monkeypatch.setattr(metrics_port, "MAX_SECONDS", 0.0)
        thread.join(60)
        assert not thread.is_alive()
        answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    assert len(answer) < LABELS * LABEL_BYTES


def test_wrong_and_broken_requests_leave_no_traceback(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    for _ in range(20):
        broken = connect(port)
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        broken.close()
    for sent, code in (
        (b"\xff\xfe\r\n\r\n", b"400"),
        (b"BREW /metrics HTTP/1.1\r\n\r\n", b"501"),
        (b"GET " + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (HEAD + b"Accept: application/openmetrics-text;version=a.b\r\n\r\n", b"500"),
        (b"GET http://[ HTTP/1.1\r\n\r\n", b"500"),
    ):
        with connect(port, sent) as connection:
            assert code in connection.recv(4096)
    assert "answer 42.0" in scrape(port)
    written = capfd.readouterr().err.splitlines()
    assert all(line.startswith('{"error"') and "Traceback" not in line for line in written), written
