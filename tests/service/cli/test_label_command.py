"""The command `label`, against a real server."""

import pytest

from steersman.v1.feature_service_pb2 import GetFeatureRequest
from tests.service.cli.test_cli import steersman
from tests.serving import Running


@pytest.fixture
def address(server: Running) -> tuple[str, str]:
    return "--address", f"127.0.0.1:{server.ports.grpc}"


def test_a_label_is_corrected_and_becomes_automatic_again(server: Running, address: tuple[str, str]) -> None:
    automatic = server.feature.GetFeature(GetFeatureRequest(id=5)).feature.label
    done = steersman("label", "f5", "[bold] crime", "--author", "ada", *address)
    assert (done.exit_code, "f5 is '[bold] crime'" in done.stdout) == (0, True)
    assert repr(automatic) in done.stderr
    assert server.feature.GetFeature(GetFeatureRequest(id=5)).feature.correction.author == "ada"
    listed = steersman("features", "--text", "[bold] crime", "--all", *address)
    assert "[bold] crime" in " ".join(listed.stdout.split()), listed.output
    back = steersman("label", "5", "", *address)
    assert (back.exit_code, repr(automatic) in back.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("x5", "y"), 2, "write f123"),
        (("f999999", "y"), 1, "there is no feature 999999"),
        (("f5", "x" * 101), 1, "at most 100"),
    ],
)
def test_what_is_wrong_is_told(address: tuple[str, str], arguments: tuple[str, str], code: int, why: str) -> None:
    done = steersman("label", *arguments, *address)
    assert (done.exit_code, why in " ".join(done.stderr.split())) == (code, True)
