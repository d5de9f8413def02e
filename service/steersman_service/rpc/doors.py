"""Who a gRPC call comes from, and whether it may come in."""

from typing import Any, Literal, NoReturn

import grpc
from google.protobuf.message import Message

from steersman_service.api.access import permit
from steersman_service.checks import MAX_TENANT_BYTES, check_bytes
from steersman_service.errors import RoleMissing, TenantRefused, TokenMissing, raise_if_any
from steersman_service.identity.authenticator import Authenticator
from steersman_service.identity.identity import OPEN, Identity, Role
from steersman_service.identity.options import IdentityOptions
from steersman_service.rpc.services import PACKAGE
from steersman_service.rpc.upstream import VIA

Context = grpc.aio.ServicerContext[Any, Any]
Reflection = Literal["on", "off", "admin"]

AUTHORIZATION = "authorization"
# Key of the call's metadata, so that a proxy can set it for callers that it knows.
TENANT = "steersman-tenant"
# Of the certificate that a client has shown. Of its other names an authority may check less.
URIS = "peer_uri"
OWN = f"/{PACKAGE}."
REFLECTION = "/grpc.reflection."


class Doors:
    """Calls of `steersman.v1` need a role. Health is open to all, as what does not exist is; reflection is by its setting."""

    def __init__(self, authenticator: Authenticator | None = None, reflection: Reflection = "on") -> None:
        """Without an `authenticator` all callers may do everything."""
        self._authenticator = authenticator or Authenticator(IdentityOptions())
        self._reflection = reflection

    async def admit(self, method: str, context: Context) -> tuple[Identity, str]:
        """Whose call of "/package.Service/Method" this is, and the tenant whose share of the queue it takes. Raises a RequestError."""
        own = method.startswith(OWN)
        if not own and not (self._reflection == "admin" and method.startswith(REFLECTION)):
            return OPEN, ""
        metadata = context.invocation_metadata() or ()
        identity = await self._identity(context, metadata)
        if not own and identity.role < Role.ADMIN:
            self._refuse(identity, RoleMissing("reflection", Role.ADMIN.word, identity.role.word))
        named = next((str(value) for key, value in metadata if key == TENANT), "")
        if self._authenticator.asks:
            if named and named != identity.tenant:
                raise TenantRefused
            return identity, identity.tenant
        if named:
            raise_if_any(list(check_bytes(f"metadata {TENANT}", named, 0, MAX_TENANT_BYTES)))
        return identity, named

    def permit(self, method: str, request: Message, identity: Identity) -> None:
        """Raises TokenMissing or RoleMissing."""
        try:
            permit(method.removeprefix(OWN), request, identity)
        except RoleMissing as error:
            self._refuse(identity, error)

    def _refuse(self, identity: Identity, error: RoleMissing) -> NoReturn:
        """A caller that has not said who it is may have the role."""
        raise TokenMissing if self._authenticator.asks and not identity.name else error

    async def _identity(self, context: Context, metadata: Any) -> Identity:
        if not self._authenticator.asks:
            return await self._authenticator.identify((), tuple)
        sent = [str(value) for key, value in metadata if key == AUTHORIZATION]

        def names() -> list[str]:
            if VIA in ((key, value) for key, value in metadata):
                return []
            return [name.decode(errors="replace") for name in context.auth_context().get(URIS, ())]

        return await self._authenticator.identify(sent, names)
