"""The command `releases`, against a server of this process, which serves one bundle. tests/e2e/test_serve_swaps.py changes bundles."""

import json
from typing import Any

import pytest

from steersman.v1 import release_service_pb2 as pb
from steersman_service.api.releases import OneRelease
from tests.service.cli.test_cli import steersman
from tests.serving import Running


@pytest.fixture
def address(server: Running) -> tuple[str, str]:
    return "--address", f"127.0.0.1:{server.ports.grpc}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a server is asked that has a canary, and refused another one."""
    asked: list[Any] = []
    told = [
        pb.Release(version="a" * 64, channel=pb.CHANNEL_STABLE, state=pb.RELEASE_STATE_SERVING, share=0.95),
        pb.Release(version="b" * 64, channel=pb.CHANNEL_CANARY, state=pb.RELEASE_STATE_SERVING, share=0.05),
        pb.Release(name="c", channel=pb.CHANNEL_STABLE, state=pb.RELEASE_STATE_REFUSED, problem="golden.npz: [x]"),
    ]

    async def ask(control: OneRelease, request: Any) -> list[pb.Release]:
        asked.append(request)
        return told

    monkeypatch.setattr(OneRelease, "ask", ask)
    return asked


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (["list"], pb.ListReleasesRequest()),
        (["load", "v"], pb.LoadReleaseRequest(bundle="v", channel=pb.CHANNEL_STABLE)),
        (
            ["canary", "v", "--share", "0.25"],
            pb.LoadReleaseRequest(bundle="v", channel=pb.CHANNEL_CANARY, canary_share=0.25),
        ),
        (["canary", "--share", "0"], pb.SetCanaryShareRequest()),
        (["promote"], pb.PromoteCanaryRequest()),
        (["promote", "v"], pb.PromoteCanaryRequest(version="v")),
        (["rollback"], pb.RollBackRequest()),
    ],
)
def test_what_is_asked_and_told(words: list[str], request_: Any, address: tuple[str, str], asked: list[Any]) -> None:
    done = steersman("releases", *words, *address)
    assert (done.exit_code, asked) == (0, [request_]), done.output
    assert [line.replace("│", " ").split()[:4] for line in done.stdout.splitlines() if "serving" in line] == [
        ["a" * 12, "stable", "serving", "95.0%"],
        ["b" * 12, "canary", "serving", "5.0%"],
    ]
    assert "c: golden.npz: [x]" in done.stderr


def test_one_bundle_that_stays(address: tuple[str, str], server: Running) -> None:
    (release,) = json.loads(steersman("releases", "list", "--json", *address).stdout)["releases"]
    assert (release["state"], release["share"]) == ("RELEASE_STATE_SERVING", 1.0)
    done = steersman("releases", "load", release["version"], *address)
    assert (done.exit_code, "FAILED_PRECONDITION" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["load"], "the version of a bundle"),
        (["canary", "v"], "--share is missing"),
        (["load", "v", "--share", "0.5"], "--share goes only with canary"),
        (["rollback", "v"], "takes no bundle"),
        (["list", "v"], "takes no bundle"),
    ],
)
def test_what_is_missing_is_said_before_a_server_is_asked(words: list[str], said: str) -> None:
    done = steersman("releases", *words, "--address", "127.0.0.1:1")
    assert (done.exit_code, said in done.stderr) == (2, True)


@pytest.mark.parametrize("share", ["-0.1", "1.5", "nan"])
def test_a_share_that_is_none_is_refused_by_its_field(share: str, address: tuple[str, str]) -> None:
    done = steersman("releases", "canary", "v", f"--share={share}", *address)
    assert (done.exit_code, "canary_share" in done.stderr) == (1, True)
