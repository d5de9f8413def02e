"""Pulls a bundle out of a storage: checked file by file, and under its version at once or not at all."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from steersman.v1.bundle_pb2 import Manifest
from steersman_service.bundle import files
from steersman_service.bundle.files import MANIFEST, MOST_MANIFEST_BYTES, MOST_SIGNATURE_BYTES, SIGNATURE
from steersman_service.bundle.origins import mark_pulled
from steersman_service.bundle.signatures import PublicKeys
from steersman_service.bundle.storage import Storage, asking
from steersman_service.errors import BundleError, SourceError

TEMPORARY = ".pulling-"
LOCK = ".pulling.lock"
CHUNK_BYTES = 1 << 20
# A volume that is full to the last byte stops more than this.
SPARE_BYTES = 16 << 20

log = structlog.get_logger()


def pull(storage: Storage, source: str, version: str, folder: Path, keys: PublicKeys | None) -> Path:
    """`folder / version`, with the bundle of that version in it. See sources.fetch."""
    target = folder / version
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if os.path.lexists(target):
                _renew_signature(storage, source, version, target, keys)
            else:
                _Pull(storage, source, version, folder, keys).run(target)
    except OSError as error:
        free = shutil.disk_usage(folder).free >> 20 if folder.is_dir() else 0
        why = f"cannot be written to {folder}: {error.strerror or error} ({free} MB are free)"
        raise SourceError(source, why) from error
    return target


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process pulls into a folder at a time; others wait, and find what they want."""
    with (folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Pull:
    """One bundle, into `.pulling-VERSION`, which a later attempt goes on with."""

    def __init__(self, storage: Storage, source: str, version: str, folder: Path, keys: PublicKeys | None) -> None:
        self._storage, self._source, self._version = storage, source, version
        self._folder, self._keys = folder, keys
        self._temporary = folder / f"{TEMPORARY}{version}"

    def run(self, target: Path) -> None:
        for other in self._folder.glob(f"{TEMPORARY}*/"):
            if other != self._temporary:
                shutil.rmtree(other)
        manifest, signature = self._manifest()
        try:
            self._fill(manifest)
        except OSError:
            # A full disk is not made emptier by what is kept for later.
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        if signature is not None:
            _write(self._temporary / SIGNATURE, signature)
        files.check_listing(self._temporary, manifest)
        for name in (*os.listdir(self._temporary), "."):
            _sync(self._temporary / name)
        mark_pulled(self._folder, self._version, self._source)
        self._temporary.rename(target)
        _sync(self._folder)
        log.info("bundle pulled", version=self._version, source=self._source)

    def _manifest(self) -> tuple[Manifest, bytes | None]:
        """What is to come, before any of it is read: right version, names, signature, and room for it."""
        content = _read(self._storage, self._source, self._version, MANIFEST, MOST_MANIFEST_BYTES + 1)
        if content is None:
            raise SourceError(self._source, f"has no bundle of version {self._version}")
        manifest = files.parse_manifest(content)
        if manifest.version != self._version:
            raise BundleError(MANIFEST, f"is of version {manifest.version}, and {self._version} was asked for")
        files.check_names(manifest)
        signature = _signature(self._storage, self._source, self._version)
        if self._keys is not None:
            self._keys.check(signature, self._version)
        self._temporary.mkdir(exist_ok=True)
        for path in self._temporary.iterdir():
            if path.name not in manifest.files:
                path.unlink()
        held = sum(path.stat().st_size for path in self._temporary.iterdir())
        needed = sum(file.size for file in manifest.files.values()) - held + SPARE_BYTES
        if needed > (free := shutil.disk_usage(self._folder).free):
            shutil.rmtree(self._temporary)
            why = f"the bundle needs {needed >> 20} MB more, and {free >> 20} MB are free in {self._folder}"
            raise SourceError(self._source, f"{why}: remove older bundles there")
        _write(self._temporary / MANIFEST, content)
        return manifest, signature

    def _fill(self, manifest: Manifest) -> None:
        for name in sorted(manifest.files):
            path = self._temporary / name
            if path.exists():
                with suppress(BundleError):
                    files.verify_file(self._temporary, name, manifest)
                    continue
                path.unlink()
            self._download(name, manifest, path)
            path.chmod(0o444)

    def _download(self, name: str, manifest: Manifest, path: Path) -> None:
        part, left, digest = path.with_name(f".{name}"), manifest.files[name].size, hashlib.sha256()
        try:
            with part.open("wb") as file:
                for chunk in self._chunks(name, left):
                    left -= len(chunk)
                    digest.update(chunk)
                    file.write(chunk)
            if left:
                raise SourceError(self._source, f"{name} ended {left} bytes before its end; try again")
            if digest.hexdigest() != manifest.files[name].sha256:
                raise BundleError(
                    name, f"checksum differs from the manifest's in {self._source}; push the bundle again"
                )
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)

    def _chunks(self, name: str, size: int) -> Iterator[bytes]:
        """No more than `size` bytes of a file, whatever the storage sends. Raises BundleError if there are more."""
        try:
            with asking(self._source, f"cannot read {name}"), self._storage.opened(self._version, name) as remote:
                while chunk := remote.read(min(CHUNK_BYTES, size + 1)):
                    if (size := size - len(chunk)) < 0:
                        raise BundleError(name, f"has more bytes than the manifest says in {self._source}")
                    yield chunk
        except FileNotFoundError:
            raise BundleError(name, f"is missing in {self._source}; push the bundle again") from None


def _renew_signature(storage: Storage, source: str, version: str, target: Path, keys: PublicKeys | None) -> None:
    """A bundle that is there is not pulled again, but it may have been signed since."""
    manifest = files.read_manifest(target)
    if manifest.version != version:
        raise BundleError(MANIFEST, f"in {target} is of version {manifest.version}; remove that folder")
    files.check_listing(target, manifest)
    if keys is None:
        return
    try:
        keys.check(files.read_signature(target), version)
    except BundleError:
        signature = _signature(storage, source, version)
        keys.check(signature, version)
        assert signature is not None
        temporary = target.parent / f"{TEMPORARY}{version}.sig"
        _write(temporary, signature)
        _sync(temporary)
        temporary.replace(target / SIGNATURE)


def _signature(storage: Storage, source: str, version: str) -> bytes | None:
    content = _read(storage, source, version, SIGNATURE, MOST_SIGNATURE_BYTES + 1)
    return None if content is None else files.bounded_signature(content)


def _read(storage: Storage, source: str, version: str, name: str, most: int) -> bytes | None:
    """The first bytes of a file. None: there is none."""
    parts: list[bytes] = []
    try:
        with asking(source, f"cannot read {name}"), storage.opened(version, name) as remote:
            while most and (part := remote.read(min(CHUNK_BYTES, most))):
                parts.append(part)
                most -= len(part)
    except FileNotFoundError:
        return None
    return b"".join(parts)


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
