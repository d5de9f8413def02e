"""API keys: the server keeps a hash of each, and who holds it.

A key is `steersman_ID_SECRET`, with 256 random bits of secret. So SHA-256 is the right hash: a slow one makes it dear to try the passwords
that people think of, and here there is nothing to try. It would cost its time on every call instead.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from steersman_service.errors import TokenRefused
from steersman_service.identity.identity import ROLES, Identity, Role
from steersman_service.identity.names import check_holder

PREFIX = "steersman_"
ID, SHA256 = re.compile(r"[0-9a-z]{4,32}"), re.compile(r"[0-9a-f]{64}")


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of the file, in JSON."""

    id: str
    sha256: str
    """Of the whole key, in hexadecimal digits."""
    role: str
    name: str = ""
    """Of the holder; empty: the id."""
    tenant: str = ""
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None

    @property
    def identity(self) -> Identity:
        return Identity(self.name or self.id, self.tenant, Role[self.role.upper()])


Keys = Mapping[str, KeyEntry]
"""By id."""


def new_key(role: str, tenant: str = "", name: str = "", days: float | None = None) -> tuple[str, str]:
    """The key, and the line of the file for it. Raises ValueError."""
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
    expires = None
    if days is not None:
        expires = (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
    entry = KeyEntry(key_id, hashlib.sha256(key.encode()).hexdigest(), role, name, tenant, expires)
    _check(entry)
    return key, msgspec.json.encode(entry).decode()


def read_keys(data: bytes) -> Keys:
    """A line of JSON for each key; empty lines and those that begin with # are left out. Raises ValueError with the line's number."""
    keys = dict[str, KeyEntry]()
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            entry = msgspec.json.decode(line, type=KeyEntry)
            _check(entry)
            if entry.id in keys:
                raise ValueError("its id stands in a line before")
        except ValueError as error:  # msgspec's are ValueErrors, and name a field, never a value
            raise ValueError(f"line {number}: {error}; `steersman key new` writes such lines") from None
        keys[entry.id] = entry
    return keys


def holder_of(token: str, keys: Keys) -> Identity:
    """Raises TokenRefused."""
    entry = keys.get(token.removeprefix(PREFIX).partition("_")[0])
    digest = hashlib.sha256(token.encode()).hexdigest()
    if entry is None or not hmac.compare_digest(digest, entry.sha256):
        raise TokenRefused("it is no key of this server, or was revoked")
    if entry.expires is not None and entry.expires.timestamp() <= time.time():
        raise TokenRefused("the key has expired: `steersman key new` makes another one")
    return entry.identity


def _check(entry: KeyEntry) -> None:
    if not ID.fullmatch(entry.id):
        raise ValueError("id has to be 4 to 32 of the characters a-z 0-9")
    if not SHA256.fullmatch(entry.sha256):
        raise ValueError("sha256 has to be 64 hexadecimal digits, in lower case")
    if entry.role not in ROLES:
        raise ValueError(f"role has to be one of {', '.join(ROLES)}")
    if wrong := check_holder(entry.name or entry.id, entry.tenant):
        raise ValueError(wrong)
