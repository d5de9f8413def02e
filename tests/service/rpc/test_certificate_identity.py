"""Identity by the client's certificate, over a real handshake."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from google.rpc.status_pb2 import Status

from steersman.v1.model_service_pb2 import GetModelInfoRequest, GetModelInfoResponse
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman_service.api.caller import Caller
from steersman_service.identity.authenticator import Authenticator
from steersman_service.identity.identity import Identity, Role
from steersman_service.identity.options import IdentityOptions
from steersman_service.rpc.admission import Admission
from steersman_service.rpc.doors import Doors
from steersman_service.rpc.interceptor import CallInterceptor
from steersman_service.rpc.services import add_services
from steersman_service.rpc.upstream import VIA
from steersman_service.telemetry.metrics import Metrics
from tests.service.http.gateways import reason


def certificate(names: list[str | x509.GeneralName], signer: Any = None) -> tuple[Any, bytes, bytes]:
    """A key and a certificate with these alternative names; without a `signer` an authority's own."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "holder" if signer else "authority")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(signer[1].subject if signer else subject)
    made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    made = made.add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    if names:
        kinds = [n if isinstance(n, x509.GeneralName) else _alternative(n) for n in names]
        made = made.add_extension(x509.SubjectAlternativeName(kinds), critical=False)
    signed = made.sign(signer[0] if signer else key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (key, signed), pem, signed.public_bytes(Encoding.PEM)


def _alternative(name: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name)


async def test_a_certificate_says_who_calls_and_a_gateways_does_not() -> None:
    authority, _, root = certificate([])
    _, key, chain = certificate(["localhost"], authority)
    doors = Doors(Authenticator(IdentityOptions(certificates=True)))
    calls = CallInterceptor(
        Metrics(collected=False),
        slow_seconds=9,
        admission=Admission(9, 9, 9, lambda: 0.0),
        max_message_bytes=999,
        doors=doors,
    )
    server, seen = grpc.aio.server(interceptors=[calls]), list[Caller]()

    class Model:
        async def GetModelInfo(self, request: Any, caller: Caller) -> GetModelInfoResponse:
            seen.append(caller)
            return GetModelInfoResponse()

        ListBundles = ListHistories = GetModelInfo

    add_services(server, ["ModelService"], lambda service, method: getattr(Model(), method), Metrics(collected=False))
    credentials = grpc.ssl_server_credentials([(key, chain)], root, require_client_auth=True)
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()

    async def called(names: list[str | x509.GeneralName], *metadata: tuple[str, str]) -> str:
        _, own_key, own = certificate(names, authority)
        shown = grpc.ssl_channel_credentials(root, own_key, own)
        async with grpc.aio.secure_channel(f"localhost:{port}", shown) as channel:
            try:
                await ModelServiceStub(channel).GetModelInfo(GetModelInfoRequest(), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                return why(error)
        return ""

    try:
        assert not await called(["page.example", "steersman://acme/page?role=recommend"])
        assert (seen[-1].identity, seen[-1].tenant) == (Identity("page", "acme", Role.RECOMMEND), "acme")
        assert not await called(["steersman:///cron?role=admin"])
        assert seen[-1].identity == Identity("cron", "", Role.ADMIN)
        assert await called(["page.example"]) == "TOKEN_MISSING"
        # What an authority checks of an address of mail, or of a host, says nothing of a URI.
        for kind in (x509.RFC822Name, x509.DNSName):
            assert await called([kind("steersman:///root@page.example?role=admin")]) == "TOKEN_MISSING"
        assert await called(["steersman://acme/page?role=root"]) == "TOKEN_REFUSED"
        assert await called(["steersman:///cron?role=admin"], VIA) == "TOKEN_MISSING"
        assert await called(["steersman:///cron?role=admin"], ("authorization", "Bearer x")) == "TOKEN_REFUSED"
    finally:
        await server.stop(None)


def why(error: Any) -> str:
    """The reason."""
    (details,) = (value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    return reason(Status.FromString(details))
