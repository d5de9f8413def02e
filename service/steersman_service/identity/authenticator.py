"""From a call's credentials to an identity, by the ways that are on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from steersman_service.checks import MAX_AUTHORIZATION_BYTES
from steersman_service.errors import TokenMissing, TokenRefused
from steersman_service.identity import api_keys, certificates
from steersman_service.identity.identity import OPEN, Identity, Role
from steersman_service.identity.options import IdentityOptions, JwtOptions
from steersman_service.identity.watched import WatchedFile

if TYPE_CHECKING:
    from steersman_service.identity.tokens import TokenVerifier

# How often files are looked at.
LOOK_SECONDS = 1.0

log = structlog.get_logger()


class Authenticator:
    """Knows no transport: it is given the values of the header `authorization` and the names of the client's certificate."""

    def __init__(self, options: IdentityOptions) -> None:
        """Reads the files. Raises StartupError."""
        self.asks = options.asks
        self._certificates = options.certificates
        default = Role.NONE if options.asks else Role.ADMIN
        self._anonymous = OPEN._replace(role=default if options.anonymous is None else options.anonymous)
        self._tokens = _verifier(options.jwt) if options.jwt else None
        self._keys = WatchedFile("api_keys", options.api_keys, api_keys.read_keys) if options.api_keys else None

    async def identify(self, authorization: Sequence[str], names: Callable[[], Sequence[str]]) -> Identity:
        """A token goes before a certificate; one that is refused is refused, whatever there is beside it. Raises TokenMissing, TokenRefused
        or KeysUnavailable."""
        if not self.asks:
            return self._anonymous
        if authorization:
            return await self._holder_of(authorization)
        if self._certificates and (holder := certificates.holder_of(names())):
            return holder
        if self._anonymous.role is Role.NONE:
            raise TokenMissing
        return self._anonymous

    async def refresh(self) -> None:
        """Reads what has changed."""
        await self._refresh_keys()
        await self._refresh_tokens()

    async def follow(self) -> None:
        """Does so again and again, whatever happens. An issuer that hangs keeps no revoked API key alive."""
        await asyncio.gather(_repeated(self._refresh_keys), _repeated(self._refresh_tokens))

    async def _refresh_keys(self) -> None:
        if self._keys:
            self._keys.refresh()

    async def _refresh_tokens(self) -> None:
        if self._tokens:
            await self._tokens.refresh()

    async def _holder_of(self, authorization: Sequence[str]) -> Identity:
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or len(authorization[0]) > MAX_AUTHORIZATION_BYTES:
            raise TokenRefused(f"one header authorization of at most {MAX_AUTHORIZATION_BYTES} bytes is read")
        if scheme.lower() != "bearer" or not (token := token.strip()):
            raise TokenRefused("the header authorization has to be: Bearer TOKEN")
        if token.startswith(api_keys.PREFIX) and self._keys:
            return api_keys.holder_of(token, self._keys.value)
        if self._tokens and not token.startswith(api_keys.PREFIX):
            return await self._tokens.holder_of(token)
        raise TokenRefused("this server takes no tokens of this kind")


async def _repeated(refresh: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await refresh()
        except Exception:
            log.exception("credentials not read again; what was read before holds")


def _verifier(options: JwtOptions) -> "TokenVerifier":
    # Imported here: a server without tokens needs no cryptography.
    from steersman_service.identity.jwt_keys import KeysAtUrl, KeysInFile
    from steersman_service.identity.tokens import TokenVerifier

    url = "://" in options.keys
    return TokenVerifier(KeysAtUrl(options.keys) if url else KeysInFile(Path(options.keys)), options)
