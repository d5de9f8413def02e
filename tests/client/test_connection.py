"""What goes with every call: deadline, token, tenant, TLS, and calls that are repeated."""

import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from steersman.v1 import recommendation_service_pb2 as pb
from steersman_client import AsyncClient, CallError, Client, Scenario
from steersman_client.credentials import Access
from steersman_client.errors import CODES
from steersman_client.status import Status
from steersman_service.errors import AnswerTooLarge, QueueFull
from steersman_service.rpc.status import grpc_status
from tests.client.fake import Failing, FakeServer

RECOMMEND = "RecommendationService/Recommend"
FILES = {"tls_ca": "ca.pem", "tls_cert": "cert.pem", "tls_key": "key.pem"}


def test_token_and_tenant_go_with_every_call(fake: FakeServer) -> None:
    with Client(fake.address, token="t0p", tenant="acme", timeout=60) as client:
        client.recommend()
        client.model_info()
        assert "t0p" not in repr(client._connection) + repr(Access(token="t0p"))
    for asked in fake.asked:
        assert asked.metadata["authorization"] == "Bearer t0p"
        assert asked.metadata["steersman-tenant"] == "acme"


async def test_the_same_for_asyncio(fake: FakeServer) -> None:
    async with AsyncClient(fake.address, token="t0p", tenant="acme", timeout=60) as client:
        await client.recommend()
    (asked,) = fake.asked
    assert (asked.metadata["authorization"], asked.metadata["steersman-tenant"]) == ("Bearer t0p", "acme")


@pytest.mark.parametrize("target", ["example.com", "10.0.0.1:50051", "dns:///example.com", "[2001:db8::1]"])
def test_a_token_never_travels_readable(target: str) -> None:
    with pytest.raises(ValueError, match="give tls_ca"):
        Client(target, token="t0p")


@pytest.mark.parametrize("target", ["localhost", "127.0.0.1:7", "[::1]:7", "unix:/tmp/socket"])
def test_on_this_machine_it_may(target: str) -> None:
    Client(target, token="t0p").close()


def test_arguments_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="go together"):
        Client("localhost", tls_ca="ca.pem", tls_cert="cert.pem")
    with pytest.raises(ValueError, match="give tls_ca"):
        Client("localhost", tls_cert="cert.pem", tls_key="key.pem")
    with pytest.raises(ValueError, match="write host:port"):
        Client("http://localhost:50051")
    for timeout in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            Client("localhost", timeout=timeout)
    with pytest.raises(OSError, match=r"nothing\.pem"):
        Client("localhost", tls_ca="nothing.pem")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself, for the server and for the client."""
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(["openssl", *command.split(), *names], cwd=folder, check=True, capture_output=True)
    (folder / "ca.pem").write_bytes((folder / "cert.pem").read_bytes())
    return folder


@pytest.mark.parametrize("asks_for_clients", [False, True])
async def test_tls(certificates: Path, asks_for_clients: bool) -> None:
    ca, cert, key = ((certificates / name).read_bytes() for name in FILES.values())
    credentials = grpc.ssl_server_credentials([(key, cert)], ca if asks_for_clients else None, asks_for_clients)
    own: Any = {name: certificates / file for name, file in FILES.items()}
    with FakeServer(credentials) as fake:
        with Client(fake.address, **own, token="t0p", timeout=60) as client:
            client.recommend()
        async with AsyncClient(fake.address, **own, timeout=60) as asynchronous:
            await asynchronous.recommend()
        assert [asked.metadata.get("authorization") for asked in fake.asked] == ["Bearer t0p", None]
        if asks_for_clients:
            with Client(fake.address, tls_ca=own["tls_ca"]) as stranger, pytest.raises(CallError, match="UNAVAILABLE"):
                stranger.recommend()


def test_a_call_that_meets_an_overloaded_server_is_repeated(fake: FakeServer) -> None:
    """After as long as the server says, which is not the policy's own."""
    busy = Failing(StatusCode.RESOURCE_EXHAUSTED, (("grpc-retry-pushback-ms", "1"),))
    away, dropped = Failing(StatusCode.UNAVAILABLE), Failing(StatusCode.CANCELLED)
    fake.answers[RECOMMEND] = [busy, away, dropped, pb.RecommendResponse(request_id="at last")]
    with Client(fake.address, timeout=60) as client:
        assert client.recommend().request_id == "at last"
        assert len(fake.asked) == 4
        fake.answers[RECOMMEND] = [dropped]
        with pytest.raises(CallError, match="has more calls waiting than it takes"):
            client.recommend()


