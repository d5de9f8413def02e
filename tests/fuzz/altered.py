"""Alters a bundle a byte at a time."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from steersman.v1.bundle_pb2 import Manifest
from steersman_service.bundle.files import MANIFEST, read_manifest, verify_file
from steersman_service.errors import BundleError


def walk(bundle: Path, step: int = 1) -> int:
    """Flips a bit of each byte of each file, or of one in `step`, and puts it back; how many there were.

    Raises AssertionError for one that nothing finds by which a load reads files. A digit of the manifest beyond what a float holds changes
    nothing that it says: that is found, too.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(bundle, Path(folder, "bundle")))
        manifest = read_manifest(copy)
        return sum(_walk_file(copy, name, manifest, step) for name in (MANIFEST, *manifest.files))


def _walk_file(folder: Path, name: str, manifest: Manifest, step: int) -> int:
    plain, tried = (folder / name).read_bytes(), range(0, (folder / name).stat().st_size, step)
    file = os.open(folder / name, os.O_WRONLY)
    try:
        for place in tried:
            os.pwrite(file, bytes([plain[place] ^ 1]), place)
            if not _found(folder, name, manifest):
                raise AssertionError(f"{name}: byte {place} was altered, and nothing found it")
            os.pwrite(file, plain[place : place + 1], place)
    finally:
        os.close(file)
    return len(tried)


def _found(folder: Path, name: str, manifest: Manifest) -> bool:
    with suppress(BundleError):
        if name == MANIFEST:
            return read_manifest(folder) == manifest
        verify_file(folder, name, manifest)
        return False
    return True
