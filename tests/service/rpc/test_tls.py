"""The gRPC port by TLS, tried from outside with and without what it asks for."""

import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner, Result

from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman_client import CallError, Client
from steersman_client.credentials import Access, open_channel
from steersman_service import certificates
from steersman_service.cli.main import make_app
from tests.certificates import Authority, Issued
from tests.serving import Running, serving, settings_for

POLL_SECONDS = 0.02


class Doors:
    """A server that demands certificates, its authority, and another one."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.other = Authority(folder), Authority(folder, "other")
        self.server = self.authority.issue("server")
        self.client = self.authority.issue("client", ("client.test",))
        self.expired = self.authority.issue("expired", ("client.test",), days=-1)
        self.stranger = self.other.issue("stranger", ("client.test",))
        self.access = self.shown(self.client)
        self.address = ""
        self.metrics = ""

    def shown(self, client: Issued, ca: Path | None = None) -> Access:
        return Access(ca or self.authority.file, *client)

    def flags(self, access: Access) -> list[str]:
        named = [("--tls-ca", access.tls_ca), ("--tls-cert", access.tls_cert), ("--tls-key", access.tls_key)]
        return [text for flag, file in named if file for text in (flag, str(file))]

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as response:
            (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", response.read().decode(), re.MULTILINE)
        return float(value)


@pytest.fixture(scope="module")
def doors(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    made = Doors(tmp_path_factory.mktemp("tls"))
    tls = {"tls_cert": made.server.cert, "tls_key": made.server.key, "tls_ca": made.authority.file}
    settings = settings_for(tmp_path_factory.mktemp("server"), bundle_dir, **tls)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "POLL_SECONDS", POLL_SECONDS)
        with serving(settings, lambda target: open_channel(target, made.access)) as running:
            made.address = f"127.0.0.1:{running.ports.grpc}"
            made.metrics = f"127.0.0.1:{running.ports.metrics}"
            yield made


def asked(address: str, *flags: str, **environment: str) -> Result:
    arguments = ["features", "--limit", "1", "--address", address, *flags]
    return CliRunner().invoke(make_app(), arguments, env={"COLUMNS": "400", **environment})


@pytest.mark.parametrize(
    ("access", "said"),
    [
        (lambda doors: doors.access, ""),
        (lambda doors: Access(), "if it speaks TLS, give --tls-ca"),
        (lambda doors: Access(doors.authority.file), "if it wants to see a certificate, give --tls-cert and --tls-key"),
        (lambda doors: doors.shown(doors.expired), "has expired, or is of an authority that it does not trust"),
        (lambda doors: doors.shown(doors.stranger), "has expired, or is of an authority that it does not trust"),
        (lambda doors: doors.shown(doors.client, doors.other.file), "signed by none of the authorities in --tls-ca"),
    ],
)
def test_only_a_client_with_a_certificate_of_the_right_authority_is_let_in(
    doors: Doors, access: Callable[[Doors], Access], said: str
) -> None:
    shown = access(doors)
    done = asked(doors.address, *doors.flags(shown))
    assert done.exit_code == (1 if said else 0), done.output
    assert said in done.stderr
    assert not said or done.stderr.count("\n") == 1
    with Client(doors.address, **shown._asdict(), timeout=60) as client:
        if not said:
            assert client.recommend().item_ids
        else:
            with pytest.raises(CallError, match=re.escape(said.replace("--tls-", "tls_"))):
                client.recommend()


def test_a_server_of_another_name_or_without_tls_is_told_apart(doors: Doors, server: Running) -> None:
    flags = doors.flags(doors.access)
    port = doors.address.rpartition(":")[2]
    assert "its certificate is of another name" in asked(f"localhost:{port}", *flags).stderr
    assert "it speaks no TLS: leave --tls-ca out" in asked(f"127.0.0.1:{server.ports.grpc}", *flags).stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tls-cert", "{client.cert}", "--tls-key", "{client.key}"], "--tls-cert: give --tls-ca as well"),
        (["--tls-ca", "{ca}", "--tls-key", "{client.key}"], "--tls-cert and --tls-key go together"),
        (["--tls-ca", "{client.key}"], "holds no certificate in PEM"),
        (["--tls-ca", "{ca}.nowhere"], "ca.pem.nowhere: No such file"),
        (["--tls-ca", "{ca}", "--tls-cert", "{client.cert}", "--tls-key", "{expired.key}"], "do not belong together"),
        (["--token-file", "{ca}"], "--token-file: is empty, or has characters that none has"),
    ],
)
def test_flags_that_cannot_be_right_are_refused_before_a_call(doors: Doors, flags: list[str], said: str) -> None:
    filled = [flag.format(ca=doors.authority.file, client=doors.client, expired=doors.expired) for flag in flags]
    done = asked(doors.address, *filled)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_a_token_does_not_travel_readable_to_another_machine() -> None:
    done = asked("192.0.2.1:7", STEERSMAN_TOKEN="t0p-s3cret")
    assert done.exit_code == 2
    assert "it would travel readable to 192.0.2.1:7; give --tls-ca as well" in done.stderr
    assert "s3cret" not in done.output


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("most", "agreed"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)])
def test_tls_1_2_is_the_least_and_http_2_is_agreed_on(doors: Doors, most: ssl.TLSVersion, agreed: bool) -> None:
    context = ssl.create_default_context(cafile=str(doors.authority.file))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["http/1.1", "h2"])
    context.load_cert_chain(*doors.client)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, most
    host, _, port = doors.address.rpartition(":")
    with socket.create_connection((host, int(port))) as plain:
        if not agreed:
            with pytest.raises(OSError):
                context.wrap_socket(plain, server_hostname=host)
            return
        with context.wrap_socket(plain, server_hostname=host) as secured:
            assert secured.selected_alpn_protocol() == "h2"


def test_files_change_while_calls_go_on(doors: Doors) -> None:
    ended, failed, answered = threading.Event(), list[str](), [0]

    def call() -> None:
        with open_channel(doors.address, doors.access) as channel:
            stub = RecommendationServiceStub(channel)
            while not ended.is_set():
                try:
                    stub.Recommend(RecommendRequest(), timeout=60)
                except grpc.RpcError as error:
                    failed.append(str(error))
                answered[0] += 1

    calling = threading.Thread(target=call)
    calling.start()
    try:
        first = doors.metric("steersman_certificate_expiry_timestamp_seconds")
        # Broken files: the old ones stay.
        old = doors.server.cert.read_bytes()
        doors.server.cert.write_bytes(old[:100])
        _until(lambda: doors.metric('steersman_certificate_reads_total{result="refused"}') == 1)
        assert asked(doors.address, *doors.flags(doors.access)).exit_code == 0
        # Another authority's, for the server and for clients: who trusts the old one is turned away from now on.
        doors.authority.file.write_bytes(doors.other.file.read_bytes())
        doors.other.issue("server", days=5)
        _until(lambda: doors.metric('steersman_certificate_reads_total{result="taken"}') == 1)
        assert doors.metric("steersman_certificate_expiry_timestamp_seconds") < first
        assert asked(doors.address, *doors.flags(doors.shown(doors.stranger))).exit_code == 0
        assert "does not trust" in asked(doors.address, *doors.flags(doors.shown(doors.client))).stderr
        # An expired one, which is what comes of clocks and forgotten renewals.
        doors.other.issue("server", days=-1)
        _until(lambda: doors.metric('steersman_certificate_reads_total{result="taken"}') == 2)
        assert "its certificate has expired" in asked(doors.address, *doors.flags(doors.shown(doors.stranger))).stderr
        before = answered[0]
        _until(lambda: answered[0] > before + 1)
    finally:
        ended.set()
        calling.join()
    assert failed == []


def _until(true: Callable[[], bool]) -> None:
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it does not become true")
