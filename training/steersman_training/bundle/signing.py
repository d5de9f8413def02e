"""Signs bundles: Ed25519 over the version, the hash of the manifest (proto/README.md). Keys are files in PEM."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
PASSPHRASE = "BUNDLE_SIGN_PASSPHRASE"
"""Environment variable; a flag would be seen by every user of the machine."""
MOST_SIGNATURES = 16
AGAIN = "get the bundle again, or train it again"


class SigningKey:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = hashlib.sha256(public).hexdigest()[:16]

    def sign(self, version: str, others: tuple[dict[str, str], ...] = ()) -> bytes:
        """The content of manifest.sig for a bundle of this version, with signatures of other keys kept."""
        signature = base64.b64encode(self._key.sign(f"steersman-bundle:{version}".encode())).decode()
        entries = [{"key_id": self.id, "ed25519": signature}, *(each for each in others if each["key_id"] != self.id)]
        if len(entries) > MOST_SIGNATURES:
            raise ValueError(
                f"{SIGNATURE} has {len(entries) - 1} signatures, the most there may be: remove it, and sign again"
            )
        return (json.dumps({"signatures": entries}, indent=1) + "\n").encode()


def passphrase(file: Path | None) -> bytes | None:
    """From the first line of `file`, or else from the environment. None: there is none. Raises OSError, or ValueError for an empty one."""
    if file is None:
        return os.environ.get(PASSPHRASE, "").encode() or None
    lines = file.read_bytes().splitlines()
    if not lines or not lines[0]:
        raise ValueError(f"--passphrase-file: the first line of {file} is empty: write the passphrase there")
    return lines[0]


def make_key(file: Path, secret: bytes | None) -> SigningKey:
    """Writes a new private key to `file`, for its owner alone, and the public one to `file`.pub. Raises FileExistsError, OSError."""
    public_file = file.with_name(f"{file.name}.pub")
    if public_file.exists():
        raise FileExistsError(f"{public_file} is there already: a key is never written over; name another file")
    key = Ed25519PrivateKey.generate()
    locked: KeySerializationEncryption = BestAvailableEncryption(secret) if secret else NoEncryption()
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise FileExistsError(f"{file} is there already: a key is never written over; name another file") from None
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
    public_file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return SigningKey(key)


def read_key(file: Path, secret: bytes | None) -> SigningKey:
    """Raises OSError, or ValueError that says what is wrong with the file or its passphrase."""
    content = file.read_bytes()
    if b"PUBLIC KEY" in content:
        raise ValueError(f"{file} is a public key: name the private one, without .pub")
    if b"ENCRYPTED" in content and not secret:
        raise ValueError(f"{file} has a passphrase: give it by --passphrase-file FILE, or in {PASSPHRASE}")
    try:
        # A passphrase in the environment may be that of another key.
        key = load_pem_private_key(content, secret if b"ENCRYPTED" in content else None)
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "the passphrase is wrong, or the file damaged" if secret else "it is no private key in PEM"
        raise ValueError(f"{file}: {what}; `steersman bundle keygen FILE` makes a key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{file} is a key of another kind than Ed25519; `steersman bundle keygen FILE` makes one")
    return SigningKey(key)


def sign_folder(folder: Path, key: SigningKey) -> str:
    """Signs the bundle in `folder`, whose files are hashed first, and gives its version. Signatures by other keys are kept.

    Raises ValueError with the file that is not what the manifest says.
    """
    folder = folder.resolve()
    version = _checked_version(folder)
    content = key.sign(version, _others(folder / SIGNATURE))
    temporary = folder.parent / f".{SIGNATURE}-{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / SIGNATURE)
    finally:
        temporary.unlink(missing_ok=True)
    return version


def version_of(document: dict[str, Any]) -> str:
    """The SHA-256 of a manifest without its version."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _checked_version(folder: Path) -> str:
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} holds no {MANIFEST}: name the folder of a bundle")
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
        version, wanted = (
            str(document.pop("version")),
            {name: file["sha256"] for name, file in document["files"].items()},
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{folder / MANIFEST} is no manifest of a bundle; {AGAIN}") from error
    if version != version_of(document):
        raise ValueError(f"{folder / MANIFEST} was changed: it is not what its version says; {AGAIN}")
    for name, sha256 in wanted.items():
        path = folder / name
        if "/" in name or path.is_symlink() or not path.is_file():
            raise ValueError(f"{path} is no plain file of the bundle; {AGAIN}")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise ValueError(f"{path} is not what the manifest says; {AGAIN}")
    return version


def _others(file: Path) -> tuple[dict[str, str], ...]:
    if not file.is_file():
        return ()
    try:
        entries = json.loads(file.read_bytes())["signatures"]
        return tuple({"key_id": str(each["key_id"]), "ed25519": str(each["ed25519"])} for each in entries)
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{file} is no signature of a bundle: remove it, and sign again") from error
