"""Files of a certificate: what is wrong with them is said, and new ones are taken only if they are whole."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from steersman_service import certificates
from steersman_service.certificates import Certificates, TlsFiles, load
from steersman_service.errors import StartupError
from tests.certificates import Authority

Spoil = Callable[[TlsFiles], object]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    return TlsFiles(*authority.issue("server"), authority.file)


def openssl(command: str) -> None:
    subprocess.run(["openssl", *command.split()], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda files: files.cert.unlink(), r"tls_cert: .*server\.pem: No such file"),
        (lambda files: files.cert.write_bytes(b""), r"tls_cert: .* holds no certificate in PEM"),
        (lambda files: files.cert.write_bytes(files.cert.read_bytes()[:200]), r"tls_cert: .* holds no certificate"),
        (lambda files: files.key.write_bytes(b"\0" * 1000), r"tls_key: .* holds no private key in PEM"),
        (lambda files: openssl(f"ec -in {files.key} -out {files.key} -aes128 -passout pass:x"), "has a passphrase.*openssl"),
        (lambda files: openssl(f"genpkey -algorithm ed25519 -out {files.key}"), "neither RSA nor ECDSA"),
        (lambda files: openssl(f"ecparam -name secp112r1 -genkey -noout -out {files.key}"), "kind that is not known.*P-256"),
        (lambda files: files.key.write_bytes(_another_key(files)), r"tls_key: .* is not the key of .*server\.pem"),
        (lambda files: files.ca and files.ca.write_text("-----BEGIN"), r"tls_ca: .* holds no certificate"),
        (lambda files: files.ca and (files.ca.unlink(), files.ca.mkdir()), r"tls_ca: .*: Is a directory"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_setting_and_the_remedy(files: TlsFiles, spoil: Spoil, said: str) -> None:
    spoil(files)
    with pytest.raises(StartupError, match=f"settings: .*{said}"):
        load(files)


def _another_key(files: TlsFiles) -> bytes:
    return Authority(files.key.parent, "other").issue("another").key.read_bytes()


def test_new_files_are_taken_once_they_stand_still_and_broken_ones_are_not(
    authority: Authority, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    held = Certificates(files, counted.append)
    first = held.current
    held.poll()
    assert held.current is first
    # The certificate alone is not read, nor the key with it until both have stood for a while.
    old_key = files.key.read_bytes()
    authority.issue("server", days=5)
    new_key = files.key.read_bytes()
    files.key.write_bytes(old_key)
    held.poll()
    files.key.write_bytes(new_key)
    held.poll()
    assert (held.current, counted) == (first, [])
    held.poll()
    assert held.current.expires < first.expires
    assert counted == ["taken"]
    # Broken files are counted once, and again after a while.
    second = held.current
    files.cert.write_bytes(b"nonsense")
    for _ in range(5):
        held.poll()
    assert (held.current, counted) == (second, ["taken", "refused"])
    monkeypatch.setattr(certificates, "AGAIN_SECONDS", 0.0)
    held.poll()
    files.cert.unlink()
    held.poll()
    held.poll()
    assert (held.current, counted) == (second, ["taken", "refused", "refused", "refused"])
    # A swapped link, as Kubernetes does it.
    folder = files.cert.parent
    moved = authority.issue("renewed")
    os.symlink(moved.cert, folder / "link")
    os.replace(folder / "link", files.cert)
    files.key.write_bytes(moved.key.read_bytes())
    held.poll()
    held.poll()
    assert held.current.chain == moved.cert.read_bytes()


def test_a_key_for_all_to_read_and_an_expired_certificate_are_warned_of(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    structlog.reset_defaults()
    monkeypatch.setattr(certificates, "log", structlog.get_logger())
    server = authority.issue("server", days=-1)
    server.key.chmod(0o644)
    with structlog.testing.capture_logs() as logged:
        Certificates(TlsFiles(*server), lambda result: None).warn()
    assert [line["event"] for line in logged] == [
        "every user of this machine may read the private key",
        "the certificate has expired, and clients refuse it",
    ]


async def test_nothing_ends_the_watch(files: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    polled, again = list[Certificates](), asyncio.Event()

    def poll(watched: Certificates) -> None:
        polled.append(watched)
        if len(polled) == 1:
            raise RuntimeError
        again.set()

    class Observer:
        def certificate_read(self, result: str) -> None: ...

        def watch_certificate(self, expires: Callable[[], float]) -> None: ...

    monkeypatch.setattr(certificates, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(Certificates, "poll", poll)
    async with asyncio.timeout(30), certificates.watched(files, Observer()):
        await again.wait()
