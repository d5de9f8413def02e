"""By which ways callers are known. See the settings."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from steersman_service.checks import on_this_machine
from steersman_service.identity.identity import Role


@dataclass(frozen=True)
class JwtOptions:
    """What a token has to say, and the keys that it is verified with."""

    keys: str
    """A file, or the URL of a JWKS."""
    audience: str
    issuer: str
    tenant_claim: str = "tenant"
    roles_claim: str = "roles"


@dataclass(frozen=True)
class IdentityOptions:
    jwt: JwtOptions | None = None
    api_keys: Path | None = None
    certificates: bool = False
    anonymous: Role | None = None
    """Of a call without credentials. None: ADMIN if none are asked for, else NONE."""

    @property
    def asks(self) -> bool:
        """Whether there is a way to be known."""
        return self.jwt is not None or self.api_keys is not None or self.certificates


def check_keys_url(url: str) -> str:
    """What is wrong with it; empty if nothing is."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        return "a URL with a user or a password is not asked: keys are public"
    if parts.scheme == "https" and parts.hostname:
        return ""
    if parts.scheme == "http" and on_this_machine(parts.hostname or ""):
        return ""
    return "a URL has to begin with https://: keys that come over plain HTTP could be anyone's"
