"""Several workers on one port, under load: killed, replaced, drained. Clients count their answers."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import grpc
import pytest

from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, GetSessionRequest
from steersman.v1.session_service_pb2_grpc import SessionServiceStub
from steersman_client.channel import RECONNECT, SERVICE_CONFIG
from tests.e2e.processes import PROGRAM, workers_of

SERVE = ["serve", "--port", "0", "--metrics-port", "0"]
COMMAND = [*PROGRAM, *SERVE]
WORKERS = ["--workers", "2"]
CLIENTS = 6
# Of each client, between calls, and between two looks at the metrics: processes that start meanwhile have their share of two cores.
PAUSE_SECONDS, ASK_SECONDS = 0.02, 0.05
DEATHS = re.compile(r"^steersman_worker_deaths_total (\S+)$", re.MULTILINE)
ANSWERED = re.compile(r'^grpc_server_handled_total\{grpc_code="OK",grpc_method="Recommend",.*\} (\S+)$', re.MULTILINE)


class Served:
    """A server as `steersman serve` starts it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stderr
        self.log: list[dict[str, Any]] = []
        for line in process.stderr:
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == "ready":
                break
        self.address: str = self.log[-1]["address"]
        self.metrics: str = self.log[-1]["metrics"]
        self.rest = ""
        """What it wrote after that, and is no line of the log."""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def pids(self) -> list[int]:
        """Of its workers."""
        return workers_of(self.process.pid)

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as response:
            return str(response.read().decode())

    def until(self, *lines: str) -> None:
        """Waits until the metrics say so."""
        while not set(lines) <= set(self.scrape().splitlines()):
            time.sleep(ASK_SECONDS)

    def until_at_least(self, name: str, least: float) -> None:
        """Waits until a metric, with its labels, is that high."""
        while not any(
            float(line.rpartition(" ")[2]) >= least for line in self.scrape().splitlines() if line.startswith(name)
        ):
            time.sleep(ASK_SECONDS)

    def kill(self, pid: int) -> None:
        """Kills a process of it, and returns when its death is counted."""
        (deaths,) = DEATHS.findall(self.scrape())
        os.kill(pid, signal.SIGKILL)
        self.until_at_least("steersman_worker_deaths_total", float(deaths) + 1)

    def answered(self) -> int:
        return round(sum(map(float, ANSWERED.findall(self.scrape()))))

    def until_answered(self, count: int) -> None:
        """A process that does not report in time is counted as of its last report: it may take a moment on a busy machine."""
        for _ in range(200):
            if self.answered() == count:
                return
            time.sleep(0.05)
        assert self.answered() == count

    def channel(self) -> grpc.Channel:
        """With a connection of its own, and the published retries, as of `steersman_client`."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", SERVICE_CONFIG), RECONNECT]
        return grpc.insecure_channel(self.address, options)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self._reading.join()
        self.process.wait()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            if line.startswith("{"):
                self.log.append(json.loads(line))
            else:
                self.rest += line


class Load:
    """Clients that call one after the other, each on a connection of its own, until the end of the block."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]
        self.answers = 0
        self.errors: list[grpc.StatusCode] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def __exit__(self, *failed: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self) -> None:
        """Returns after another answer or error for each client, and more."""
        goal = self.answers + len(self.errors) + 10 * CLIENTS
        while self.answers + len(self.errors) < goal:
            time.sleep(0.01)

    def _client(self) -> None:
        with self._server.channel() as channel:
            recommend = RecommendationServiceStub(channel).Recommend
            request = RecommendRequest(history=History(item_ids=["101", "102"]), k=3)
            while not self._stop.wait(PAUSE_SECONDS):
                try:
                    items = len(recommend(request, timeout=60).items)
                except grpc.RpcError as error:
                    with self._lock:
                        self.errors.append(cast(grpc.Call, error).code())
                else:
                    with self._lock:
                        self.answers += items == 3