async def test_asyncio_repeats_as_well(fake: FakeServer) -> None:
    fake.answers[RECOMMEND] = [Failing(StatusCode.UNAVAILABLE), pb.RecommendResponse(request_id="at last")]
    async with AsyncClient(fake.address, timeout=60) as client:
        assert (await client.recommend()).request_id == "at last"


def test_retries_do_not_add_to_an_overload(fake: FakeServer) -> None:
    fake.answers[RECOMMEND] = [Failing(StatusCode.UNAVAILABLE, (("grpc-retry-pushback-ms", "1"),))]
    with Client(fake.address, timeout=60) as client:
        for _ in range(60):
            with pytest.raises(CallError, match="UNAVAILABLE"):
                client.recommend()
    assert 60 < len(fake.asked) < 120  # 5 attempts a call would be 300


@pytest.mark.parametrize(
    "told",
    [
        Failing(StatusCode.RESOURCE_EXHAUSTED, (("grpc-retry-pushback-ms", "-1"),)),
        Failing(StatusCode.INVALID_ARGUMENT),
        Failing(StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_what_would_fail_again_is_not_repeated(fake: FakeServer, told: Failing) -> None:
    fake.answers[RECOMMEND] = [told]
    with Client(fake.address, timeout=60) as client, pytest.raises(CallError, match=told.code.name):
        client.recommend()
    assert len(fake.asked) == 1


def test_a_scenario_is_not_put_twice(fake: FakeServer) -> None:
    """The first attempt may have been applied: the second would be a conflict."""
    fake.answers["ScenarioService/PutScenario"] = [Failing(StatusCode.UNAVAILABLE)]
    with Client(fake.address, timeout=60) as client, pytest.raises(CallError, match="UNAVAILABLE"):
        client.put_scenario(Scenario("home"))
    assert len(fake.asked) == 1


def test_no_server() -> None:
    with Client("127.0.0.1:1", timeout=5) as client, pytest.raises(CallError) as caught:
        client.recommend()
    assert (caught.value.code, caught.value.reason, caught.value.fields) == ("UNAVAILABLE", "", {})
    assert "no server answers at 127.0.0.1:1 (steersman serve starts one)" in str(caught.value)


def test_the_deadline_is_of_each_call(fake: FakeServer) -> None:
    fake.may_answer.clear()
    with Client(fake.address, timeout=0.2) as client, pytest.raises(CallError) as caught:
        client.recommend()
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert "Client(timeout=...) allows more" in str(caught.value)


def test_details_are_read_as_google_wrote_them() -> None:
    info = error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="steersman", metadata={"a": "ä"})
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="k", description="too large")
    bad.field_violations.add(field="controls", description="too many")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    unknown = error_details_pb2.Help()
    told: list[Message] = [info, bad, retry, unknown]
    status = status_pb2.Status(code=8, message="full", details=[_packed(detail) for detail in told])
    read = Status.parse(status.SerializeToString())
    assert read == ("full", "QUEUE_FULL", {"k": "too large", "controls": "too many"}, {"a": "ä"}, 1.5)
    assert Status.parse(status_pb2.Status(message="no details").SerializeToString()) == ("no details", "", {}, {}, None)


def test_codes_are_those_of_grpc() -> None:
    assert [*CODES] == [code.name for code in sorted(StatusCode, key=lambda code: int(code.value[0]))]


def test_the_server_says_when_to_repeat() -> None:
    """In the form that clients of any language go by, beside RetryInfo."""
    said = [_pushback(error) for error in (QueueFull("full", retry_seconds=0.0101), AnswerTooLarge(2, 1, None))]
    assert said == ["11", "-1"]


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _pushback(error: QueueFull | AnswerTooLarge) -> str:
    trailers = dict(grpc_status(error, "r").trailing_metadata or ())
    return str(trailers["grpc-retry-pushback-ms"])
