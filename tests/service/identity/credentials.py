"""Issuers of tokens, and what they issue."""

import json
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from steersman_service.identity.api_keys import new_key

AUDIENCE, ISSUER = "steersman", "https://issuer.example"


class Issuer:
    """Has a key of its own: RSA, or P-256."""

    def __init__(self, kid: str = "", *, curve: bool = False) -> None:
        self.kid, self._curve = kid, curve
        self._key: Any = (
            ec.generate_private_key(ec.SECP256R1()) if curve else rsa.generate_private_key(65537, key_size=2048)
        )

    @property
    def pem(self) -> bytes:
        return bytes(self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    @property
    def jwk(self) -> dict[str, Any]:
        algorithm = ECAlgorithm if self._curve else RSAAlgorithm
        made: dict[str, Any] = algorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {**made, "kid": self.kid}

    def token(self, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """Of ann, of the tenant acme, who may steer, for a minute. A claim that is None is left out."""
        claims = {"sub": "ann", "aud": AUDIENCE, "iss": ISSUER, "exp": time.time() + 60, "tenant": "acme"}
        claims = {name: value for name, value in {**claims, "roles": ["steer"], **changes}.items() if value is not None}
        head = {**({"kid": self.kid} if self.kid else {}), **(headers or {})}
        return jwt.encode(claims, self._key, "ES256" if self._curve else "RS256", head)


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """What no library writes."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def jwks(*issuers: Issuer) -> bytes:
    return json.dumps({"keys": [issuer.jwk for issuer in issuers]}).encode()


def key_file(path: Path, **roles: str) -> dict[str, str]:
    """A file with a key for each name: `steer@acme` is a role and a tenant. Gives the keys."""
    keys, lines = {}, []
    for name, given in roles.items():
        role, _, tenant = given.partition("@")
        keys[name], line = new_key(role, tenant, name)
        lines.append(line)
    path.write_text("# keys\n\n" + "\n".join(lines) + "\n")
    return keys
