"""HTTP as `steersman serve` and `steersman gateway` bring it: one address, whatever becomes of the processes behind."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from steersman_service.cli.serve import first_calls
from steersman_service.http.options import CONSOLE, LOOPBACK_HOSTS
from tests.e2e.processes import IMPATIENT_PROGRAM, PROGRAM, children_of, engines_of, until_gone, workers_of

SERVE = ["serve", "--port", "0", "--metrics-port", "0", "--http-port", "0"]
COMMAND = [*PROGRAM, *SERVE]
RECOMMEND = "/steersman.v1.RecommendationService/Recommend"


class Served:
    """A server with its gateway, as `steersman serve` starts them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stderr
        told: dict[str, Any] = {}
        for line in process.stderr:
            told = json.loads(line)
            if told["event"] == "ready":
                break
        self.http: str = told["http"]
        self.grpc: str = told["address"]
        self.metrics: str = told["metrics"]
        self.rest: list[str] = []
        self._reading = threading.Thread(target=lambda: self.rest.extend(process.stderr or ()))
        self._reading.start()

    @property
    def gateway(self) -> int:
        (pid,) = children_of(self.process.pid, "steersman_service.processes.gateway")
        return pid

    def ask(self, body: str = '{"k": 3}', path: str = RECOMMEND) -> tuple[int, Any]:
        """Status and answer; 0 where nobody listens."""
        return ask(self.http, body, path)

    def until_answered(self) -> None:
        while self.ask()[0] != 200:
            time.sleep(0.05)

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as response:
            return str(response.read().decode())

    def end(self) -> None:
        """Drains it; once is enough."""
        self.process.terminate()
        self.process.wait()
        self._reading.join()


def ask(http: str, body: str = '{"k": 3}', path: str = RECOMMEND) -> tuple[int, Any]:
    connection = HTTPConnection(urlsplit(http).netloc, timeout=60)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except ConnectionError:
        return 0, None
    finally:
        connection.close()


