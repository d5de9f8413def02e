"""Signatures of bundles: Ed25519 over the version, the hash of the manifest, which has the hash of every file (proto/README.md)."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from steersman.v1.bundle_pb2 import Manifest
from steersman_service.bundle import files
from steersman_service.bundle.files import SIGNATURE
from steersman_service.errors import BundleError, StartupError

SUFFIX = ".pub"
MOST_SIGNATURES = 16
MOST_KEY_BYTES = 16 << 10
# Ids in a message.
NAMED = 8
MAKE = "`steersman bundle keygen FILE` makes FILE and FILE.pub"


class PublicKeys:
    """The keys of those whose bundles are served, by id."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._keys = dict(keys)

    @staticmethod
    def read(path: Path) -> "PublicKeys":
        """Of a file, or of all files of a folder whose names end in .pub. Raises StartupError."""
        try:
            files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
            if not files:
                raise StartupError(f"bundle keys: the folder {path} has no file *{SUFFIX}; {MAKE}")
            keys = [_read_key(file) for file in files]
        except OSError as error:
            raise StartupError(f"bundle keys: {error.filename or path}: {error.strerror or error}; {MAKE}") from error
        return PublicKeys({key_id(key): key for key in keys})

    @property
    def known(self) -> str:
        """Their ids, for a message."""
        ids = sorted(self._keys)
        return ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")

    def check(self, signature: bytes | None, version: str) -> str:
        """The id of the key by which the bundle of this version is signed. Raises BundleError if it is by none of these."""
        if signature is None:
            why = f"there is none, and bundle keys are set: only bundles signed by {self.known} are served"
            raise BundleError(SIGNATURE, f"{why}; `steersman bundle sign` adds a signature")
        signatures = _parse(signature)
        for name in signatures.keys() & self._keys.keys():
            try:
                self._keys[name].verify(signatures[name], message(version))
            except InvalidSignature:
                why = f"is no signature by {name} of version {version}: it, or the manifest, was changed"
                raise BundleError(SIGNATURE, f"{why}; get the bundle again") from None
            return name
        ids = ", ".join(sorted(signatures)[:NAMED]) or "no key"
        raise BundleError(
            SIGNATURE, f"is by {ids}, and the bundle keys are {self.known}: add its public key, or sign it anew"
        )


def check_signature(folder: Path, manifest: Manifest, keys: PublicKeys) -> str:
    """The id of the key by which the bundle in `folder` is signed, whose manifest this is. Raises BundleError."""
    return keys.check(files.read_signature(folder), manifest.version)


def key_id(key: Ed25519PublicKey) -> str:
    """Of 16 hex digits. It tells which key to try, and proves nothing."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def message(version: str) -> bytes:
    """What is signed."""
    return f"steersman-bundle:{version}".encode()


def _read_key(file: Path) -> Ed25519PublicKey:
    with file.open("rb") as opened:
        content = opened.read(MOST_KEY_BYTES)
    if b"PRIVATE KEY" in content:
        raise StartupError(
            f"bundle keys: {file} is a private key: give the public one, and keep this where signing is done"
        )
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StartupError(f"bundle keys: {file} is no public key in PEM; {MAKE}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise StartupError(f"bundle keys: {file} is a key of another kind than Ed25519; {MAKE}")
    return key


def _parse(content: bytes) -> dict[str, bytes]:
    """Signatures by the ids of their keys."""
    try:
        entries = json.loads(content)["signatures"]
        if len(entries) > MOST_SIGNATURES:
            raise ValueError(f"{len(entries)} signatures, more than {MOST_SIGNATURES}")
        return {str(each["key_id"])[:16]: base64.b64decode(each["ed25519"], validate=True) for each in entries}
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise BundleError(SIGNATURE, f"cannot be read: {error}; `steersman bundle sign` writes it anew") from error
