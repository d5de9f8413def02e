"""Tokens that hold, those that do not, and keys that change."""

import asyncio
import hashlib
import hmac
import json
import socket
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest

from steersman_service.errors import KeysUnavailable, StartupError, TokenRefused
from steersman_service.identity import jwt_keys, tokens
from steersman_service.identity.identity import Identity, Role
from steersman_service.identity.jwt_keys import KeysAtUrl, KeysInFile, read_keys
from steersman_service.identity.options import JwtOptions
from steersman_service.identity.tokens import TokenVerifier
from tests.service.identity.credentials import AUDIENCE, ISSUER, Issuer, forged, jwks

OPTIONS = JwtOptions("", AUDIENCE, ISSUER)
ISSUERS = [Issuer("rsa"), Issuer("curve", curve=True)]
GOOD, CURVE = ISSUERS
OTHER = Issuer("rsa")
CLAIMS = {"sub": "ann", "aud": AUDIENCE, "iss": ISSUER, "exp": time.time() + 1000, "roles": "admin"}
HOUR = 3600.0


@pytest.fixture
def verifier(tmp_path: Path) -> TokenVerifier:
    (tmp_path / "keys").write_bytes(jwks(*ISSUERS))
    return TokenVerifier(KeysInFile(tmp_path / "keys"), OPTIONS)


@pytest.mark.parametrize(
    ("changes", "identity"),
    [
        ({}, Identity("ann", "acme", Role.STEER)),
        ({"tenant": None, "roles": "recommend admin other"}, Identity("ann", "", Role.ADMIN)),
        ({"roles": ["Admin", "root"]}, Identity("ann", "acme", Role.NONE)),
        ({"roles": None}, Identity("ann", "acme", Role.NONE)),
        ({"aud": ["elsewhere", AUDIENCE]}, Identity("ann", "acme", Role.STEER)),
        ({"exp": 10**400}, Identity("ann", "acme", Role.STEER)),
    ],
)
async def test_tokens_that_hold(verifier: TokenVerifier, changes: dict[str, Any], identity: Identity) -> None:
    for issuer in ISSUERS:
        assert await verifier.holder_of(issuer.token(**changes)) == identity
        assert await verifier.holder_of(issuer.token(**{"exp": time.time() - 5, **changes})) == identity, (
            "clocks differ"
        )