@contextmanager
def served(data: Path, bundle: Path, *flags: str, program: Sequence[str] = PROGRAM) -> Iterator[Served]:
    """In a process group of its own."""
    command = [*program, *SERVE, "--data", str(data), "--bundle", str(bundle), "--log-format", "json"]
    # A test that takes long, or stops an engine, is no reason to end it; flags may say otherwise.
    command += ["--stall-seconds", "3600", "--bundle-watch-seconds", "0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        server = Served(process)
        try:
            yield server
        finally:
            server.end()


def point(link: Path, folder: Path) -> None:
    link.unlink()
    link.symlink_to(folder)


@pytest.fixture(scope="module")
def server(current: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("data"), current, *WORKERS) as server:
        yield server


def test_workers_are_one_server(server: Served) -> None:
    """One port, one session store, one set of metrics."""
    server.until("steersman_ready 1.0", "steersman_workers 2.0", "steersman_queue_capacity 512.0")
    before = server.answered()
    with Load(server) as load:
        pass
    assert not load.errors
    server.until_answered(before + load.answers)
    with server.channel() as channel:
        event = Event(event_id="e", item_id="101")
        SessionServiceStub(channel).AppendEvents(AppendEventsRequest(session_id="s", events=[event]))
    for _ in range(8):
        with server.channel() as channel:
            found = SessionServiceStub(channel).GetSession(GetSessionRequest(session_id="s"))
            assert found.session.item_ids == ["101"]
    assert len(server.pids()) == 2


def test_a_worker_that_is_killed_loses_no_request(server: Served) -> None:
    before = server.answered()
    (deaths,) = DEATHS.findall(server.scrape())
    dying = server.pids()[0]
    with Load(server) as load:
        server.scrape()
        server.kill(dying)
        load.more()
        server.until("steersman_ready 1.0", "steersman_workers 2.0")
        load.more()
    assert not load.errors
    assert dying not in server.pids()
    assert len(server.pids()) == 2
    assert DEATHS.findall(server.scrape()) == [str(float(deaths) + 1)]
    # What it had counted before stays counted. Only what it counted since it was asked last is gone.
    assert before < server.answered() <= before + load.answers + CLIENTS


def test_sighup_replaces_every_worker_and_loses_nothing(server: Served, current: Path) -> None:
    before, old = server.answered(), server.pids()
    first = current.resolve()
    point(current, Path(shutil.copytree(first, first.parent / "second")))
    with Load(server) as load:
        server.process.send_signal(signal.SIGHUP)
        while set(old) & set(server.pids()):
            load.more()
    assert not load.errors
    assert len(server.pids()) == 2
    server.until_answered(before + load.answers)
    server.until("steersman_ready 1.0", "steersman_workers 2.0")
    # From now on they serve what `current` named then, those that are started again included.
    shutil.rmtree(first)
    server.kill(server.pids()[0])
    server.until("steersman_ready 1.0")


def test_workers_stay_where_new_ones_cannot_start(server: Served, current: Path, tmp_path: Path) -> None:
    before, bundle = server.pids(), current.resolve()
    point(current, tmp_path)
    server.process.send_signal(signal.SIGHUP)
    while not any(line["event"] == "not replaced" for line in server.log):
        time.sleep(0.01)
    assert any("manifest.json" in line.get("error", "") for line in server.log)
    # One that dies now comes back with the bundle that the others serve.
    server.kill(before[0])
    server.until("steersman_ready 1.0")
    assert before[1] in server.pids()
    point(current, bundle)


@contextmanager
def short_of_files(server: Served, event: str) -> Iterator[None]:
    """Its supervisor can open none until it has logged this."""
    pid, kind = server.process.pid, resource.RLIMIT_NOFILE
    limits = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (3, limits[1]))
    server.log.clear()
    yield
    while not any(line["event"] == event and "Too many open files" in line["error"] for line in server.log):
        time.sleep(0.01)
    resource.prlimit(pid, kind, limits)


def test_a_supervisor_that_was_short_of_files_goes_on(server: Served) -> None:
    with short_of_files(server, "process does not start"):
        os.kill(server.pids()[0], signal.SIGKILL)
    server.until("steersman_ready 1.0", "steersman_workers 2.0")
    old = server.pids()
    with short_of_files(server, "not replaced"):
        server.process.send_signal(signal.SIGHUP)
    server.process.send_signal(signal.SIGHUP)
    while set(old) & set(server.pids()):
        time.sleep(0.01)
    server.until("steersman_ready 1.0", "steersman_workers 2.0")


def test_sigterm_drains_every_worker(server: Served) -> None:
    """The last test of this server."""
    pids = server.pids()
    with Load(server) as load:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait()
    server.end()
    assert server.process.returncode == 0
    assert server.log[-1]["event"] == "stopped"
    # Who was not answered found no server, however often it tried.
    assert set(load.errors) == {grpc.StatusCode.UNAVAILABLE}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_workers_that_cannot_start_say_why(tmp_path: Path) -> None:
    command = [*COMMAND, *WORKERS, "--data", str(tmp_path), "--bundle", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "manifest.json" in done.stderr
    assert "Traceback" not in done.stderr
