"""What never becomes a call: hosts, content types and methods that are refused, and bodies out of bounds."""

import gzip
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from google.rpc.status_pb2 import Status

from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, GetSessionRequest
from steersman_service.http import connect, guard, json_messages, server
from steersman_service.http.guard import without_port
from tests.service.http.gateways import (
    JSON,
    Gateway,
    connect_status,
    frames,
    gatewayed,
    reason,
    recording,
)
from tests.service.http.test_calls import PATH
from tests.serving import Running, serving, settings_for

DELETE = "/steersman.v1.SessionService/DeleteSession"
LIMIT = 4096
OTHER_TYPES = (
    *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonx"),
    *("text/plain;application/json", "application/grpc", "application/grpc+proto", "application/connect+json"),
    *("application/grpc-web-text", "application/proto+json", "application/json, text/plain", "*/*"),
)


@pytest.fixture(scope="module")
def small(server: Running) -> Iterator[Gateway]:
    """It takes little."""
    with gatewayed(f"127.0.0.1:{server.ports.grpc}", max_body_bytes=LIMIT) as running:
        yield running


@pytest.mark.parametrize("content_type", OTHER_TYPES)
def test_other_content_types_never_act(server: Running, front: Gateway, content_type: str) -> None:
    """A page of another site can send some of them without being asked."""
    session = str(uuid4())
    server.session.AppendEvents(AppendEventsRequest(session_id=session, events=[Event(event_id="1", item_id="100")]))
    headers = {"content-type": content_type, "origin": "https://evil.example"}
    reply = front.send(DELETE, f'{{"sessionId": "{session}"}}', headers)
    assert reply.status == 415
    status = connect_status(reply)
    assert reason(status) == "CONTENT_TYPE"
    assert "application/json" in status.message
    assert server.session.GetSession(GetSessionRequest(session_id=session)).session.total_events == 1


def test_no_content_type_and_two_of_them_are_refused(front: Gateway) -> None:
    assert front.send(PATH, b"{}", {}).status == 415
    twice = b"content-type: application/json\r\ncontent-type: text/plain\r\n"
    assert b" 415 " in raw(front, head(front, twice, 2) + b"{}").splitlines()[0]


def head(front: Gateway, headers: bytes, length: int) -> bytes:
    host = f"host: 127.0.0.1:{front.port}\r\n".encode()
    return b"POST " + PATH.encode() + b" HTTP/1.1\r\n" + host + headers + b"content-length: %d\r\n\r\n" % length


