"""What storage of bundles can do. Implementations: s3.py and hub.py."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from steersman_service.errors import SourceError, SteersmanError

CONNECT_SECONDS, READ_SECONDS = 10, 60


class Reader(Protocol):
    """A file of the storage, read from its begin to its end."""

    def read(self, size: int = -1) -> bytes: ...


class Stored(NamedTuple):
    """A bundle in a storage."""

    version: str
    current: bool
    """Whether the source names it."""


class Storage(Protocol):
    """Everything raises SourceError where the storage does not answer, or has nothing of the kind."""

    def current(self) -> str:
        """The version that the source names now."""

    def opened(self, version: str, name: str) -> AbstractContextManager[Reader]:
        """A file of a bundle. Raises FileNotFoundError if the bundle has none of that name."""

    def listed(self) -> list[Stored]:
        """The bundles that are there."""

    def push(self, version: str, paths: Mapping[str, Path], *, current: bool) -> bool:
        """Stores the files of a bundle, which were verified: readers find all of them, or none. With `current`, the source names it from
        then on. Whether it was not there before."""


@contextmanager
def asking(source: str, what: str) -> Iterator[None]:
    """Turns what the client of a storage raises into SourceError, in one line. Such clients raise more kinds than they say."""
    try:
        yield
    except (SteersmanError, FileNotFoundError):
        raise
    except PermissionError as error:
        raise SourceError(
            source, f"{what}: no rights: {_line(error)}; check the credentials, and what they allow"
        ) from error
    except Exception as error:
        raise SourceError(source, f"{what}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
