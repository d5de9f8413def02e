"""The files of a bundle: its folder holds what the manifest names and nothing else, and what is read was hashed (proto/README.md)."""

import errno
import hashlib
import io
import json
import mmap
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format

from steersman.v1.bundle_pb2 import Manifest
from steersman_service.errors import BundleError

FORMAT_MAJOR = 1
MANIFEST = "manifest.json"
# Beside the files of the manifest, a bundle may hold this one: a signature over the manifest cannot be in it.
SIGNATURE = "manifest.sig"
# A thousand times what one has: nothing vouches for it before it was read.
MOST_MANIFEST_BYTES = 16 << 20
MOST_SIGNATURE_BYTES = 64 << 10
# No path, nothing hidden, nothing that a file system or a terminal may understand in its own way.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
VERSION = re.compile(r"[0-9a-f]{64}")
# Files of a folder in a message, beside the first one.
NAMED = 8
# Larger arrays are mapped.
MOST_COPIED_BYTES = 32 << 20
AGAIN = "copy the bundle again, or train it again"


def read_manifest(folder: Path) -> Manifest:
    """Raises BundleError where there is none, or where it is not what its version says."""
    if not os.path.lexists(folder / MANIFEST):
        raise BundleError(MANIFEST, f"there is none in {folder}; `steersman train` writes a bundle")
    with _opened(folder, MANIFEST) as file:
        return parse_manifest(file.read(MOST_MANIFEST_BYTES + 1))


