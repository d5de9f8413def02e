"""Certificates for tests."""

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NAMES = ("steersman.test", "127.0.0.1")


class Issued(NamedTuple):
    """A certificate and its key, in PEM."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates, and writes them into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.file = folder / f"{name}.pem"
        built = _built(self._name, self._name, self._key, 30).add_extension(x509.BasicConstraints(True, None), True)
        self.file.write_bytes(built.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def issue(self, stem: str, names: tuple[str, ...] = NAMES, days: float = 20) -> Issued:
        """Files STEM.pem and STEM.key, replaced if they are there. `days`: until it expires; negative, since it has."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _built(_name(stem), self._name, key, days)
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        certificate = builder.add_extension(alternatives, False).sign(self._key, SHA256())
        issued = Issued(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        issued.key.touch(0o600)
        issued.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        issued.cert.write_bytes(certificate.public_bytes(Encoding.PEM))
        return issued


def _built(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(now - datetime.timedelta(40)).not_valid_after(now + datetime.timedelta(days))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
