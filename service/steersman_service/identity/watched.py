"""A file that is read again when it has changed and stands still. A new content that cannot be used keeps the old one."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from steersman_service.errors import StartupError

MOST_BYTES = 4 << 20
T = TypeVar("T")
Stamp = tuple[int, int, int]

log = structlog.get_logger()


class WatchedFile(Generic[T]):
    value: T

    def __init__(self, setting: str, path: Path, read: Callable[[bytes], T]) -> None:
        """`read` raises ValueError, without what the file holds. Raises StartupError, which names `setting`."""
        self._setting, self._path, self._read = setting, path, read
        self._seen: Stamp | None = None
        """Of what was read."""
        self._changing: Stamp | None = None
        """At the last look, if it was another one."""
        try:
            self._seen = self._stamp()
            self.value = read(self._bytes())
        except (OSError, ValueError) as error:
            raise StartupError(f"settings: {setting}: {path}: {_why(error)}") from None

    def refresh(self) -> bool:
        """Whether there is a new value. A change is read at the second look that finds it the same: the first may come in the middle of a
        write. What is wrong with a file is logged once."""
        before = self._seen
        try:
            found = self._stamp()
            if found == before or found != self._changing:
                self._changing = found
                return False
            self._seen = found
            self.value = self._read(self._bytes())
        except OSError as error:
            self._seen = None
            if before is not None:
                self._tell(error)
            return False
        except ValueError as error:
            self._tell(error)
            return False
        log.info("read again", setting=self._setting)
        return True

    def _tell(self, error: OSError | ValueError) -> None:
        log.error("not read again; what was read before holds", setting=self._setting, error=_why(error))

    def _stamp(self) -> Stamp:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _bytes(self) -> bytes:
        with self._path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"has more than {MOST_BYTES} bytes")
        return data


def _why(error: OSError | ValueError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