@contextmanager
def served(bundle: Path, data: Path, *flags: str, program: Sequence[str] = PROGRAM) -> Iterator[Served]:
    command = [
        *program,
        *SERVE,
        "--http",
        "on",
        "--bundle",
        str(bundle),
        "--data",
        str(data),
        "--log-format",
        "json",
        *flags,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        server = Served(process)
        try:
            yield server
        finally:
            server.end()


@pytest.fixture(scope="module")
def server(current: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two front ends, an engine host, a gateway. Tests share it."""
    with served(current, tmp_path_factory.mktemp("http"), "--workers", "2", "--engines", "1") as running:
        yield running
        running.end()
        assert "Traceback" not in "".join(running.rest)


def test_one_address_whatever_becomes_of_the_processes_behind(server: Served) -> None:
    assert server.http.startswith("http://127.0.0.1:")
    status, answer = server.ask()
    assert (status, len(answer["items"])) == (200, 3)
    assert 'steersman_http_requests_total{kind="connect_json",outcome="2xx"} 1.0' in server.scrape()
    # A new generation: the gateway stays, and finds it.
    first, old = server.gateway, workers_of(server.process.pid)
    server.process.send_signal(signal.SIGHUP)
    for pid in old:
        while pid in workers_of(server.process.pid):
            assert server.ask()[0] in (200, 503)
    server.until_answered()
    assert server.gateway == first
    # A front end dies: calls go on.
    os.kill(workers_of(server.process.pid)[0], signal.SIGKILL)
    server.until_answered()
    # The gateway dies: it is there again, at the same address.
    os.kill(first, signal.SIGKILL)
    until_gone(first)
    server.until_answered()
    assert server.gateway != first
    assert "steersman_worker_deaths_total 2.0" in server.scrape().splitlines()


def test_what_can_be_done_first_works(server: Served) -> None:
    console = (CONSOLE / "index.html").is_file()
    lines = first_calls(server.http, server.grpc, LOOPBACK_HOSTS, console=console)
    browser, curl, over_grpc = (re.split(r"\s{2,}", line.strip(), maxsplit=1)[1] for line in lines)
    with urllib.request.urlopen(browser) as response:
        assert response.headers.get_content_type() == ("text/html" if console else "application/json")
    given = subprocess.run(["bash", "-c", curl.replace("curl", "curl -s", 1)], capture_output=True, text=True)
    assert len(json.loads(given.stdout)["items"]) == 5
    command = over_grpc.replace("steersman", f"{sys.executable} -m steersman_service", 1)
    listed = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr


def test_traffic_is_told_without_prometheus(server: Served) -> None:
    """By the gateway, of all front ends; more is counted from answer to answer."""

    def answered() -> float:
        with urllib.request.urlopen(f"{server.http}/metrics.json") as response:
            told = json.load(response)
        return float(sum(one["count"] for one in told["calls"] if (one["method"], one["code"]) == ("Recommend", "OK")))

    before = answered()
    for _ in range(4):
        assert server.ask()[0] == 200
    while answered() != before + 4:
        time.sleep(0.1)


def test_without_metrics_there_is_no_traffic_and_without_a_console_no_redirection(
    current: Path, tmp_path: Path
) -> None:
    with served(current, tmp_path, "--metrics", "off", "--http-console", "off", "--engines", "0") as server:
        for path, why in (("/metrics.json", "NO_METRICS"), ("/console/", "NO_SUCH_PATH")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(server.http + path)
            assert refused.value.code == 404
            assert why in refused.value.read().decode()
        page = urllib.request.Request(server.http, headers={"accept": "text/html"})
        with urllib.request.urlopen(page) as response:
            assert json.load(response)["name"] == "steersman"


@pytest.mark.parametrize(
    ("http", "grpc", "allowed", "console", "expected"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:50051", LOOPBACK_HOSTS, True, ["http://127.0.0.1:8080/console/", ":8080/", ""]),
        ("http://127.0.0.1:8080", "127.0.0.1:50051", LOOPBACK_HOSTS, False, ["http://127.0.0.1:8080", ":8080/", ""]),
        ("http://0.0.0.0:81", "0.0.0.0:9", LOOPBACK_HOSTS, True, ["http://127.0.0.1:81/console/", ".1:81/", "127.0.0.1:9"]),
        ("http://[::]:81", "[::]:9", LOOPBACK_HOSTS, True, ["http://[::1]:81/console/", "[::1]:81/", "[::1]:9"]),
        ("http://10.0.0.0:81", "10.0.0.0:9", LOOPBACK_HOSTS, True, ["refused at 10.0.0.0 until", "10.0.0.0:9"]),
        ("http://10.0.0.1:81", "[::1]:9", "10.0.0.1", True, ["http://10.0.0.1:81/console/", "10.0.0.1:81/", "[::1]:9"]),
        ("", "127.0.0.1:50051", LOOPBACK_HOSTS, True, ["steersman recommend --k 5"]),
    ],
)  # fmt: skip
def test_what_is_printed_first_holds_for_the_addresses(
    http: str, grpc: str, allowed: str, console: bool, expected: list[str]
) -> None:
    lines = list(first_calls(http, grpc, allowed, console=console))
    assert len(lines) == len(expected)
    for line, part in zip(lines, expected, strict=True):
        assert part in line
    assert lines[-1].endswith(f" --address {expected[-1]}" if expected[-1] and http else "--k 5")


def test_a_port_that_is_taken_is_told_with_the_remedy(server: Served, current: Path, tmp_path: Path) -> None:
    port = server.http.rpartition(":")[2]
    flags = ["--http", "on", "--http-port", port, "--bundle", str(current), "--data", str(tmp_path)]
    refused = subprocess.run([*COMMAND, *flags], capture_output=True, text=True)
    assert refused.returncode == 1
    assert f":{port}" in refused.stderr
    assert "--http off" in refused.stderr
    assert server.ask()[0] == 200


def test_a_gateway_of_its_own(server: Served) -> None:
    metrics = ["--metrics", f"http://{server.metrics}/metrics", "--no-console"]
    command = [sys.executable, "-m", "steersman_service", "gateway", *metrics, "--target", server.grpc, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        http, _, target = process.stdout.readline().split()
        try:
            assert target == server.grpc
            status, answer = ask(http)
            assert (status, len(answer["items"])) == (200, 3)
            with urllib.request.urlopen(f"{http}/metrics.json") as response:
                assert json.load(response)["recommendations"]["plain"] >= 1
            assert ask(http, path="/console/")[0] == 404
            again = subprocess.run([*command[:-1], http.rpartition(":")[2]], capture_output=True, text=True)
            assert again.returncode == 1
            assert "cannot listen" in again.stderr
        finally:
            process.terminate()
        assert process.wait() == 0


@pytest.mark.parametrize(("flag", "value"), [("--target", "http://localhost:50051"), ("--metrics", "localhost:9464")])
def test_an_address_that_is_none_is_refused(flag: str, value: str) -> None:
    command = [sys.executable, "-m", "steersman_service", "gateway", flag, value]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert (refused.returncode, flag in refused.stderr) == (2, True)


def test_calls_in_flight_are_answered_before_it_ends(current: Path, tmp_path: Path) -> None:
    with served(current, tmp_path, "--engines", "1", program=IMPATIENT_PROGRAM) as server:
        (engine,) = engines_of(server.process.pid)
        os.kill(engine, signal.SIGSTOP)
        answers: list[tuple[int, Any]] = []
        asking = threading.Thread(target=lambda: answers.append(server.ask()))
        asking.start()
        labels = 'grpc_method="Recommend",grpc_service="steersman.v1.RecommendationService",grpc_type="unary"'
        started = f"grpc_server_started_total{{{labels}}} 1.0"
        while started not in server.scrape():
            time.sleep(0.05)
        server.process.terminate()
        while server.ask(path="/none")[0] != 0:  # until the gateway takes no more
            time.sleep(0.05)
        os.kill(engine, signal.SIGCONT)
        asking.join()
        assert [status for status, _ in answers] == [200]
