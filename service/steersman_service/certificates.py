"""The server's certificate, its key, and the authorities of its clients: files that may be replaced while it runs."""

import asyncio
import datetime
import ssl
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

import structlog

from steersman_service.errors import StartupError

# Between looks at the files. A change is read once it has stood for one: certificate and key are seldom replaced in the same moment.
POLL_SECONDS = 1.0
# Until files that were refused are read, logged and counted again.
AGAIN_SECONDS = 60.0

# Of reading files that have changed.
RESULTS = ("taken", "refused")

Signature = tuple[tuple[int, int, int] | None, ...]
log = structlog.get_logger()


class TlsFiles(NamedTuple):
    """All in PEM."""

    cert: Path
    """The server's certificate first, then those between it and its authority."""
    key: Path
    """Its private key, without a passphrase."""
    ca: Path | None = None
    """Authorities that sign the certificates of clients."""
    prefix: str = "settings: tls_"
    """Before "cert", "key" and "ca" in errors: the names of the settings, or of the flags."""


class Loaded(NamedTuple):
    """What the files held."""

    chain: bytes
    key: bytes
    authorities: bytes | None
    expires: float
    """Unix time at which the first certificate of the chain expires."""
    contexts: tuple[ssl.SSLContext, ssl.SSLContext | None]
    """Without and with a demand for the client's certificate."""


class Observer(Protocol):
    """Is told what becomes of the files."""

    def certificate_read(self, result: str) -> None: ...

    def watch_certificate(self, expires: Callable[[], float]) -> None: ...


class Certificates:
    """Files as they were last good, for gRPC as bytes and for HTTP as a context."""

    def __init__(self, files: TlsFiles, count: Callable[[str], None]) -> None:
        """`count` is told one of RESULTS whenever changed files are read. Raises StartupError."""
        self._files = files
        self._count = count
        self._seen = self._pending = self._signature()
        self._refused_at: float | None = None
        self.current = load(files)

    def warn(self) -> None:
        """Logs what is wrong with the files, though they are taken."""
        if stat.S_IMODE(self._files.key.stat().st_mode) & stat.S_IROTH:
            log.warning(
                "every user of this machine may read the private key", file=str(self._files.key), remedy="chmod o-r"
            )
        if self.current.expires < time.time():
            log.error(
                "the certificate has expired, and clients refuse it",
                file=str(self._files.cert),
                expired=_date(self.current.expires),
            )

    def context(self, *, demanding: bool) -> ssl.SSLContext:
        """For servers of HTTP/1.1. Each new connection has the files as they are then. `demanding`: a client has to show a certificate.

        Raises StartupError if it would have nothing to check that with."""
        found = self.current.contexts[demanding]
        if found is None:
            raise StartupError(f"{self._files.prefix}ca: is missing: the authorities of clients' certificates")
        own = _context(self._files, self.current.authorities if demanding else None)

        def renewed(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
            connection.context = self.current.contexts[demanding] or context

        own.sni_callback = renewed
        return own

    def poll(self) -> None:
        """Reads files that have changed and stand still. What is broken is logged and counted; the last good ones stay."""
        found = self._signature()
        before, self._pending = self._pending, found
        again = self._refused_at is not None and time.monotonic() - self._refused_at >= AGAIN_SECONDS
        if found != before or (found == self._seen and not again):
            return
        self._seen = found
        try:
            loaded = load(self._files)
        except StartupError as error:
            self._refused_at = time.monotonic()
            log.error("the new certificate is refused, the old one stays", error=str(error))
            self._count("refused")
            return
        self.current, self._refused_at = loaded, None
        log.info("certificate read again", file=str(self._files.cert), expires=_date(loaded.expires))
        self._count("taken")

    def _signature(self) -> Signature:
        return tuple(_signature(file) for file in self._files[:3] if isinstance(file, Path))


@asynccontextmanager
async def watched(files: TlsFiles | None, observer: Observer) -> AsyncIterator[Certificates | None]:
    """Certificates that are read again when their files change; None if there are none. Raises StartupError."""
    if files is None:
        yield None
        return
    certificates = Certificates(files, observer.certificate_read)
    observer.watch_certificate(lambda: certificates.current.expires)

    async def watch() -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                certificates.poll()
            except Exception:
                log.exception("certificates not read again; the old ones stay")

    watching = asyncio.create_task(watch())
    try:
        yield certificates
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def load(files: TlsFiles) -> Loaded:
    """Raises StartupError, with the name of the setting and the remedy."""
    # Imported here: a server without TLS does without.
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    chain, key = _read(files, "cert", files.cert), _read(files, "key", files.key)
    authorities = None if files.ca is None else _read(files, "ca", files.ca)
    for name, data in (("cert", chain), ("ca", authorities)):
        if data is not None:
            try:
                certificates = x509.load_pem_x509_certificates(data)
            except ValueError:
                _refuse(files, name, "holds no certificate in PEM: BEGIN CERTIFICATE")
            if name == "cert":
                ordered = certificates
    try:
        _check_key(files, key, ordered[0])
    except UnsupportedAlgorithm as error:
        _refuse(files, "key", f"or its certificate is of a kind that is not known here: make one with P-256 ({error})")
    expires = min(each.not_valid_after_utc.timestamp() for each in ordered)
    demanding = None if authorities is None else _context(files, authorities)
    return Loaded(chain, key, authorities, expires, (_context(files, None), demanding))


def _check_key(files: TlsFiles, data: bytes, certificate: object) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    assert isinstance(certificate, x509.Certificate)
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        _refuse(
            files, "key", "has a passphrase, which no server can type: openssl pkey -in KEY -out NEW writes it without"
        )
    except ValueError:
        _refuse(files, "key", "holds no private key in PEM: BEGIN PRIVATE KEY")
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        _refuse(files, "key", "is neither RSA nor ECDSA, and gRPC takes no other: make one with P-256")
    if key.public_key() != certificate.public_key():
        _refuse(
            files, "key", f"is not the key of the first certificate in {files.cert}: give those that belong together"
        )


def _context(files: TlsFiles, authorities: bytes | None) -> ssl.SSLContext:
    """Raises StartupError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.cert, files.key, password=lambda: "")
        if authorities is not None:
            # A session that is resumed is not checked again, not even after its authority was taken out of the file: there are none.
            # Before TLS 1.3 that cannot be switched off.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        _refuse(files, "cert", f"is not taken: {error}")
    return context


def _read(files: TlsFiles, name: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartupError(f"{files.prefix}{name}: {file}: {error.strerror}") from None


def _refuse(files: TlsFiles, name: str, why: str) -> NoReturn:
    raise StartupError(f"{files.prefix}{name}: {getattr(files, name)} {why}") from None


def _signature(file: Path) -> tuple[int, int, int] | None:
    """It changes with the file. None: it cannot be read."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()
