"""The link that names the bundle to serve, and the folder beside it where bundles lie."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from steersman_service.bundle.files import PLAIN_NAME, read_manifest
from steersman_service.errors import BundleError, ReleasesFixed

State = Sequence[tuple[str, int, int]]
"""Name, bytes and time of change of each file."""


class BundleLink:
    def __init__(self, path: Path) -> None:
        """`path` of the link. A folder is served as one that names itself, and never turned."""
        self._path = path

    def target(self) -> Path | None:
        """The folder that it names now, which need not be there. None: there is no link."""
        return self._path.resolve() if os.path.lexists(self._path) else None

    def check_turnable(self) -> None:
        """Raises ReleasesFixed."""
        if not self._path.is_symlink():
            raise ReleasesFixed(
                "the setting bundle names a folder: let it name a link to one, which can be turned, so that what is served now is"
                " served after a restart, too"
            )
        if not os.access(self._path.parent, os.W_OK):
            raise ReleasesFixed(f"the link {self._path.name} cannot be turned: its folder cannot be written to")

    def turn(self, folder: Path) -> None:
        """In one step: a reader finds the old target or the new one. Raises ReleasesFixed."""
        beside = folder.parent == self._path.parent.resolve()
        new = self._path.with_name(f".{self._path.name}-{os.getpid()}")
        try:
            with suppress(FileNotFoundError):
                new.unlink()
            new.symlink_to(folder.name if beside else folder)
            new.replace(self._path)
        except OSError as error:
            raise ReleasesFixed(f"the link {self._path.name} cannot be turned: {error.strerror}") from None

    def find(self, wanted: str) -> Path | None:
        """The bundle of this folder name, or of this version, beside the link. None: there is none."""
        if not PLAIN_NAME.fullmatch(wanted):
            return None
        around = self._path.parent.resolve()
        if (around / wanted).is_dir():
            return (around / wanted).resolve()
        for folder in sorted(each for each in around.iterdir() if each.is_dir() and not each.is_symlink()):
            with suppress(BundleError, OSError):
                if read_manifest(folder).version == wanted:
                    return folder
        return None


def state_of(folder: Path) -> State:
    """Changes when a file of it does. Empty: there is no such folder."""
    try:
        with os.scandir(folder) as listing:
            found = [(each.name, each.stat(follow_symlinks=False)) for each in listing]
    except OSError:
        return ()
    return sorted((name, status.st_size, status.st_mtime_ns) for name, status in found)