def parse_manifest(content: bytes) -> Manifest:
    """The same of the bytes of one, of which no more than MOST_MANIFEST_BYTES are read. Nothing but its version is checked."""
    if len(content) > MOST_MANIFEST_BYTES:
        raise BundleError(MANIFEST, f"has more than {MOST_MANIFEST_BYTES} bytes: is it a manifest? {AGAIN}")
    try:
        document = json.loads(content)
        # The version comes first: another major version may not even parse as ours.
        major = document.get("format_major")
        if major != FORMAT_MAJOR:
            raise BundleError(MANIFEST, f"format version {major}; this server knows version {FORMAT_MAJOR} only")
        version = document.pop("version", None)
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        actual = hashlib.sha256(canonical.encode()).hexdigest()
    except AttributeError:
        raise BundleError(MANIFEST, f"is not a JSON object; {AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(MANIFEST, f"cannot be read: {error}; {AGAIN}") from error
    if version != actual:
        raise BundleError(MANIFEST, f"was changed: its version is {version}, its content hashes to {actual}; {AGAIN}")
    try:
        return json_format.ParseDict(document | {"version": version}, Manifest(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise BundleError(MANIFEST, f"is no manifest: {error}") from error


def read_signature(folder: Path) -> bytes | None:
    """The content of the signature, of at most MOST_SIGNATURE_BYTES. None: there is none. Raises BundleError."""
    if not os.path.lexists(folder / SIGNATURE):
        return None
    with _opened(folder, SIGNATURE) as file:
        return bounded_signature(file.read(MOST_SIGNATURE_BYTES + 1))


def bounded_signature(content: bytes) -> bytes:
    """The same of its first bytes. Raises BundleError if it is too long."""
    if len(content) > MOST_SIGNATURE_BYTES:
        raise BundleError(SIGNATURE, f"has more than {MOST_SIGNATURE_BYTES} bytes: is it a signature? Remove it")
    return content


def check_listing(folder: Path, manifest: Manifest) -> None:
    """Raises BundleError unless the folder holds plain files alone: those that the manifest names, and perhaps a signature."""
    check_names(manifest)
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    known = {MANIFEST, SIGNATURE, *manifest.files}
    if extra := [entry for entry in entries if entry.name not in known]:
        kind = "folder" if extra[0].is_dir(follow_symlinks=False) else "file"
        others = _some([entry.name for entry in extra[1:]])
        also, them = (f" (nor {others})", "them") if others else ("", "it")
        raise BundleError(
            _printable(extra[0].name),
            f"a {kind} that {MANIFEST} does not name{also}; a bundle holds nothing else: remove {them} from {folder}",
        )
    for entry in entries:
        if not entry.is_file(follow_symlinks=False):
            raise BundleError(entry.name, _no_plain_file(entry.stat(follow_symlinks=False).st_mode))
    if missing := sorted(set(manifest.files) - {entry.name for entry in entries}):
        raise BundleError(missing[0], f"is missing; {AGAIN}")


def read_file(folder: Path, name: str, manifest: Manifest) -> bytes:
    """A file's content, which has been hashed. Raises BundleError if it is not what the manifest says."""
    with _opened(folder, name) as file:
        _check_size(name, os.fstat(file.fileno()).st_size, manifest)  # before it is in memory
        content = file.readall()
    _verify(name, len(content), lambda: hashlib.sha256(content), manifest)
    return content


def verify_file(folder: Path, name: str, manifest: Manifest) -> None:
    """The same for a file that is not needed: it is never in memory as a whole."""
    with _opened(folder, name) as file:
        _verify(name, os.fstat(file.fileno()).st_size, lambda: hashlib.file_digest(file, "sha256"), manifest)


def map_array(folder: Path, name: str, manifest: Manifest) -> npt.NDArray[Any]:
    """An array of a .npy file, read-only, and the very bytes that were hashed.

    A small one is copied: whatever happens to the file does not reach it. The pages of a large one are the file's, which servers on a
    machine share: what writes into the file changes what is served."""
    with _opened(folder, name) as file:
        size = os.fstat(file.fileno()).st_size
        content: Any = b""  # an empty file cannot be mapped
        if 0 < size <= MOST_COPIED_BYTES:
            content = mmap.mmap(-1, size)  # pages of its own: aligned, as mapped files are
            content.write(file.read(size))
        elif size:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _verify(name, size, lambda: hashlib.sha256(content), manifest)
    try:
        head = io.BytesIO(content[:4096])
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, by_column, dtype = read[np.lib.format.read_magic(head)](head)
        array: npt.NDArray[Any] = np.frombuffer(content, dtype, offset=head.tell())
        array.flags.writeable = False
        return array.reshape(shape, order="F" if by_column else "C")
    except Exception as error:  # numpy's reader of headers raises more than it says
        raise BundleError(name, f"cannot be read: {error}") from error


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _some(names: Sequence[str]) -> str:
    """Up to NAMED of them, and how many more there are."""
    named = ", ".join(map(_printable, names[:NAMED]))
    return f"{named} and {len(names) - NAMED} more" if len(names) > NAMED else named


def check_names(manifest: Manifest) -> None:
    """Raises BundleError unless the files of a manifest lie in the bundle's folder, under names of their own."""
    seen: dict[str, str] = {}
    for name in manifest.files:
        if not PLAIN_NAME.fullmatch(name):
            raise BundleError(MANIFEST, f"names a file outside the bundle, or none: {name!a}; {AGAIN}")
        if name.lower() in (MANIFEST, SIGNATURE):
            raise BundleError(MANIFEST, f"names itself, or its signature, among its files: {name}")
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise BundleError(MANIFEST, f"names {other} and {name}, which are one file where case does not count")


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[io.FileIO]:
    """A plain file of the folder itself; one that is no file (a pipe, say) is not waited for. Raises BundleError."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BundleError(name, _no_plain_file(mode))
        with io.FileIO(descriptor) as file:
            yield file
    except FileNotFoundError as error:
        raise BundleError(name, f"is missing; {AGAIN}") from error
    except OSError as error:
        linked = error.errno == errno.ELOOP
        why = _no_plain_file(stat.S_IFLNK) if linked else f"cannot be read: {error.strerror or error}"
        raise BundleError(name, why) from error


def _no_plain_file(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"))
    kind = next((kind for check, kind in kinds if check(mode)), "a device or a socket")
    return f"is {kind}, no plain file; put the file itself there"


def _verify(name: str, size: int, digest: Callable[[], Any], manifest: Manifest) -> None:
    _check_size(name, size, manifest)
    wanted = manifest.files[name].sha256
    if (actual := digest().hexdigest()) != wanted:
        raise BundleError(name, f"checksum differs: {actual}, the manifest says {wanted}; {AGAIN}")


def _check_size(name: str, size: int, manifest: Manifest) -> None:
    if size != (wanted := manifest.files[name].size):
        raise BundleError(name, f"has {size} bytes, the manifest says {wanted}; {AGAIN}")
