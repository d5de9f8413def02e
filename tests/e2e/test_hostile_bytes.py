"""Bytes that are no request, at every port: others are answered meanwhile and after, nothing grows, and nothing of it is logged."""

import os
import random
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest

from bench.gateway import Server, served
from bench.http2_load import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RESET, SETTINGS, frame, request_headers
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub

RECOMMEND = "/steersman.v1.RecommendationService/Recommend"
CONTINUATION, PUSH, PRIORITY = 9, 5, 2
# Callers' text: it must not come back in the log.
MARK = b"zq7marked"
MOST_GROWTH_BYTES = 96 << 20
REQUEST = request_headers(RECOMMEND, 5000)
HELLO = b"\x16\x03\x01\x00\xc4\x01\x00\x00\xc0\x03\x03" + bytes(range(32)) + b"\x00\x00\x02\x13\x01" + MARK * 10


def begun(*frames: bytes) -> bytes:
    return PREFACE + frame(SETTINGS, 0, 0) + b"".join(frames)


def payloads() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(7)
    yield "nothing", b""
    yield "noise", chance.randbytes(4096) + MARK
    yield "text", MARK * 1000
    yield "zeros", bytes(1 << 16)
    yield "HTTP/1.1", b"POST /" + MARK + b" HTTP/1.1\r\nhost: " + MARK + b"\r\n\r\n"
    yield "HTTP/1.1 that is wrong", b"GET / HTTP/1.1\r\n" + MARK + b"\r\nhost\r\n\r\n"
    yield "HTTP/0.9", b"GET /" + MARK + b"\r\n"
    yield (
        "smuggled",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        + MARK,
    )
    yield "TLS", HELLO
    yield "TLS, cut off", HELLO[:20]
    yield "websocket", b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n" + MARK
    yield "half a preface", PREFACE[:12]
    yield "preface, then noise", PREFACE + chance.randbytes(4096) + MARK
    yield "a frame that is too large", begun(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + MARK)
    yield "frames of no kind", begun(*(frame(200 + n % 50, n % 256, n, MARK) for n in range(100)))
    yield "settings that flood", begun(*(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, n)) for n in range(5000)))
    yield "pings that flood", begun(*(frame(6, 0, 0, bytes(8)) for _ in range(5000)))
    yield "a header block that is none", begun(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff" * 100 + MARK))
    yield "a table that is too large", begun(frame(HEADERS, END_HEADERS, 1, b"\x3f\xff\xff\xff\xff\x0f" + REQUEST))
    more = (frame(CONTINUATION, 0, 1, b"\x00\x04name" + bytes([100]) + b"v" * 100) for _ in range(20_000))
    yield "continuations that do not end", begun(frame(HEADERS, 0, 1, REQUEST), *more)
    yield "data without a call", begun(frame(DATA, END_STREAM, 7, MARK))
    yield "a push", begun(frame(PUSH, END_HEADERS, 1, struct.pack(">I", 2) + REQUEST))
    yield "a call on an even stream", begun(frame(HEADERS, END_HEADERS, 2, REQUEST))
    yield "a stream that waits for itself", begun(frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 1)))
    body = frame(DATA, END_STREAM, 1, b"\x00\xff\xff\xff\xff" + MARK)
    yield "a message that says it is 4 GB", begun(frame(HEADERS, END_HEADERS, 1, REQUEST), body)
    resets = (
        frame(HEADERS, END_HEADERS, stream, REQUEST) + frame(RESET, 0, stream, struct.pack(">I", 8))
        for stream in range(1, 20_001, 2)
    )
    yield "calls that are reset at once", begun(*resets)


PAYLOADS = dict(payloads())


@pytest.fixture(scope="module")
def attacked(bundle_dir: Path) -> Iterator[Server]:
    with served(bundle_dir, "--log-level", "debug", "--engines", "0", "--inference-threads", "1") as server:
        yield server


def ports(server: Server) -> dict[str, int]:
    addresses = {"gRPC": f"http://{server.grpc}", "HTTP": server.http, "metrics": server.metrics}
    return {
        name: urlsplit(address if "//" in address else f"http://{address}").port or 0
        for name, address in addresses.items()
    }


def answers(server: Server) -> None:
    """At every port; while a flood of calls is worked off, at the second or third try."""
    with grpc.insecure_channel(server.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        for left in reversed(range(100)):
            try:
                assert RecommendationServiceStub(channel).Recommend(RecommendRequest(), timeout=60).items
                break
            except grpc.RpcError:
                if not left:
                    raise
                time.sleep(0.2)
    for name, path in (("HTTP", "/healthz"), ("metrics", "/metrics")):
        connection = HTTPConnection("127.0.0.1", ports(server)[name], timeout=60)
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        connection.close()


def resident(server: Server) -> int:
    pids = [server.pid, *map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split())]
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE")


def attack(port: int, data: bytes) -> socket.socket:
    """The connection, still open where the server has not closed it."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    with suppress(ConnectionError, TimeoutError):
        connection.sendall(data)
    connection.settimeout(0.05)
    with suppress(ConnectionError, TimeoutError):
        while connection.recv(1 << 16):
            pass
    return connection


@pytest.mark.parametrize("port", ["gRPC", "HTTP", "metrics"])
def test_others_are_answered_and_nothing_grows(attacked: Server, port: str) -> None:
    answers(attacked)
    for data in [*PAYLOADS.values()] * 2:  # so that what is only loaded or pooled is there
        attack(ports(attacked)[port], data).close()
    before = resident(attacked)
    with ExitStack() as stack:
        for name, data in PAYLOADS.items():
            for _ in range(3):
                stack.enter_context(attack(ports(attacked)[port], data))
            try:
                answers(attacked)
            except Exception as error:
                raise AssertionError(f"not after {name} at {port}") from error
        assert resident(attacked) - before < MOST_GROWTH_BYTES
    answers(attacked)


def test_connections_that_say_nothing_do_not_keep_others_out(attacked: Server) -> None:
    """As long as there are fewer than the limit of connections; at the metrics' port however many."""
    with ExitStack() as stack:
        for port in ports(attacked).values():
            for _ in range(200):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        answers(attacked)
    answers(attacked)


def test_nothing_that_was_sent_is_logged(attacked: Server) -> None:
    time.sleep(0.5)  # the log's last lines
    log = attacked.log.read_bytes()
    assert b'"ready"' in log
    assert MARK not in log
    assert not re.search(rb"Traceback|panic|ASSERT", log), log[-2000:]
