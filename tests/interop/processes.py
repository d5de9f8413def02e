"""Processes of other programs: started, waited for, and ended whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from prometheus_client.parser import text_string_to_metric_families

Found = TypeVar("Found")
ROOT = Path(__file__).parents[2]
STEERSMAN = Path(sys.executable).parent / "steersman"
# How long something may take that has no reason to take long.
PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.1


class Served(NamedTuple):
    """A server that answers."""

    address: str
    """Of gRPC: host:port."""
    metrics: str
    """Of the Prometheus endpoint: host:port."""
    http: str
    """Of the gateway: a URL, or "off"."""
    data: Path
    """Its data folder."""
    pid: int

    @property
    def store_pid(self) -> int:
        """Process id of its embedded session store."""
        return int((self.data / "valkey" / "valkey.pid").read_text())


@contextmanager
def started(command: Sequence[str | Path], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs `command` with its output in `log`. At the end it and its children are told to end, and made to if they do not."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=_environment(), start_new_session=True
        )
    try:
        yield process
    finally:
        try:
            _tell(process, signal.SIGTERM)
            process.wait(PATIENCE_SECONDS)
        finally:
            _tell(process, signal.SIGKILL)
            process.wait()


@contextmanager
def serving(bundle: Path, data: Path, **settings: object) -> Iterator[Served]:
    """`steersman serve` on free ports, once it is ready. Sessions are in an embedded Valkey unless `redis_url` is given."""
    data.mkdir(parents=True, exist_ok=True)
    log = data / "server.log"
    with started(serve_command(bundle, data, **settings), log) as process:
        ready = until(f"the server is ready ({log})", lambda: _line_of(log, '"ready"', process))
        address, metrics, http = (
            ready.split(f'"{name}": "')[1].split('"')[0] for name in ("address", "metrics", "http")
        )
        yield Served(address, metrics, http, data, process.pid)


def serve_command(bundle: Path, data: Path, **settings: object) -> list[str | Path]:
    """The command line of a server that logs JSON, with a flag for each setting."""
    ports = {"port": 0, "metrics_port": 0, "http": "off"}
    given = {"bundle": bundle, "data": data, **ports, "log_format": "json", **settings}
    flags = (part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value)))
    return [STEERSMAN, "serve", *flags]


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """Holds the process: what is asked of it waits."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def until(what: str, holds: Callable[[], Found], seconds: float = PATIENCE_SECONDS) -> Found:
    """The first true value of `holds`. Raises AssertionError if `seconds` bring none."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not so: {what}"
        time.sleep(POLL_SECONDS)
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scraped(metrics: str, name: str, **labels: str) -> float:
    """Sum of the samples called `name` that have `labels`, at the Prometheus endpoint `metrics` (host:port)."""
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=PATIENCE_SECONDS) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    samples = (sample for family in families for sample in family.samples if sample.name == name)
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def last_lines(log: Path, count: int = 5) -> str:
    return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-count:])


def _line_of(log: Path, text: str, process: "subprocess.Popen[bytes]") -> str:
    ended = process.poll()
    found = next((line for line in log.read_text("utf-8").splitlines() if text in line), "")
    assert found or ended is None, f"ended with {ended}:\n{last_lines(log)}"
    return found


def _tell(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # nobody is left
        os.killpg(process.pid, number)


def _environment() -> dict[str, str]:
    """Ours, without what would change the settings of the server."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("STEERSMAN_")}
