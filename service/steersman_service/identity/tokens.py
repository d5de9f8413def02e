"""Identity from a JWT that an issuer has signed (RFC 7519; pitfalls: RFC 8725)."""

import hashlib
import time
from collections import OrderedDict
from typing import Any

import jwt

from steersman_service.errors import KeysUnavailable, TokenRefused
from steersman_service.identity.identity import Identity
from steersman_service.identity.jwt_keys import KeySource, VerificationKey
from steersman_service.identity.names import check_holder, highest
from steersman_service.identity.options import JwtOptions

# The clocks of issuer and server may differ by this much.
LEEWAY_SECONDS = 30
MOST_REMEMBERED = 10_000
# Seconds of Unix time that a number of any length is taken for.
LATEST = 1 << 53
# What the library may raise for a token beside its own errors: numbers out of range, and JSON as deep as it is long.
STRANGE = (ValueError, TypeError, OverflowError, RecursionError)


class TokenVerifier:
    """Remembers the tokens that it has verified, by their hash, until they expire or the keys change: a signature costs more than a call's
    other checks together."""

    def __init__(self, source: KeySource, options: JwtOptions) -> None:
        self._source, self._options = source, options
        self._remembered: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()

    async def refresh(self, *, unknown: bool = False) -> bool:
        changed = await self._source.refresh(unknown=unknown)
        if changed:
            self._remembered.clear()
        return changed

    async def holder_of(self, token: str) -> Identity:
        """Raises TokenRefused, or KeysUnavailable."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._remembered.get(digest)
        if known and time.time() < known[1]:
            self._remembered.move_to_end(digest)
            return known[0]
        self._remembered.pop(digest, None)
        header = _header(token)
        fitting = self._fitting(header)
        if not fitting:
            await self.refresh(unknown=True)
            fitting = self._fitting(header)
        if self._source.keys is None:
            raise KeysUnavailable
        claims = self._verified(token, header, fitting)
        identity = self._identity(claims)
        self._remembered[digest] = identity, min(int(claims["exp"]), LATEST) + LEEWAY_SECONDS
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return identity

    def _fitting(self, header: dict[str, Any]) -> list[VerificationKey]:
        """Keys of the token's algorithm, and of its key's id where both have one."""
        algorithm, kid = header.get("alg"), header.get("kid", "")
        return [
            key for key in self._source.keys or () if algorithm in key.algorithms and (not kid or key.kid in ("", kid))
        ]

    def _verified(self, token: str, header: dict[str, Any], keys: list[VerificationKey]) -> dict[str, Any]:
        for key in keys:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key.key,
                    algorithms=[header["alg"]],
                    audience=self._options.audience,
                    issuer=self._options.issuer,
                    leeway=LEEWAY_SECONDS,
                    options={"require": ["exp", "sub"]},
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as error:
                raise TokenRefused(_why(error)) from None
            except STRANGE:
                raise TokenRefused("its claims cannot be read") from None
            return claims
        raise TokenRefused("no key of this server's issuer has signed it")

    def _identity(self, claims: dict[str, Any]) -> Identity:
        options = self._options
        name, tenant = claims["sub"], _claim(claims, options.tenant_claim, "")
        roles = _claim(claims, options.roles_claim, [])
        if isinstance(roles, str):
            roles = roles.replace(",", " ").split()
        if not isinstance(tenant, str):
            raise TokenRefused(f"its claim {options.tenant_claim} is no text")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise TokenRefused(f"its claim {options.roles_claim} is no list of texts")
        if wrong := check_holder(name, tenant):
            raise TokenRefused(wrong)
        return Identity(name, tenant, highest(roles))


def _header(token: str) -> dict[str, Any]:
    """Not verified."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, *STRANGE):
        raise TokenRefused("it is neither an API key nor a signed JWT") from None
    if "crit" in header or not isinstance(header.get("alg"), str):
        raise TokenRefused("its header asks for what this server does not do")
    return header


def _claim(claims: dict[str, Any], name: str, none: Any) -> Any:
    """By its name, which may have dots in it, or else by a path: realm_access.roles. `none`: there is none, or it is null."""
    found: Any = claims
    for part in [name] if name in claims else name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return none if found is None else found


def _why(error: jwt.InvalidTokenError) -> str:
    """Told after the signature was verified, so to the holder of a token of the issuer alone."""
    match error:
        case jwt.ExpiredSignatureError():
            return "it has expired: get a new one"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet"
        case jwt.InvalidAudienceError():
            return "it is for another audience"
        case jwt.InvalidIssuerError():
            return "it is of another issuer"
        case jwt.MissingRequiredClaimError():
            return f"it lacks the claim {error.claim}"
    return "its claims cannot be read"
