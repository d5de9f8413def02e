"""What names the bundle to serve: a link that can be turned, a folder, or a remote source; and the folder where bundles lie."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from steersman_service.bundle.files import PLAIN_NAME, VERSION, read_manifest
from steersman_service.bundle.pulling import pull
from steersman_service.bundle.signatures import PublicKeys
from steersman_service.bundle.sources import is_remote, storage_of
from steersman_service.bundle.storage import Storage
from steersman_service.errors import BundleError, ReleasesFixed, SourceError

# Of a version, as `steersman releases list` shows it.
BEGIN = re.compile(r"[0-9a-f]{12,64}")

State = Sequence[tuple[str, int, int]]
"""Name, bytes and time of change of each file."""


class BundleSource:
    def __init__(self, source: str, bundles: Path, keys: Path | None = None) -> None:
        """`bundles` is where a remote `source` is pulled to; signed by one of `keys` (see load_bundle) if there are any."""
        self._source, self._bundles, self._keys = source, bundles, keys
        self._link = None if is_remote(source) else Path(source)
        self._storage: Storage | None = None
        """Of a remote source. To set up a client of S3 takes a quarter of a second of processor time."""

    @property
    def there(self) -> bool:
        """Whether there is anything that names a bundle. A link that is being turned by hand is away for a moment."""
        return self._link is None or os.path.lexists(self._link)

    def target(self) -> Path:
        """The folder of the bundle that it names now, which need not hold one; pulled first if it is remote. Raises StartupError."""
        return self._pulled() if self._link is None else self._link.resolve()

    def check_turnable(self) -> None:
        """Raises ReleasesFixed."""
        if self._link is None:
            raise ReleasesFixed(
                "the setting bundle names a remote source, which is followed: publish the bundle there, or serve it as canary"
            )
        if not self._link.is_symlink():
            raise ReleasesFixed(
                "the setting bundle names a folder: let it name a link to one, which can be turned, so that what is served now is"
                " served after a restart, too"
            )
        if not os.access(self._link.parent, os.W_OK):
            raise ReleasesFixed(f"the link {self._link.name} cannot be turned: its folder cannot be written to")

    def turn(self, folder: Path) -> None:
        """Has the link name it, in one step: a reader finds the old target or the new one. Raises ReleasesFixed."""
        assert self._link
        beside = folder.parent == self._link.parent.resolve()
        new = self._link.with_name(f".{self._link.name}-{os.getpid()}")
        try:
            with suppress(FileNotFoundError):
                new.unlink()
            new.symlink_to(folder.name if beside else folder)
            new.replace(self._link)
        except OSError as error:
            raise ReleasesFixed(f"the link {self._link.name} cannot be turned: {error.strerror}") from None

    def find(self, wanted: str) -> Path | None:
        """The bundle of this folder name, or of this version or its first digits, where bundles lie; of a remote source a version is pulled
        there first.

        None: there is none. Raises StartupError if it cannot be pulled."""
        around = (self._link.parent if self._link else self._bundles).resolve()
        if not PLAIN_NAME.fullmatch(wanted):
            return None
        if (around / wanted).is_dir():
            return (around / wanted).resolve()
        if BEGIN.fullmatch(wanted):
            # Not the hidden ones: what is being pulled is not to be served.
            folders = [each for each in _listed(around) if PLAIN_NAME.fullmatch(each.name) and not each.is_symlink()]
            found = {
                version: folder for folder in reversed(folders) if (version := version_in(folder)).startswith(wanted)
            }
            if len(found) == 1:
                return found.popitem()[1]
        return self._pulled(wanted) if self._link is None and VERSION.fullmatch(wanted) else None

    def _pulled(self, version: str = "") -> Path:
        """The bundle of this version, or, without one, that which the source names."""
        keys = PublicKeys.read(self._keys) if self._keys else None
        try:
            storage = self._storage = self._storage or storage_of(self._source)
            return pull(storage, self._source, version or storage.current(), self._bundles.resolve(), keys)
        except SourceError:
            # The next one has the credentials and the endpoint of then.
            self._storage = None
            raise


def _listed(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def version_in(folder: Path) -> str:
    """Of the bundle. Empty: there is none, or its manifest cannot be read."""
    with suppress(BundleError, OSError):
        return read_manifest(folder).version
    return ""


def state_of(folder: Path) -> State:
    """Changes when a file of it does. Empty: there is no such folder."""
    try:
        with os.scandir(folder) as listing:
            found = [(each.name, each.stat(follow_symlinks=False)) for each in listing]
    except OSError:
        return ()
    return sorted((name, status.st_size, status.st_mtime_ns) for name, status in found)
