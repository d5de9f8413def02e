"""Where a bundle came from, and whether its TorchScript may run: it is code, which a bundle's checksums do not vouch for.

A bundle that was pulled has a mark beside it, `.pulled/VERSION`, written before the bundle is there under its name. A bundle without a mark
is local: it was trained on this machine, or put into this folder by hand.
"""

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from steersman.v1.bundle_pb2 import Manifest
from steersman_service.bundle.files import MANIFEST
from steersman_service.errors import BundleError

MARKS = ".pulled"
REMEDY = "have it signed and set bundle_keys, or use the backend onnx"


def mark_pulled(folder: Path, version: str, source: str) -> None:
    """Says that `folder / version` comes from `source`."""
    marks = folder / MARKS
    marks.mkdir(exist_ok=True)
    said = {"source": source, "pulled": datetime.now(UTC).isoformat(timespec="seconds")}
    with (marks / version).open("w", encoding="utf-8") as file:
        file.write(json.dumps(said) + "\n")
        file.flush()
        os.fsync(file.fileno())


def was_pulled(folder: Path, version: str) -> bool:
    """Whether the bundle of this version, in the resolved folder, has a mark."""
    return os.path.lexists(folder.parent / MARKS / version)


def check_may_run(folder: Path, manifest: Manifest) -> None:
    """Raises BundleError for TorchScript of an unsigned bundle that is not local, or that every user of the machine may write to."""
    if was_pulled(folder, manifest.version):
        raise BundleError(
            MANIFEST, f"the bundle was pulled and is not signed: its TorchScript could be any code; {REMEDY}"
        )
    for path in (folder, *(folder / name for name in manifest.files if name.endswith(".ts"))):
        if path.stat(follow_symlinks=False).st_mode & stat.S_IWOTH:
            why = f"every user of this machine may write to {path}, and TorchScript is code; chmod o-w it"
            raise BundleError(MANIFEST if path == folder else path.name, why)
