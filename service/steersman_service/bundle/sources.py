"""Where bundles come from: a folder, S3-compatible storage (`s3://bucket/prefix`) or the Hugging Face hub (`hf://owner/repo@revision`).

version = resolve(source)
folder = fetch(source, version, data_folder) # pulled, checked, and under its version; or there already
"""

import re
from pathlib import Path

from steersman_service.bundle.files import VERSION
from steersman_service.bundle.pulling import pull
from steersman_service.bundle.signatures import PublicKeys
from steersman_service.bundle.storage import Storage, Stored
from steersman_service.errors import SourceError

REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
S3 = re.compile(r"(?P<bucket>[a-z0-9][a-z0-9._-]{1,62})(?P<prefix>(/[A-Za-z0-9][A-Za-z0-9._=-]*)*)/?")
HUB = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[A-Za-z0-9][\w./-]{0,199}))?", re.ASCII
)


def is_remote(source: str) -> bool:
    """Whether it is no folder: `scheme://...`."""
    return REMOTE.fullmatch(source) is not None


def resolve(source: str) -> str:
    """The version that a remote source names now. Raises SourceError, or BundleError for a manifest that is none.

    Of S3 it is what the object `current` says, or the version at the end of the source; of the hub that of the manifest at the revision.
    """
    return storage_of(source).current()


def fetch(source: str, version: str, folder: Path, keys: PublicKeys | None = None) -> Path:
    """The bundle's folder: `folder / version`, where it is pulled to unless it is there.

    Raises SourceError if it cannot be had, BundleError if it is not what its manifest says, or not signed by one of `keys`. Nothing half
    done is ever under that name. What was pulled whole before a failure is kept for the next attempt.
    """
    if not VERSION.fullmatch(version):
        raise SourceError(source, f"{version[:80]!r} is no version, which is 64 hex digits")
    return pull(storage_of(source), source, version, folder.resolve(), keys)


def listed(source: str) -> list[Stored]:
    """The bundles of a source, or of a folder of bundles, sorted. Raises SourceError."""
    if is_remote(source):
        return storage_of(source).listed()
    folder = Path(source)
    try:
        names = sorted(path.name for path in folder.iterdir() if VERSION.fullmatch(path.name))
    except OSError as error:
        raise SourceError(source, f"cannot be listed: {error.strerror or error}") from error
    return [Stored(name, name == (folder / "current").resolve().name) for name in names]


def storage_of(source: str) -> Storage:
    """Of a remote source. Raises SourceError for one that cannot be understood, or whose extra is not installed."""
    found = REMOTE.fullmatch(source)
    scheme, rest = (found[1].lower(), found[2]) if found else ("", source)
    # Imported here: neither library is needed for a folder.
    if scheme == "s3" and (place := S3.fullmatch(rest)):
        from steersman_service.bundle.s3 import S3Storage

        prefix, _, last = place["prefix"].strip("/").rpartition("/")
        pinned = VERSION.fullmatch(last) is not None
        root = "/".join(part for part in (place["bucket"], prefix, "" if pinned else last) if part)
        return S3Storage(source, root, last if pinned else None)
    if scheme == "hf" and (place := HUB.fullmatch(rest)):
        from steersman_service.bundle.hub import HubStorage

        return HubStorage(source, place["repo"], place["revision"])
    if not scheme:
        raise SourceError(source, "is a folder; write s3://BUCKET/PREFIX or hf://OWNER/REPO")
    raise SourceError(
        # What was given may hold a secret that does not belong there.
        f"{scheme}://",
        "is no source of bundles that is known: write s3://BUCKET/PREFIX, hf://OWNER/REPO or hf://OWNER/REPO@REVISION, or a folder;"
        " credentials and endpoints do not belong in it (AWS_*, HF_TOKEN, HF_ENDPOINT)",
    )
