"""A port that processes share."""

import socket
import sys

from steersman_service.errors import StartupError


class ReservedPort:
    """Held while the server runs, so that it stays the same and belongs to no other."""

    def __init__(self, host: str, port: int) -> None:
        """Raises StartupError if another server listens there."""
        self._where = f"{host}:{port}"
        try:
            # gRPC wants the brackets of [::1], and this does not.
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise StartupError(f"settings: host: {host}: {error.strerror}") from error
        self._family, self._address = found[0], found[4]
        self.probe()
        # Bound, and never listening: connections go to the front ends alone.
        self._held = self._bound(shared=True)
        self._address = self._held.getsockname()
        self.number: int = self._held.getsockname()[1]
        if sys.platform != "linux":  # elsewhere a bound socket may keep connections from those that listen
            self._held.close()

    def probe(self) -> None:
        """Raises StartupError if another server listens there: sharing the port, each would get a part of the calls."""
        self._bound(shared=False).close()

    def close(self) -> None:
        self._held.close()

    def _bound(self, *, shared: bool) -> socket.socket:
        bound = socket.socket(self._family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        try:
            bound.bind(self._address)
        except OSError as error:
            bound.close()
            raise StartupError(f"cannot listen on {self._where}; is another server running there?") from error
        return bound
