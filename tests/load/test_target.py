"""The address of the server under test."""

import pytest

from steersman_loadtest.target import read_target

DIRECT = (("grpc.enable_http_proxy", 0),)


@pytest.mark.parametrize(
    ("address", "name", "options"),
    [
        ("localhost", "localhost:50051", DIRECT),
        ("127.0.0.2:1", "127.0.0.2:1", DIRECT),
        ("[::1]:7", "[::1]:7", DIRECT),
        ("gpu1", "gpu1:50051", ()),
        ("10.0.0.1:7", "10.0.0.1:7", ()),
        ("unix:/tmp/socket", "unix:/tmp/socket", ()),
        ("dns:///host:7", "dns:///host:7", ()),
    ],
)
def test_no_proxy_stands_before_this_machine(address: str, name: str, options: object) -> None:
    assert read_target(address)[:2] == (name, options)


@pytest.mark.parametrize("address", ["", ":50051", "http://a:1", "https://a"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="write host:port"):
        read_target(address)
