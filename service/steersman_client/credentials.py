"""How a client is let in: TLS, its own certificate, a token; and what it means when it is not."""

import re
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc

TOKEN = re.compile(r"[!-~]+")
# What gRPC says where a server ends a connection at once.
CLOSED = ("Socket closed", "Connection reset", "Broken pipe", "Endpoint closing")
NOT_TRUSTED = "its certificate is signed by none of the authorities in tls_ca"

Options = Sequence[tuple[str, Any]]


class Access(NamedTuple):
    """What a client shows, and whom it trusts. Files are in PEM."""

    tls_ca: str | Path | None = None
    """The authorities that sign the server's certificate. None: no TLS."""
    tls_cert: str | Path | None = None
    """The client's own certificate, where the server wants one."""
    tls_key: str | Path | None = None
    token: str | None = None

    def __repr__(self) -> str:
        """Without the token."""
        return f"Access({self.tls_ca!r}, {self.tls_cert!r}, {self.tls_key!r})"

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None: without TLS. Raises ValueError, with the remedy, for what does not go together, OSError for files that cannot be read."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together: the client's certificate and its key")
        if self.tls_ca is None:
            if self.tls_cert is not None:
                raise ValueError("tls_cert: give tls_ca as well, the certificates that sign the server's")
            return None
        ca = Path(self.tls_ca).read_bytes()
        own = [Path(file).read_bytes() for file in (self.tls_key, self.tls_cert) if file is not None]
        self._check(ca)
        return grpc.ssl_channel_credentials(ca, *own)

    def check_token(self, target: str, *, local: bool) -> None:
        """`local`: calls stay on this machine. Raises ValueError for a token that cannot be sent, or would travel readable."""
        if self.token is None:
            return
        if not TOKEN.fullmatch(self.token):
            raise ValueError("token: is empty, or has characters that none has: blanks, or others than ASCII")
        if self.tls_ca is None and not local:
            raise ValueError(f"token: it would travel readable to {target}; give tls_ca as well")

    def _check(self, ca: bytes) -> None:
        """gRPC says nothing of what is wrong with files."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=ca.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError):
            raise ValueError(f"tls_ca: {self.tls_ca} holds no certificate in PEM") from None
        if self.tls_cert is not None:
            try:
                context.load_cert_chain(self.tls_cert, self.tls_key, password=_no_passphrase)
            except (ssl.SSLError, ValueError) as error:
                raise ValueError(f"tls_cert, tls_key: {_said(error)}") from None


def open_channel(target: str, access: Access, options: Options = ()) -> grpc.Channel:
    """Raises as `Access.credentials`."""
    credentials = access.credentials()
    channel = (
        grpc.insecure_channel(target, options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options)
    )
    return grpc.intercept_channel(channel, _Token(access.token)) if access.token is not None else channel


def open_aio_channel(target: str, access: Access, options: Options = ()) -> grpc.aio.Channel:
    """The same for asyncio."""
    credentials = access.credentials()
    interceptors = [_AioToken(access.token)] if access.token is not None else []
    if credentials is None:
        return grpc.aio.insecure_channel(target, options, interceptors=interceptors)
    return grpc.aio.secure_channel(target, credentials, options, interceptors=interceptors)


class _Token(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._metadata = bearer(token)

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=[*(details.metadata or ()), self._metadata]), request)


class _AioToken(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._metadata = bearer(token)

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._metadata)
        return await continuation(details._replace(metadata=metadata), request)


def bearer(token: str) -> tuple[str, str]:
    """Metadata of a call."""
    return "authorization", f"Bearer {token}"


def why_not_let_in(said: str, access: Access) -> str:
    """What gRPC's details of UNAVAILABLE mean, and the remedy, where TLS is the matter; else nothing."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        if "expired" in said or "not yet valid" in said:
            return "its certificate has expired, or is not valid yet"
        return NOT_TRUSTED
    if "Hostname Verification" in said or "not in peer certificate" in said:
        return "its certificate is of another name: call it by a name that the certificate has"
    if "WRONG_VERSION_NUMBER" in said:
        return "it speaks no TLS: leave tls_ca out"
    if "andshake failed" in said:
        return "TLS with it fails"
    if not any(sign in said for sign in CLOSED):
        return ""
    if access.tls_ca is None:
        return "it closes the connection at once: if it speaks TLS, give tls_ca"
    if access.tls_cert is None:
        return "it closes the connection at once: if it wants to see a certificate, give tls_cert and tls_key"
    return "it closes the connection at once: the certificate in tls_cert has expired, or is of an authority that it does not trust"


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase: openssl pkey -in KEY -out NEW writes it without")


def _said(error: Exception) -> str:
    if "KEY_VALUES_MISMATCH" in str(error):
        return "they do not belong together: this is not the certificate's key"
    return "not a certificate and its key in PEM" if isinstance(error, ssl.SSLError) else str(error)