def raw(front: Gateway, data: bytes) -> bytes:
    """The answer to these bytes, after which the gateway has closed."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=60) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
def test_a_call_is_a_post(front: Gateway, method: str) -> None:
    reply = front.send(PATH, None, JSON, method)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert method == "HEAD" or reason(connect_status(reply)) == "ONLY_POST"


@pytest.mark.parametrize(
    "path",
    [
        "/none",
        "/steersman.v1.NoService/None",
        f"{PATH}/more",
        f"/{PATH}",
        "/../etc/passwd",
        "/grpc.health.v1.Health/Check",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_not_there_is_told_as_json(front: Gateway, path: str, method: str) -> None:
    reply = front.send(path, None, JSON, method)
    assert (reply.status, reply.headers["content-type"]) == (404, "application/json")
    assert reason(connect_status(reply)) == "NO_SUCH_PATH"
    assert path.encode() not in reply.body


def test_what_it_says_of_itself_is_read_only(front: Gateway) -> None:
    for path in ("/", "/openapi.json", "/healthz", "/livez"):
        reply = front.send(path, "{}")
        assert (reply.status, reason(connect_status(reply))) == (405, "ONLY_GET")
        assert front.get(path).status == 200


# Hosts.


def test_only_its_own_names_are_answered(front: Gateway) -> None:
    for host in ("localhost", "localhost:1", "LOCALHOST:80", "127.0.0.1", "[::1]:8080", "[::1]", "localhost."):
        assert front.get("/", {"host": host}).status == 200
    for host in (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8080",
        "",
        "::1:80",
        "@",
    ):
        reply = front.send(PATH, "{}", {**JSON, "host": host})
        assert (host, reply.status, reason(connect_status(reply))) == (host, 403, "HOST")
    assert front.get("/", {"host": "evil.example"}).status == 403
    assert front.get("/healthz", {"host": "10.1.2.3:8080"}).status == 200


def test_two_hosts_are_none(front: Gateway) -> None:
    two = b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n"
    status = raw(front, two).splitlines()[0]
    assert b" 403 " in status or b" 400 " in status
    assert b" 40" in raw(front, b"GET / HTTP/1.0\r\n\r\n").splitlines()[0]


def test_other_names_can_be_allowed() -> None:
    with recording() as (target, _):
        with gatewayed(target, allowed_hosts=("shop.example", "*.shop.example")) as front:
            for host, status in (
                ("shop.example", 200),
                ("a.shop.example:80", 200),
                ("ashop.example", 403),
                ("localhost", 403),
            ):
                assert front.get("/", {"host": host}).status == status
        with gatewayed(target, allowed_hosts=("*",)) as front:
            assert front.get("/", {"host": "evil.example"}).status == 200


def test_a_port_is_told_from_an_address() -> None:
    assert [without_port(host) for host in ("a:1", "a", "[::1]:1", "[::1]", "::1", "a:b", ":1")] == [
        *("a", "a", "[::1]", "[::1]", "::1", "a:b", "")
    ]


# Other sites.


def test_no_other_site_may_call_unless_it_is_named(front: Gateway) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for reply in (
        front.send(PATH, None, {**asked, "access-control-request-headers": "content-type"}, "OPTIONS"),
        front.send(PATH, "{}", {**JSON, "origin": "https://evil.example"}),
        front.get("/", {"origin": "https://evil.example"}),
    ):
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_site_that_is_named_may() -> None:
    origin, other = "https://shop.example", "https://evil.example"
    with recording() as (target, _), gatewayed(target, cors_origins=(origin,)) as front:
        wanted = "content-type,connect-timeout-ms,x-grpc-web,x-user-agent"
        asked = {"access-control-request-method": "POST", "access-control-request-headers": wanted}
        preflight = front.send(PATH, None, {**asked, "origin": origin}, "OPTIONS")
        assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, origin)
        assert "access-control-allow-credentials" not in preflight.headers
        allowed = preflight.headers["access-control-allow-headers"].lower()
        assert all(name in allowed for name in wanted.split(","))
        for body, status in (("{}", 200), ("{", 400)):
            reply = front.send(PATH, body, {**JSON, "origin": origin})
            assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, origin)
            assert "grpc-status" in reply.headers["access-control-expose-headers"]
        refused = front.send(PATH, None, {**asked, "origin": other}, "OPTIONS")
        assert refused.status == 400
        assert "access-control-allow-origin" not in refused.headers
        assert "access-control-allow-origin" not in front.send(PATH, "{}", {**JSON, "origin": other}).headers


# Bodies.


def too_large(reply: Any) -> bool:
    status = connect_status(reply)
    return bool(reply.status == 413 and reason(status) == "MESSAGE_TOO_LARGE" and str(LIMIT) in status.message)


def test_a_body_that_is_too_large_is_refused_before_it_is_read(small: Gateway) -> None:
    assert small.send(PATH, '{"k": 1}' + " " * (LIMIT - 8)).status == 200
    assert too_large(small.send(PATH, '{"k": 1}' + " " * (LIMIT - 7)))
    # One that has sent all is told, too, with kinds of clients that read only then.
    assert too_large(small.send(PATH, b" " * (8 << 20)))
    # Told by its head alone.
    waits = head(small, b"content-type: application/json\r\nexpect: 100-continue\r\n", LIMIT + 1)
    assert b" 413 " in raw(small, waits).splitlines()[0]
    told = raw(small, head(small, b"content-type: application/json\r\n", 1 << 40))
    assert b" 413 " in told.splitlines()[0]


def test_a_body_that_does_not_say_its_size_is_bounded_too(small: Gateway) -> None:
    chunks = [b" " * 1000] * 4
    assert small.send(PATH, iter([*chunks, b"{}"])).status == 200
    assert too_large(small.send(PATH, iter([*chunks, b"{}" + b" " * 100])))


@pytest.mark.parametrize(
    "headers", [{**JSON, "content-encoding": "gzip"}, {"content-type": "application/grpc-web", "grpc-encoding": "gzip"}]
)
def test_a_body_that_unpacks_to_too_much_is_refused(small: Gateway, headers: dict[str, str]) -> None:
    packed = gzip.compress(b" " * 1_000_000 + b"{}")
    framed = packed if headers["content-type"] == "application/json" else b"\1" + len(packed).to_bytes(4) + packed
    assert len(framed) < LIMIT
    reply = small.send(PATH, framed, headers)
    connect = headers["content-type"] == "application/json"
    details = b"" if connect else b64decode(frames(reply.body)[1]["grpc-status-details-bin"] + "==")
    assert (reason(connect_status(reply)) if connect else reason(Status.FromString(details))) == "MESSAGE_TOO_LARGE"
    fits = gzip.compress(b'{"k": 1}')
    assert small.send(PATH, fits, {**JSON, "content-encoding": "gzip"}).status == 200
    assert small.send(PATH, gzip.compress(b"") + fits, {**JSON, "content-encoding": "gzip"}).status == 400
    assert small.send(PATH, b"\x1f\x8bno", {**JSON, "content-encoding": "gzip"}).status == 400
    assert small.send(PATH, fits, {**JSON, "content-encoding": "rot13"}).status == 400


def test_a_body_of_json_that_takes_long_to_read_holds_nobody_up(
    front: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, read = threading.Event(), threading.Event(), json_messages.from_json

    def slowly(data: bytes, kind: type[Any]) -> Any:
        begun.set()
        assert go_on.wait(60)
        return read(data, kind)

    monkeypatch.setattr(connect, "from_json", slowly)
    body = '{"k": 1}' + " " * connect.MOST_READ_AT_ONCE
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(front.send, PATH, body)
        assert begun.wait(60)
        assert front.get("/livez").status == 200
        go_on.set()
        assert sent.result().status == 200
    monkeypatch.undo()
    items = '{"history": {"itemIds": [' + '"1", ' * json_messages.MOST_OBJECTS + '"1"]}}'
    assert front.send(PATH, items).status in (200, 400), "texts are no objects"
    reply = front.send(PATH, '{"controls": [' + "{}, " * json_messages.MOST_OBJECTS + "{}]}")
    assert (reply.status, reason(connect_status(reply))) == (400, "INVALID_REQUEST")
    assert "objects" in connect_status(reply).message


def test_a_body_that_does_not_come_is_given_up(front: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    told = raw(front, head(front, b"content-type: application/json\r\n", 100) + b"{")
    assert b" 408 " in told.splitlines()[0]
    assert b"SLOW_REQUEST" in told


def test_a_body_that_is_cut_off_is_no_call() -> None:
    with recording() as (target, seen), gatewayed(target) as front:
        with socket.create_connection(("127.0.0.1", front.port)) as connection:
            connection.sendall(head(front, b"content-type: application/json\r\n", 100) + b"{}")
        assert front.send(PATH, "{}").status == 200
    assert len(seen) == 1


def test_an_idle_connection_is_closed_in_the_end(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steersman_service.http.server.KEEP_ALIVE_SECONDS", 0.2)
    with gatewayed(f"127.0.0.1:{server.ports.grpc}") as front:
        connection = HTTPConnection("127.0.0.1", front.port, timeout=60)
        connection.request("GET", "/")
        connection.getresponse().read()
        assert connection.sock is not None
        assert connection.sock.recv(1) == b""
        connection.close()


def test_connections_are_kept_for_longer_than_proxies_keep_theirs() -> None:
    assert server.KEEP_ALIVE_SECONDS == 75


def test_too_many_calls_are_refused_at_once(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_CALLS", 2)
    begun, go_on = slow
    with serving(settings_for(tmp_path, bundle_dir)) as server, gatewayed(f"127.0.0.1:{server.ports.grpc}") as front:
        waiting = [HTTPConnection("127.0.0.1", front.port) for _ in range(2)]
        for connection in waiting:
            connection.request("POST", PATH, "{}", JSON)
        begun.wait()
        while (reply := front.send(PATH, "{}", {**JSON, "connect-timeout-ms": "200"})).status == 504:
            pass  # the second may not have come yet
        assert (reply.status, reason(connect_status(reply)), reply.headers["retry-after"]) == (
            429,
            "TOO_MANY_CALLS",
            "1",
        )
        assert front.get("/healthz").status == 200
        go_on.set()
        assert [connection.getresponse().status for connection in waiting] == [200, 200]
        for connection in waiting:
            connection.close()


def test_requests_are_counted_by_kind_and_outcome() -> None:
    counted: list[tuple[str, int]] = []
    with recording() as (target, _), gatewayed(target, lambda kind, status: counted.append((kind, status))) as front:
        front.send(PATH, "{}")
        front.send(PATH, b"", {"content-type": "application/proto"})
        front.send(PATH, b"\0\0\0\0\0", {"content-type": "application/grpc-web"})
        front.send(PATH, "{}", {"content-type": "text/plain"})
        front.send(PATH, "{", JSON)
        front.get("/", {"host": "evil.example"})
    assert counted == [
        *(("connect_json", 200), ("connect_proto", 200), ("grpc_web", 200)),
        *(("other", 415), ("connect_json", 400), ("other", 403)),
    ]


def test_nothing_says_what_software_it_is(front: Gateway) -> None:
    for reply in (front.get("/"), front.send(PATH, "{}"), front.get("/none")):
        assert "server" not in reply.headers


def test_lines_that_are_no_http_are_refused(front: Gateway) -> None:
    assert b" 400 " in raw(front, b"HELLO\r\n\r\n").splitlines()[0]
    long = b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 200_000 + b"\r\n\r\n"
    with suppress(ConnectionResetError):  # it closes before it has read all
        assert b" 400 " in raw(front, long).splitlines()[0]
    assert front.get("/").status == 200