async def test_claims_have_the_names_that_the_settings_say(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(GOOD.pem)
    options = JwtOptions("", AUDIENCE, ISSUER, "https://example.org/tenant", "realm_access.roles")
    verifier = TokenVerifier(KeysInFile(tmp_path / "keys"), options)
    claims: dict[str, Any] = {"https://example.org/tenant": "shop", "realm_access": {"roles": ["recommend"]}}
    token = GOOD.token(**claims)
    assert await verifier.holder_of(token) == Identity("ann", "shop", Role.RECOMMEND)


def by_hmac(secret: bytes) -> str:
    signed = forged({"alg": "HS256", "kid": "rsa"}, CLAIMS).rpartition(".")[0]
    digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{urlsafe_b64encode(digest).decode().rstrip('=')}"


REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "empty": (lambda: "..", "neither"),
    "no JWT": (lambda: "abc", "neither"),
    "no JSON": (lambda: "e30.e30", "neither"),
    "deep": (lambda: f"{urlsafe_b64encode(b'[' * 5000).decode()}.e30.", "neither"),
    "alg none": (lambda: forged({"alg": "none"}, CLAIMS), "has signed"),
    "alg nOnE": (lambda: forged({"alg": "nOnE", "kid": "rsa"}, CLAIMS), "has signed"),
    "alg list": (lambda: forged({"alg": ["RS256"]}, CLAIMS), "header"),
    "no alg": (lambda: forged({"typ": "JWT"}, CLAIMS), "header"),
    "HS256 with the public key": (lambda: by_hmac(GOOD.pem), "has signed"),
    "HS256 with the JWK": (lambda: by_hmac(json.dumps(GOOD.jwk).encode()), "has signed"),
    "another algorithm's key": (lambda: GOOD.token({"kid": "curve"}), "has signed"),
    "unsigned RS256": (lambda: forged({"alg": "RS256", "kid": "rsa"}, CLAIMS), "has signed"),
    "another key of the same id": (lambda: OTHER.token(), "has signed"),
    "another key with its own": (lambda: OTHER.token({"jwk": OTHER.jwk}), "has signed"),
    "unknown id": (lambda: GOOD.token({"kid": "gone"}), "has signed"),
    "critical header": (lambda: GOOD.token({"crit": ["exp"]}), "header|neither"),
    "changed claims": (lambda: ".".join((GOOD.token().split(".")[0], *forged({}, CLAIMS).split(".")[1:2], "AAAA")), "signed"),
    "expired": (lambda: GOOD.token(exp=time.time() - HOUR), "expired"),
    "not yet": (lambda: GOOD.token(nbf=time.time() + HOUR), "not valid yet"),
    "of the future": (lambda: GOOD.token(iat=time.time() + HOUR), "not valid yet"),
    "endless": (lambda: GOOD.token(exp=None), "lacks the claim exp"),
    "infinite": (lambda: GOOD.token(exp=float("inf")), "cannot be read"),
    "expires as text": (lambda: GOOD.token(exp="soon"), "cannot be read"),
    "nobody's": (lambda: GOOD.token(sub=None), "lacks the claim sub"),
    "a number's": (lambda: GOOD.token(sub="\n"), "bytes that print"),
    "another audience": (lambda: GOOD.token(aud="elsewhere"), "another audience"),
    "no audience": (lambda: GOOD.token(aud=None), "lacks the claim aud"),
    "another issuer": (lambda: GOOD.token(iss="https://elsewhere"), "another issuer"),
    "no issuer": (lambda: GOOD.token(iss=None), "lacks the claim iss"),
    "a tenant that reaches out": (lambda: GOOD.token(tenant="a/b"), "its tenant"),
    "a tenant that is none": (lambda: GOOD.token(tenant=["a"]), "is no text"),
    "a tenant that is no text": (lambda: GOOD.token(tenant=0), "is no text"),
    "a role that is none": (lambda: GOOD.token(roles=[1]), "list of texts"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_tokens_that_do_not(verifier: TokenVerifier, name: str) -> None:
    make, why = REFUSED[name]
    with pytest.raises(TokenRefused, match=why):
        await verifier.holder_of(make())


async def test_a_token_is_verified_once_until_it_expires_or_the_keys_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, token, verified = tmp_path / "keys", GOOD.token(), list[str]()
    file.write_bytes(jwks(*ISSUERS))
    verifier, decode = TokenVerifier(KeysInFile(file), OPTIONS), jwt.decode

    def counted(*given: Any, **named: Any) -> Any:
        verified.append("")
        return decode(*given, **named)

    monkeypatch.setattr(jwt, "decode", counted)
    monkeypatch.setattr(tokens, "MOST_REMEMBERED", 2)
    for _ in range(3):
        await verifier.holder_of(token)
    assert len(verified) == 1
    for number in range(3):
        await verifier.holder_of(GOOD.token(sub=str(number)))
    assert len(verifier._remembered) == 2, "it is bounded"
    later = time.time() + 2 * HOUR
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "time", SimpleNamespace(time=lambda: later))  # the library has a clock of its own
        await verifier.holder_of(token)
    assert len(verified) == 5
    file.write_bytes(b"no keys")
    for _ in range(3):
        assert not await verifier.refresh()
    await verifier.holder_of(token)
    file.write_bytes(jwks(CURVE))
    assert not await verifier.refresh(), "it may still be written"
    assert await verifier.refresh()
    with pytest.raises(TokenRefused):
        await verifier.holder_of(token)


@contextmanager
def published(answers: list[bytes]) -> Iterator[str]:
    """Answers in turn, the last for good; an empty one is an error, one that begins with http another address, with raw no HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer.startswith(b"raw"):
                self.wfile.write(answer)
                return
            if answer.startswith(b"http"):
                self.send_response(302)
                self.send_header("location", answer.decode())
            else:
                self.send_response(200 if answer else 500)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/jwks"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_keys_at_a_url_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_keys, "AGAIN_SECONDS", 0.0)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # this machine is called without it
    monkeypatch.delenv("no_proxy")
    new = Issuer("new")
    with published([jwks(GOOD)]) as elsewhere:
        answers = [elsewhere.encode(), b"", b"raw", jwks(GOOD), jwks(new), b"", b"nonsense"]
        with published(answers) as url:
            verifier = TokenVerifier(KeysAtUrl(url), OPTIONS)
            for _ in range(3):  # led elsewhere, an error, and no HTTP
                with pytest.raises(KeysUnavailable):
                    await verifier.holder_of(GOOD.token())
            assert (await verifier.holder_of(GOOD.token())).name == "ann"
            assert not await verifier.refresh(), "they are fresh"
            # Signed with a key that is not known yet: the URL is asked again, and the old one counts no more.
            assert (await verifier.holder_of(new.token())).name == "ann"
            for _ in range(2):
                with pytest.raises(TokenRefused):
                    await verifier.holder_of(GOOD.token())
            assert (await verifier.holder_of(new.token(sub="bob"))).name == "bob", "what is broken keeps the old keys"
            asked = len(answers)
            monkeypatch.setattr(jwt_keys, "AGAIN_SECONDS", 1e9)
            with pytest.raises(TokenRefused):
                await verifier.holder_of(GOOD.token())
            assert len(answers) == asked, "tokens of strangers do not have it asked without end"


async def test_few_tokens_wait_for_a_url_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is of a call that no limit has counted yet."""
    monkeypatch.setattr(jwt_keys, "MOST_WAITING", 3)
    answering = threading.Event()

    def fetch(url: str) -> bytes:
        answering.wait(60)
        return jwks(GOOD)

    keys = KeysAtUrl("", fetch)
    asking = [asyncio.create_task(keys.refresh(unknown=True)) for _ in range(5)]
    refused, _ = await asyncio.wait(asking[3:])
    assert {type(each.exception()) for each in refused} == {KeysUnavailable}
    answering.set()
    assert await asyncio.gather(*asking[:3]) == [True, False, False]
    assert not await keys.refresh(unknown=True), "none waits any more"


def test_a_url_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_keys, "FETCH_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                for _ in range(200):
                    connection.sendall(b" ")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(TimeoutError):
            jwt_keys.fetched(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        thread.join()


UNKNOWN_CURVE = b"""-----BEGIN PUBLIC KEY-----
MDIwEAYHKoZIzj0CAQYFK4EEAAYDHgAERzSwdpBb4IcZUnlaCEUGXOTOdJatYCpg
dXHuyw==
-----END PUBLIC KEY-----"""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (UNKNOWN_CURVE, "block 1: Curve .* is not supported"),
        (b"", "neither PEM nor a JWKS"),
        (b"[]", "neither PEM nor a JWKS"),
        (b'{"keys": []}', "0 public keys"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "0 public keys"),
        (b'{"keys": [{"kty": "RSA", "d": "AAAA"}]}', "private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "private key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "block 1"),
        (jwks(GOOD).replace(b'"kid"', b'"alg": "RSA-OAEP", "kid"'), "0 public keys"),
        (jwks(GOOD).replace(b'"kid"', b'"use": "enc", "kid"'), "0 public keys"),
    ],
)
def test_files_that_hold_no_keys(data: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=why):
        read_keys(data)
    (tmp_path / "keys").write_bytes(data)
    with pytest.raises(StartupError, match=f"jwt_keys: .*{why}"):
        KeysInFile(tmp_path / "keys")
