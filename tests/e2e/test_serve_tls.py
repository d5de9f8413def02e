"""Every door of `steersman serve` by TLS: gRPC, HTTP, metrics, the health check, a gateway beside it. And what it refuses to start with."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from steersman_client import CallError, Client, Scenario
from steersman_service.cli.main import make_app
from steersman_service.identity.api_keys import new_key
from tests.certificates import Authority, Issued
from tests.deploy.files import DEPLOY
from tests.e2e.processes import workers_of
from tests.e2e.test_serve_http import COMMAND, RECOMMEND, Served

NO_PROXY = urllib.request.ProxyHandler({})


class Secured(NamedTuple):
    """A server of which every door demands a certificate."""

    server: Served
    authority: Authority
    own: Issued
    client: Issued
    temporary: Path
    """Its TMPDIR."""
    key: str
    """An API key."""

    def ask(self, url: str, client: Issued | None, ca: Path | None = None) -> tuple[int, bytes]:
        """Status and body; 0 and what is wrong if there is no answer."""
        return ask(url, ca or self.authority.file, client, self.key)


def ask(url: str, ca: Path, client: Issued | None, key: str = "") -> tuple[int, bytes]:
    context = ssl.create_default_context(cafile=str(ca))
    if client:
        context.load_cert_chain(*client)
    opener = urllib.request.build_opener(NO_PROXY, urllib.request.HTTPSHandler(context=context))
    try:
        body, headers = (b'{"k": 3}' if RECOMMEND in url else None), {"content-type": "application/json"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        with opener.open(urllib.request.Request(url, body, headers), timeout=60) as got:
            return got.status, got.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:  # URLError is one
        return 0, str(error).encode()


@pytest.fixture(scope="module")
def secured(current: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Two front ends, an engine host, a gateway, in a folder whose name has to be escaped."""
    folder, temporary = tmp_path_factory.mktemp("tls"), tmp_path_factory.mktemp("a b%20c")
    authority = Authority(folder)
    own, client = authority.issue("server"), authority.issue("client", ("steersman:///shop?role=recommend",))
    files = ["--tls-cert", str(own.cert), "--tls-key", str(own.key), "--tls-ca", str(authority.file)]
    key, line = new_key("admin")
    (folder / "keys").write_text(line)
    files += ["--api-keys", str(folder / "keys"), "--certificate-identity", "on"]
    data = ["--bundle", str(current), "--data", str(tmp_path_factory.mktemp("data")), "--log-format", "json"]
    command = [*COMMAND, "--http", "on", *data, *files, "--workers", "2", "--engines", "1"]
    # The socket of the embedded store has a name of 107 bytes at most, and that is in TMPDIR, too.
    environment = os.environ | {"TMPDIR": str(temporary), "STEERSMAN_TOKEN": "a client's"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        server = Served(process)
        try:
            yield Secured(server, authority, own, client, temporary, key)
        finally:
            server.end()
    assert "Traceback" not in "".join(server.rest)


def test_every_door_lets_in_who_shows_a_certificate_and_nobody_else(secured: Secured) -> None:
    server = secured.server
    assert server.http.startswith("https://127.0.0.1:")
    stranger = Authority(secured.own.cert.parent, "other").issue("stranger")
    for url in (f"{server.http}{RECOMMEND}", f"{server.http}/console/", f"https://{server.metrics}/metrics"):
        assert secured.ask(url, secured.client)[0] == 200, url
        for shown in (None, stranger, secured.authority.issue("expired", days=-1)):
            assert secured.ask(url, shown)[0] == 0
        assert secured.ask(url.replace("https:", "http:"), secured.client)[0] in (0, 400)
        assert secured.ask(url.replace("127.0.0.1", "localhost"), secured.client)[0] == 0
    # What the gateway says of the traffic comes from the metrics of all processes.
    assert json.loads(secured.ask(f"{server.http}/metrics.json", secured.client)[1])["calls"]
    # Over HTTP a certificate opens the door, and a token says who calls: the gateway's way to the front ends makes nobody known.
    assert ask(f"{server.http}{RECOMMEND}", secured.authority.file, secured.client)[0] == 401
    with Client(
        server.grpc, tls_ca=secured.authority.file, tls_cert=secured.client.cert, tls_key=secured.client.key, timeout=60
    ) as client:
        assert client.recommend().item_ids
        with pytest.raises(CallError, match="PERMISSION_DENIED"):
            client.put_scenario(Scenario("home"))


def test_the_gateway_finds_front_ends_that_were_replaced_or_died(secured: Secured) -> None:
    url, server = f"{secured.server.http}{RECOMMEND}", secured.server
    old = workers_of(server.process.pid)
    server.process.send_signal(signal.SIGHUP)
    _until(lambda: not {*old} & {*workers_of(server.process.pid)})
    assert [secured.ask(url, secured.client)[0] for _ in range(4)] == [200] * 4
    assert secured.ask(f"{secured.server.http}/livez", secured.client) == (200, b'{"status":"SERVING"}')
    os.kill(workers_of(server.process.pid)[0], signal.SIGKILL)
    _until(lambda: [secured.ask(url, secured.client)[0] for _ in range(2)] == [200] * 2)


def test_the_health_check_needs_no_certificate(secured: Secured) -> None:
    inside = os.environ | {"TMPDIR": str(secured.temporary), "STEERSMAN_TLS_CERT": str(secured.own.cert)}
    stale = secured.temporary / "steersman-gone"
    stale.mkdir(exist_ok=True)
    (stale / "front-end-0").touch()
    for service in ("", "steersman.v1.RecommendationService"):
        assert _healthcheck(inside, service) == (0, "")
    assert _healthcheck(inside, "steersman.v1.NoService")[0] == 1
    address = ["--address", secured.server.grpc]
    files = ["--tls-ca", str(secured.authority.file)]
    code, said = _healthcheck(dict(os.environ), *address, *files)
    assert (code, "give --tls-cert" in said) == (1, True)
    own = ["--tls-cert", str(secured.client.cert), "--tls-key", str(secured.client.key)]
    assert _healthcheck(dict(os.environ), *address, *files, *own) == (0, "")


def test_a_gateway_elsewhere_goes_both_ways_by_tls(secured: Secured) -> None:
    edge = secured.authority.issue("edge")
    files = ["--tls-ca", secured.authority.file, "--tls-cert", secured.client.cert, "--tls-key", secured.client.key]
    https = ["--http-tls-cert", edge.cert, "--http-tls-key", edge.key]
    metrics = ["--metrics", f"https://{secured.server.metrics}/metrics"]
    with gateway("--target", secured.server.grpc, *metrics, *map(str, [*files, *https])) as url:
        assert url.startswith("https://")
        assert ask(f"{url}{RECOMMEND}", secured.authority.file, None, secured.key)[0] == 200
        assert ask(f"{url}/metrics.json", secured.authority.file, None, secured.key)[0] == 200
        # Its own certificate is not its callers'.
        assert ask(f"{url}{RECOMMEND}", secured.authority.file, None)[0] == 401
    with gateway("--target", secured.server.grpc) as url:
        status, told = ask(f"{url}{RECOMMEND}", secured.authority.file, None)
        assert (status, json.loads(told)["code"]) == (503, "unavailable")


def test_commands_and_the_load_test_show_a_certificate_and_a_token(secured: Secured, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{secured.key}\n")
    shown = ["--tls-ca", secured.authority.file, "--tls-cert", secured.client.cert, "--tls-key", secured.client.key]
    flags = ["--address", secured.server.grpc, *map(str, shown)]
    by_file, by_variable = ["--token-file", str(tmp_path / "token")], {"STEERSMAN_TOKEN": secured.key}
    label = ["label", "f0", "by an administrator", *flags]
    # The certificate alone may not.
    refused = CliRunner().invoke(make_app(), label)
    assert (refused.exit_code, "PERMISSION_DENIED" in refused.stderr) == (1, True)
    for arguments, environment in ((by_file, {}), ([], by_variable)):
        done = CliRunner().invoke(make_app(), [*label, *arguments], env=environment)
        assert done.exit_code == 0, done.output
    load = ["loadtest", "--rate", "10", "--seconds", "1", "--json", *flags]
    done = CliRunner().invoke(make_app(), [*load, *by_file])
    assert done.exit_code == 0, done.output
    away = CliRunner().invoke(make_app(), [*load[:-4], "--timeout", "5"])
    assert (away.exit_code, "give --tls-cert and --tls-key" in away.stderr) == (1, True), away.output


def test_http_takes_new_files_and_forgets_the_old_authority(secured: Secured) -> None:
    """The last test of this server: nothing is as it was."""
    url = f"{secured.server.http}/healthz"
    other = Authority(secured.own.cert.parent, "new")
    newcomer = other.issue("newcomer")
    secured.authority.file.write_bytes(other.file.read_bytes())
    other.issue("server")
    _until(lambda: secured.ask(url, newcomer, other.file)[0] == 200)
    assert secured.ask(url, secured.client, other.file)[0] == 0
    _until(lambda: secured.ask(f"https://{secured.server.metrics}/metrics", newcomer, other.file)[0] == 200)
    assert secured.ask(f"https://{secured.server.metrics}/metrics", secured.client, other.file)[0] == 0


def _until(true: Callable[[], bool]) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it does not become true")


def _healthcheck(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(DEPLOY / "healthcheck.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip()


@contextmanager
def gateway(*flags: str) -> Iterator[str]:
    command = [sys.executable, "-m", "steersman_service", "gateway", "--port", "0", *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as run:
        assert run.stdout
        try:
            yield run.stdout.readline().split()[0]
        finally:
            run.terminate()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--host", "0.0.0.0"], r"host: other machines reach 0\.0\.0\.0, without TLS .* callers: give tls_cert and tls_key, and tls_ca"),
        (["--host", "[::]", "{tls}"], r"host: other machines reach \[::\], without a way to know callers: give tls_ca"),
        (["--host", "0.0.0.0", "{tls}", "{ca}", "--tls-client-certs", "http"], "tls_ca with grpc in tls_client_certs"),
        (["--http", "on", "--http-host", "0.0.0.0", "{tls}", "{ca}", "--tls-client-certs", "grpc"], "http_host: .* http in tls_c"),
        (["--host", "0.0.0.0", "{tls}", "--api-keys", "/dev/null", "--anonymous-role", "admin"], "without a way to know callers"),
        (["--certificate-identity", "on", "{tls}"], "certificate_identity: needs tls_ca"),
        (["--metrics-host", "0.0.0.0"], r"metrics_host: .* without TLS: .*STEERSMAN_INSECURE=metrics"),
        (["--tls-cert", "x"], "tls_cert: needs tls_key, too"),
        (["--tls-ca", "x"], "tls_ca: needs tls_cert, too"),
        (["{tls}", "--tls-client-certs", "grpc,ftp"], "'ftp' is none of grpc, http, metrics"),
        (["--tls-cert", "nowhere.pem", "--tls-key", "x"], "tls_cert: nowhere.pem: No such file"),
        # These get as far as the bundle, whose source is none.
        (["--metrics-host", "0.0.0.0", "--insecure", "metrics"], "is no source of bundles"),
        (["--metrics-host", "0.0.0.0", "{tls}"], "is no source of bundles"),
        (["--host", "0.0.0.0", "--insecure", "on"], r"(?s)insecure .*without TLS.*is no source of bundles"),
        (["--host", "0.0.0.0", "{tls}", "{ca}"], "is no source of bundles"),
        (["--host", "0.0.0.0", "{tls}", "--api-keys", "/dev/null"], "is no source of bundles"),
        (["--host", "127.0.0.2"], "is no source of bundles"),
    ],
)  # fmt: skip
def test_it_does_not_listen_to_the_world_unless_it_is_told_to(flags: list[str], said: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("server")
    filled = {"{tls}": ["--tls-cert", own.cert, "--tls-key", own.key], "{ca}": ["--tls-ca", authority.file]}
    given = [str(text) for flag in flags for text in filled.get(flag, [flag])]
    ports = ["--port", "0", "--http-port", "0", "--metrics-port", "0", "--redis-url", "redis://127.0.0.1:1"]
    done = CliRunner().invoke(make_app(), ["serve", "--bundle", "s3://", *ports, *given])
    assert done.exit_code == 1
    assert re.search(said, done.stderr), done.stderr
