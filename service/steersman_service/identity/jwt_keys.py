"""Public keys that tokens are verified with: from a file, or from the URL where their issuer publishes them."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWK, PyJWKError
from jwt.exceptions import InvalidKeyError

from steersman_service.errors import KeysUnavailable
from steersman_service.identity.watched import MOST_BYTES, WatchedFile

RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
LEAST_RSA_BITS = 2048
MOST_KEYS = 100
PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
# Between two looks at a URL, and at least between two that tokens with a key that is not known ask for.
FRESH_SECONDS, AGAIN_SECONDS = 300.0, 10.0
FETCH_SECONDS = 5.0
# Calls whose token has a key that is not known, and that wait for the URL: nothing else has counted them yet.
MOST_WAITING = 256

log = structlog.get_logger()


class VerificationKey(NamedTuple):
    key: Any
    """Public, of `cryptography`."""
    algorithms: Sequence[str]
    """Those that fit the key: what a token names beside them does not count. All are asymmetric."""
    kid: str
    """Empty: the key has no id."""


Keys = Sequence[VerificationKey]


class KeySource(Protocol):
    @property
    def keys(self) -> Keys | None:
        """None: they were not reached yet."""

    async def refresh(self, *, unknown: bool = False) -> bool:
        """Whether they have changed. `unknown`: a token has a key that is not among them. Raises KeysUnavailable where too many wait."""


class KeysInFile:
    def __init__(self, path: Path) -> None:
        """Raises StartupError."""
        self._file = WatchedFile("jwt_keys", path, read_keys)

    @property
    def keys(self) -> Keys:
        return self._file.value

    async def refresh(self, *, unknown: bool = False) -> bool:
        """A token does not hasten it: looks that follow each other at once would not tell that the file stands still."""
        return not unknown and self._file.refresh()


class KeysAtUrl:
    """Asked every FRESH_SECONDS, and sooner for a token with an unknown key: issuers publish a key and sign with it at once."""

    def __init__(self, url: str, fetch: Callable[[str], bytes] | None = None) -> None:
        self.keys: Keys | None = None
        self._url, self._fetch = url, fetch or fetched
        self._asked = float("-inf")
        self._asking = asyncio.Lock()
        self._waiting = 0

    async def refresh(self, *, unknown: bool = False) -> bool:
        if unknown and self._waiting >= MOST_WAITING:
            raise KeysUnavailable
        self._waiting += unknown
        try:
            return await self._refreshed(unknown)
        finally:
            self._waiting -= unknown

    async def _refreshed(self, unknown: bool) -> bool:
        async with self._asking:
            pause = AGAIN_SECONDS if unknown or self.keys is None else FRESH_SECONDS
            if time.monotonic() - self._asked < pause:
                return False
            self._asked, before = time.monotonic(), self.keys
            try:
                self.keys = read_keys(await asyncio.to_thread(self._fetch, self._url))
            except (OSError, ValueError) as error:
                why = str(error) if isinstance(error, ValueError) else type(error).__name__
                log.error("keys of tokens not read; those read before hold", setting="jwt_keys", error=why)
                return False
            return _numbers(before) != _numbers(self.keys)


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        """None is followed: it could lead to a place that anyone can answer for."""


def fetched(url: str) -> bytes:
    """Raises OSError or ValueError. It takes FETCH_SECONDS for each step: to connect, to be answered, and to read."""
    request, data = Request(url, headers={"accept": "application/json"}), b""
    # Plain HTTP is of this machine alone: a proxy would be another one.
    direct = [ProxyHandler({})] if url.startswith("http:") else []
    try:
        with build_opener(_NoRedirect, *direct).open(request, timeout=FETCH_SECONDS) as response:
            until = time.monotonic() + FETCH_SECONDS
            while part := response.read1(MOST_BYTES + 1 - len(data)):
                data += part
                if time.monotonic() > until:
                    raise TimeoutError
    except URLError as error:
        raise OSError(str(error.reason)) from None
    except HTTPException as error:
        raise OSError(type(error).__name__) from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"has more than {MOST_BYTES} bytes")
    return data


def read_keys(data: bytes) -> Keys:
    """PEM (public keys, certificates) or a JWKS. Raises ValueError."""
    keys = _from_pem(data) if b"-----BEGIN " in data else _from_jwks(data)
    if not 1 <= len(keys) <= MOST_KEYS:
        raise ValueError(f"holds {len(keys)} public keys that can verify tokens; 1 to {MOST_KEYS} are allowed")
    return keys


def _from_pem(data: bytes) -> list[VerificationKey]:
    keys = []
    for number, block in enumerate(PEM.finditer(data), 1):
        if b"PRIVATE" in block[1]:
            raise ValueError("holds a private key, which only the issuer of tokens may have: give the public one")
        try:
            loaded = load_pem_x509_certificate(block[0]).public_key() if block[1] == b"CERTIFICATE" else None
            keys.append(_bound(loaded or load_pem_public_key(block[0])))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError(f"block {number}: {error}") from None
    return keys


def _from_jwks(data: bytes) -> list[VerificationKey]:
    try:
        listed = json.loads(data)["keys"]
        jwks = [one for one in listed if one.get("use", "sig") == "sig" and one.get("kty") != "oct"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError("is neither PEM nor a JWKS, an object with a list keys") from None
    keys = []
    for one in jwks:
        if "d" in one:
            raise ValueError("holds a private key, which only the issuer of tokens may have: give the public one")
        try:
            keys.append(_bound(PyJWK(one).key, str(one.get("kid", "")), one.get("alg")))
        except (PyJWKError, InvalidKeyError, ValueError, TypeError):
            continue  # of a kind that is not known here: issuers publish keys for others, too
    return [key for key in keys if key.algorithms]


def _bound(key: Any, kid: str = "", algorithm: str | None = None) -> VerificationKey:
    """With the algorithms of its kind. Raises ValueError."""
    match key:
        case RSAPublicKey():
            if key.key_size < LEAST_RSA_BITS:
                raise ValueError(f"an RSA key of {key.key_size} bits; at least {LEAST_RSA_BITS} are safe")
            own: Sequence[str] = RSA
        case EllipticCurvePublicKey() if key.curve.name in CURVES:
            own = (CURVES[key.curve.name],)
        case Ed25519PublicKey() | Ed448PublicKey():
            own = ("EdDSA",)
        case _:
            raise ValueError("a key is RSA, P-256, P-384, P-521, Ed25519 or Ed448")
    if algorithm is not None:
        own = [one for one in own if one == algorithm]
    return VerificationKey(key, own, kid)


def _numbers(keys: Keys | None) -> list[tuple[Any, str]]:
    return [(key.public_numbers() if hasattr(key, "public_numbers") else key, kid) for key, _, kid in keys or ()]
