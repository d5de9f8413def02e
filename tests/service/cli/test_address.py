"""Addresses as people type them, and proxies that stand in the way."""

import pytest
from typer.testing import CliRunner

from steersman_service.cli.address import read_address
from steersman_service.cli.main import make_app
from tests.serving import Running

DEAD = "http://user:secret@127.0.0.1:9"


@pytest.mark.parametrize(
    ("typed", "target", "loopback"),
    [
        ("localhost", "localhost:50051", True),
        ("localhost:1", "localhost:1", True),
        ("127.0.0.2", "127.0.0.2:50051", True),
        ("[::1]", "[::1]:50051", True),
        ("[::1]:7", "[::1]:7", True),
        ("::1", "[::1]:50051", True),
        ("fe80::1%eth0.7", "[fe80::1%eth0.7]:50051", False),
        ("dns:///localhost", "dns:///localhost:50051", True),
        ("dns:localhost:7", "dns:localhost:7", True),
        ("ipv4:127.0.0.1:7", "ipv4:127.0.0.1:7", True),
        ("gpu1", "gpu1:50051", False),
        ("10.0.0.1:7", "10.0.0.1:7", False),
        ("unix:/tmp/socket", "unix:/tmp/socket", False),
    ],
)
def test_what_an_address_means(typed: str, target: str, loopback: bool) -> None:
    read = read_address(typed)
    assert (read.target, read.loopback) == (target, loopback)


@pytest.mark.parametrize(
    "typed",
    ["", ":50051", "50051", "localhost:", "localhost:x", "x:y:7", "dns:a:x", "::1 ", "localhost:99999", "http://a:1"],
)
def test_what_is_missing_is_said(typed: str) -> None:
    failed = CliRunner().invoke(make_app(), ["features", "--address", typed])
    assert failed.exit_code == 2
    assert failed.stderr.startswith("--address: ")
    assert "write " in failed.stderr


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_swallows_calls_to_this_machine(
    server: Running, monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, DEAD)
    done = CliRunner().invoke(make_app(), ["recommend", "--address", f"{host}:{server.ports.grpc}"])
    assert done.exit_code == 0, done.output


def test_a_proxy_that_stands_in_the_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", DEAD)
    failed = CliRunner().invoke(make_app(), ["features", "--address", "192.0.2.1:7"])
    assert failed.exit_code == 1
    assert "https_proxy (127.0.0.1:9)" in failed.stderr
    assert "no_proxy=192.0.2.1" in failed.stderr
    assert "secret" not in failed.output
