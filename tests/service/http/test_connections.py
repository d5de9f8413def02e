"""Connections that are too many, too slow or not HTTP: others are answered all the same."""

import asyncio
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from steersman_service.certificates import Certificates, TlsFiles
from steersman_service.http import connections, server
from steersman_service.http.options import GatewayOptions
from tests.certificates import Authority
from tests.service.http.gateways import Gateway, gatewayed, recording

MOST = 20
ANSWER_BYTES = 8 << 20
PATH = "/steersman.v1.ModelService/GetModelInfo"
HEAD = b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def bounded() -> Iterator[Gateway]:
    """Behind it a server whose answers fill the buffers of any connection."""
    large = b"\x0a\x80\x80\x80\x04" + bytes(ANSWER_BYTES)
    with recording(lambda context: large) as (target, _), pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEAD_SECONDS", 0.5)
        patch.setattr(connections, "READ_SECONDS", 0.5)
        with gatewayed(target, max_connections=MOST) as front:
            yield front


def test_connections_that_never_come_to_tls_count_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    authority = Authority(tmp_path)
    certificates = Certificates(TlsFiles(*authority.issue("server")), lambda result: None)
    trusts = ssl.create_default_context(cafile=authority.file)
    with gatewayed("", context=certificates.context(demanding=False), max_connections=2) as front, ExitStack() as stack:
        silent = [stack.enter_context(connected(front)) for _ in range(4)]
        assert all(ended(each) for each in silent[2:])
        assert all(ended(each) for each in silent[:2])
        for _ in range(100):
            try:
                assert told_by_tls(front, trusts) == (200, b"{")
                break
            except OSError:  # those that ended may count for a moment longer
                time.sleep(0.05)
        else:
            raise AssertionError("connections that ended keep their place")


def told_by_tls(front: Gateway, trusts: ssl.SSLContext) -> tuple[int, bytes]:
    """Status and first byte of the second answer on one connection."""
    with closing(HTTPSConnection("127.0.0.1", front.port, context=trusts, timeout=10)) as connection:
        for _ in range(2):
            connection.request("GET", "/openapi.json", headers={"host": "localhost"})
            answer = connection.getresponse()
            body = answer.read()
        return answer.status, body[:1]


def connected(front: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", front.port), timeout=10)


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1 << 16) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"P", HEAD])
@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"])
def test_a_head_that_does_not_come_is_given_up(bounded: Gateway, first: bytes, sent: bytes) -> None:
    if first and not sent:
        return  # kept alive for longer
    with connected(bounded) as connection:
        if first:
            connection.sendall(first)
            assert b" 200 " in connection.recv(1 << 16)
        connection.sendall(sent)
        while not ended(connection):
            pass
    assert bounded.get("/").status == 200


def drip(connection: socket.socket, part: bytes) -> None:
    for _ in range(1000):
        connection.sendall(part)
        time.sleep(0.02)


def test_a_head_that_drips_does_not_last_longer(bounded: Gateway) -> None:
    with connected(bounded) as connection:
        connection.sendall(HEAD)
        with pytest.raises(ConnectionError):
            drip(connection, b"x: 1\r\n")


def test_a_body_that_drips_after_its_answer_does_not_hold_the_connection(bounded: Gateway) -> None:
    with connected(bounded) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n")
        with pytest.raises(ConnectionError):
            drip(connection, b"x")


def test_answers_that_are_not_read_are_given_up(bounded: Gateway) -> None:
    head = HEAD.replace(b"json", b"proto") + b"content-length: 0\r\n\r\n"
    with ExitStack() as stack:
        readers = [stack.enter_context(socket.socket()) for _ in range(4)]
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            reader.settimeout(10)
            reader.connect(("127.0.0.1", bounded.port))
            reader.sendall(head)
        time.sleep(2)  # how long only decides what this can find
        for reader in readers:
            size = 0
            try:
                while part := reader.recv(1 << 20):
                    size += len(part)
            except ConnectionError:
                pass
            assert size < ANSWER_BYTES
    assert bounded.get("/").status == 200


def test_connections_beyond_the_limit_are_closed_at_once(bounded: Gateway) -> None:
    with ExitStack() as stack:
        made = [stack.enter_context(connected(bounded)) for _ in range(2 * MOST)]
        for connection in made[MOST + 2 :]:
            assert ended(connection)
        made[0].close()
        for connection in made:
            connection.close()
        for _ in range(100):
            try:
                assert bounded.get("/").status == 200
                break
            except ConnectionError:
                time.sleep(0.05)
        else:
            raise AssertionError("closed connections keep their place")


def test_a_head_that_is_too_large_is_refused(bounded: Gateway) -> None:
    with connected(bounded) as connection:
        connection.sendall(HEAD + b"x: " + b"y" * (2 * connections.MOST_HEAD_BYTES))
        assert b" 400 " in connection.recv(1 << 16)


async def test_connections_that_come_as_it_ends_are_closed_at_once() -> None:
    """They would hang for as long as the call that is in flight."""
    asked, answered = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await answered.wait()
        await PlainTextResponse("late")(scope, receive, send)

    for _ in range(5):
        asked.clear()
        answered.clear()
        on = server.listening("127.0.0.1", 0)
        where, latest = on.getsockname(), deque[socket.socket]()
        coming = threading.Thread(target=connect_until_refused, args=(where, latest))
        async with server.served(app, on, GatewayOptions()):
            reader, writer = await asyncio.open_connection(*where)
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await asked.wait()
            coming.start()
            released = asyncio.create_task(released_when_ended(coming, latest, answered))
        assert await released
        assert b"late" in await reader.read()
        writer.close()


def connect_until_refused(where: tuple[str, int], latest: deque[socket.socket]) -> None:
    while True:
        try:
            latest.append(socket.create_connection(where, timeout=10))
        except ConnectionError:
            return
        if len(latest) > 50:
            latest.popleft().close()


async def released_when_ended(coming: threading.Thread, latest: deque[socket.socket], answered: asyncio.Event) -> bool:
    """Whether all these connections ended before the call in flight was answered."""
    await asyncio.to_thread(coming.join)
    try:
        return await asyncio.to_thread(lambda: all(ended(each) for each in latest))
    except TimeoutError:
        return False
    finally:
        answered.set()
        for each in latest:
            each.close()
