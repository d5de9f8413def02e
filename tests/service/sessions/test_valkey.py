"""The embedded Valkey: nothing acknowledged is lost, whoever is killed, and a folder never has two servers."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvloop
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from steersman_service.errors import StartupError
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.metrics import Metrics

OWNER = """
import sys, time
from pathlib import Path
from steersman_service.sessions.valkey import EmbeddedValkey
valkey = EmbeddedValkey.start(Path(sys.argv[1]))
print(valkey.url, valkey.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def running(folder: Path) -> Iterator[EmbeddedValkey]:
    valkey = EmbeddedValkey.start(folder)
    try:
        yield valkey
    finally:
        valkey.stop()


@contextmanager
def client(url: str) -> Iterator[Redis]:
    with Redis.from_url(url, decode_responses=True) as redis:
        yield redis


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A server that holds `key = kept` and whose owner was killed: its URL and process id."""
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        url, pid = owner.stdout.readline().split()
        with client(url) as redis:
            redis.set("key", "kept")
        owner.kill()
    yield url, int(pid)
    with suppress(ProcessLookupError):
        os.kill(int(pid), signal.SIGKILL)


def test_a_killed_server_comes_back_with_all_that_it_acknowledged(tmp_path: Path) -> None:
    with running(tmp_path) as valkey, client(valkey.url) as redis:
        for number in range(300):
            redis.rpush("numbers", number)
        os.kill(valkey.pid, signal.SIGKILL)
    with running(tmp_path) as valkey, client(valkey.url) as redis:
        assert redis.lrange("numbers", 0, -1) == [str(number) for number in range(300)]


def test_a_server_that_outlived_its_owner_is_taken_over(tmp_path: Path, orphan: tuple[str, int]) -> None:
    url, pid = orphan
    with client(url) as redis:
        assert redis.ping()
        redis.set("later", "kept too")
    with running(tmp_path) as valkey, client(valkey.url) as redis:
        assert redis.info("server")["process_id"] == valkey.pid != pid
        assert redis.mget("key", "later") == ["kept", "kept too"]


def test_a_second_start_on_the_folder_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as valkey:
        with pytest.raises(StartupError, match=rf"{tmp_path} is in use .* STEERSMAN_REDIS_URL"):
            EmbeddedValkey.start(tmp_path)
        with client(valkey.url) as redis:
            assert redis.ping()


def test_stop_ends_the_server_and_may_be_repeated(tmp_path: Path) -> None:
    valkey = EmbeddedValkey.start(tmp_path)
    valkey.stop()
    valkey.stop()
    with client(valkey.url) as redis, pytest.raises(RedisConnectionError):
        redis.ping()


def test_what_keeps_a_dead_server_from_its_start_may_pass(tmp_path: Path) -> None:
    lock = tmp_path / "server.lock"
    with running(tmp_path) as valkey, client(valkey.url) as redis:
        os.kill(valkey.pid, signal.SIGKILL)
        os.waitid(os.P_PID, valkey.pid, os.WEXITED | os.WNOWAIT)
        lock.unlink()
        lock.mkdir()
        with pytest.raises(StartupError, match=r"cannot be started: .*server\.lock"):
            valkey.revive()
        lock.rmdir()
        valkey.revive()
        assert redis.ping()


def test_the_server_has_a_session_of_its_own_and_is_private(tmp_path: Path) -> None:
    with running(tmp_path / "a folder") as valkey, client(valkey.url) as redis:
        assert os.getsid(valkey.pid) != os.getsid(0)
        assert redis.config_get("port") == {"port": "0"}
        for path in (tmp_path / "a folder", tmp_path / "a folder" / "valkey.sock"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_path_too_long_for_a_socket_is_reached_by_a_short_one(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    with running(folder) as valkey, client(valkey.url) as redis:
        alias = Path(valkey.url.removeprefix("unix://")).parent.parent
        redis.set("key", "kept")
    assert not alias.exists()
    with running(folder) as valkey, client(valkey.url) as redis:
        assert redis.get("key") == "kept"


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("a file where the server wants a folder")
    with pytest.raises(StartupError, match=r"does not start[\s\S]*appendonlydir"):
        EmbeddedValkey.start(tmp_path)
    (tmp_path / "appendonlydir").unlink()
    with running(tmp_path):
        pass


def test_a_connection_that_was_reset_between_two_calls_costs_none(tmp_path: Path) -> None:
    """Under uvloop, as in the server: it refuses to write to such a connection in its own way."""
    server = EmbeddedValkey.start(tmp_path)

    async def append() -> None:
        store = SessionStore(server.url, max_events=3, ttl_seconds=60, timeout_seconds=20, metrics=Metrics())
        await store.append("s", [("e1", "i1")])
        for pipeline in store._functions._servers.pipelines():
            for connection in pipeline._connections:
                if writer := getattr(connection, "_writer", None):
                    writer.transport.abort()
        assert (await store.append("s", [("e2", "i2")])).total_events == 2
        await store.close()

    try:
        uvloop.run(append())
    finally:
        server.stop()
