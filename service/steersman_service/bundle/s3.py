"""Bundles in S3-compatible storage, by s3fs: `ROOT/VERSION/FILE`, and `ROOT/current`, which holds the version to be served.

Endpoint, region and credentials are those of AWS's own environment and files: AWS_ENDPOINT_URL, AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steersman_service.bundle.files import MANIFEST, SIGNATURE, VERSION
from steersman_service.bundle.storage import CONNECT_SECONDS, READ_SECONDS, Reader, Stored, asking
from steersman_service.errors import SourceError

CURRENT = "current"
BLOCK_BYTES = 8 << 20
CLIENT = {
    "connect_timeout": CONNECT_SECONDS,
    "read_timeout": READ_SECONDS,
    "retries": {"max_attempts": 3, "mode": "standard"},
}


class S3Storage:
    """`root` is BUCKET/PREFIX. With `pinned`, the source names that version whatever `current` says."""

    def __init__(self, source: str, root: str, pinned: str | None) -> None:
        try:
            import s3fs
        except ImportError as error:
            why = f"needs {error.name}, of the extra s3: pip install 'steersman[s3]'"
            raise SourceError(source, why) from error
        self._source, self._root, self._pinned = source, root, pinned
        with asking(source, "cannot be set up"):
            # Listings are not kept: what is there changes.
            self._s3: Any = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True, config_kwargs=CLIENT)

    def current(self) -> str:
        if self._pinned:
            return self._pinned
        try:
            with asking(self._source, f"cannot read {CURRENT}"):
                # Of an object of any size, its begin.
                begin: bytes = self._s3.cat_file(f"{self._root}/{CURRENT}", start=0, end=100)
        except FileNotFoundError as error:
            why = f"has no object {CURRENT} ({error}): `steersman bundle push` writes it"
            raise SourceError(self._source, why) from None
        text = begin.decode("ascii", "replace").strip()
        if not VERSION.fullmatch(text):
            raise SourceError(
                self._source, f"the object {CURRENT} holds {text[:80]!a}, which is no version of 64 hex digits"
            )
        return text

    @contextmanager
    def opened(self, version: str, name: str) -> Iterator[Reader]:
        with self._s3.open(f"{self._root}/{version}/{name}", "rb", block_size=BLOCK_BYTES) as file:
            yield file

    def listed(self) -> list[Stored]:
        try:
            with asking(self._source, "cannot be listed"):
                names = [str(path).rpartition("/")[2] for path in self._s3.ls(self._root, detail=False)]
                current = self.current() if CURRENT in names or self._pinned else None
        except FileNotFoundError as error:
            raise SourceError(self._source, f"there is nothing ({error})") from None
        return [Stored(name, name == current) for name in sorted(names) if VERSION.fullmatch(name)]

    def push(self, version: str, paths: Mapping[str, Path], *, current: bool) -> bool:
        if self._pinned not in (None, version):
            raise SourceError(self._source, f"names another version than that of the bundle, {version}: leave it out")
        place = f"{self._root}/{version}"
        with asking(self._source, "cannot be written"):
            try:
                new = not self._s3.exists(f"{place}/{MANIFEST}")
                # The manifest comes last: without it there is no bundle. A signature may have come, or been replaced.
                names = sorted(paths, key=lambda name: (name == MANIFEST, name)) if new else [SIGNATURE]
                for name in names:
                    if name in paths:
                        self._s3.put_file(str(paths[name]), f"{place}/{name}")
                if current:
                    self._s3.pipe_file(f"{self._root}/{CURRENT}", f"{version}\n".encode())
            except FileNotFoundError as error:
                raise SourceError(self._source, f"cannot be written: {error}; make the bucket first") from None
        return new
