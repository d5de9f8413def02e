"""Who may come in, tried from outside: over gRPC and over HTTP, without credentials, with wrong ones, and with too few rights."""

import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.control_pb2 import OPERATION_ADD, Control, FeatureRef
from steersman.v1.feature_service_pb2 import SetLabelRequest
from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.recommendation_service_pb2 import BatchRecommendRequest, RecommendRequest
from steersman.v1.scenario_service_pb2 import ListScenarioChangesRequest, PutScenarioRequest, Scenario
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, GetSessionRequest
from steersman_service.api.access import MOST_LOOKED_AT, ROLES, permit
from steersman_service.api.channels import versions_named
from steersman_service.api.handlers import SERVICES
from steersman_service.errors import RoleMissing
from steersman_service.http.contract import methods
from steersman_service.identity.identity import Identity, Role
from tests.service.http.gateways import JSON, Gateway, connect_status, gatewayed, reason
from tests.service.identity.credentials import AUDIENCE, ISSUER, Issuer, forged, jwks, key_file
from tests.serving import Running, explain, failure, serving, settings_for

METRICS_TOKEN = "of-the-metrics"
INFO = "/steersman.v1.ModelService/GetModelInfo"
CONTROL = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)


class Guarded(NamedTuple):
    """A server that asks for credentials, its gateway, and its issuer."""

    server: Running
    front: Gateway
    issuer: Issuer
    keys: dict[str, str]
    """By role; ADMIN has no tenant, `other` is a STEER of another one."""
    key_file: Path


@pytest.fixture(scope="module")
def guarded(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder, issuer = tmp_path_factory.mktemp("guarded"), Issuer("one")
    (folder / "jwks").write_bytes(jwks(issuer, Issuer("two", curve=True)))
    given = {"recommend": "recommend@acme", "steer": "steer@acme", "admin": "admin", "other": "steer@other"}
    keys = key_file(folder / "keys", **given)
    ways = {
        "api_keys": folder / "keys",
        "jwt_keys": str(folder / "jwks"),
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
    }
    with (
        serving(settings_for(folder, bundle_dir, **ways, reflection="admin", metrics_token=METRICS_TOKEN)) as server,
        gatewayed(
            f"127.0.0.1:{server.ports.grpc}",
            metrics_url=f"http://127.0.0.1:{server.ports.metrics}/metrics",
            metrics_token=METRICS_TOKEN,
        ) as front,
    ):
        yield Guarded(server, front, issuer, keys, folder / "keys")


Sent = tuple[tuple[str, str | bytes], ...]
"""Metadata of a call, or headers."""


def bearer(token: str) -> Sent:
    return (("authorization", f"Bearer {token}"),)


def raw(guarded: Guarded, path: str) -> Any:
    return guarded.server.channel.unary_unary(path)


class Refusal(NamedTuple):
    reason: str
    code: str
    challenge: str


def over_grpc(guarded: Guarded, sent: Sent, path: str = INFO, data: bytes = b"") -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        raw(guarded, path)(data, metadata=sent)
    error: Any = caught.value
    trailers, told = {key: str(value) for key, value in error.trailing_metadata()}, explain(error)
    return Refusal(told.reason, told.code.name, trailers.get("www-authenticate", ""))


def over_http(guarded: Guarded, sent: Sent, path: str = INFO) -> Refusal:
    connection = HTTPConnection("127.0.0.1", guarded.front.port, timeout=60)
    connection.putrequest("POST" if path != "/metrics.json" else "GET", path)
    for name, value in [*JSON.items(), *sent, ("content-length", "2")]:
        connection.putheader(name, value)
    connection.endheaders(b"{}")
    response = connection.getresponse()
    told = json.loads(response.read())
    connection.close()
    assert (response.status, told["code"]) in ((401, "unauthenticated"), (403, "permission_denied"))
    (info,) = (each["debug"] for each in told["details"] if each["type"].endswith("ErrorInfo"))
    return Refusal(info["reason"], told["code"].upper(), response.getheader("www-authenticate", ""))


def wrong_credentials(guarded: Guarded) -> dict[str, Sent]:
    issuer, hour = guarded.issuer, 3600
    claims = {"sub": "ann", "aud": AUDIENCE, "iss": ISSUER, "exp": time.time() + hour, "roles": "admin"}
    return {
        "no scheme": (("authorization", guarded.keys["admin"]),),
        "Basic": (("authorization", "Basic YWRtaW46YWRtaW4="),),
        "empty": bearer(""),
        "malformed": bearer("x"),
        "huge": bearer("x" * 7000),
        "two": bearer(guarded.keys["steer"]) * 2,
        "expired": bearer(issuer.token(exp=time.time() - hour)),
        "not yet valid": bearer(issuer.token(nbf=time.time() + hour)),
        "other key": bearer(Issuer("one").token()),
        "other audience": bearer(issuer.token(aud="elsewhere")),
        "other issuer": bearer(issuer.token(iss="elsewhere")),
        "alg none": bearer(forged({"alg": "none"}, claims)),
        "revoked key": bearer(key_file(guarded.key_file.with_name("revoked"), admin="admin")["admin"]),
        "guessed key": bearer(guarded.keys["admin"][:-1] + "x"),
    }


def test_wrong_credentials_open_nothing(guarded: Guarded) -> None:
    wanted = Refusal("TOKEN_MISSING", "UNAUTHENTICATED", 'Bearer realm="steersman"')
    for path in (INFO, "/metrics.json"):
        assert over_http(guarded, (), path) == wanted
    assert over_grpc(guarded, ()) == wanted
    refused = Refusal("TOKEN_REFUSED", "UNAUTHENTICATED", 'Bearer realm="steersman", error="invalid_token"')
    for name, sent in wrong_credentials(guarded).items():
        assert over_grpc(guarded, sent) == refused, name
        assert over_http(guarded, sent) == refused, name
        assert over_http(guarded, sent, "/metrics.json") == refused, name
    # It is refused before it is read: a message that parses as nothing, too.
    assert over_grpc(guarded, (), data=b"\xff") == wanted


def test_what_is_open_to_all_stays_open(guarded: Guarded) -> None:
    assert raw(guarded, "/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"
    assert guarded.front.get("/healthz").status == 200
    assert guarded.front.get("/openapi.json").json["components"]["securitySchemes"]
    unknown = over_grpc(guarded, (), "/steersman.v1.ModelService/Nothing")
    assert unknown.code == "UNIMPLEMENTED"


def test_reflection_and_metrics_are_for_those_of_the_settings(guarded: Guarded) -> None:
    def services(sent: Sent) -> Any:
        ask = iter([ServerReflectionRequest(list_services="")])
        stub: Any = ServerReflectionStub(guarded.server.channel)
        return next(stub.ServerReflectionInfo(ask, metadata=sent))

    assert services(bearer(guarded.keys["admin"])).list_services_response.service
    for sent, why in (((), "TOKEN_MISSING"), (bearer(guarded.keys["steer"]), "ROLE_MISSING")):
        with pytest.raises(grpc.RpcError) as caught:
            services(sent)
        assert explain(caught.value).reason == why
    for token, status in (("", 401), ("wrong", 401), (guarded.keys["admin"], 401), (METRICS_TOKEN, 200)):
        connection = HTTPConnection("127.0.0.1", guarded.server.ports.metrics, timeout=60)
        connection.request("GET", "/metrics", headers={"authorization": f"Bearer {token}"} if token else {})
        assert connection.getresponse().status == status
        connection.close()
    assert guarded.front.get("/metrics.json", dict(bearer(guarded.keys["recommend"]))).json["calls"]


def test_every_rpc_has_a_role() -> None:
    """A new one gets its row in api/access.py; until then it is an administrator's."""
    assert {f"{method.service.rpartition('.')[2]}/{method.name}" for method in methods()} == set(ROLES)


def test_each_role_does_what_the_table_says_and_nothing_else(guarded: Guarded) -> None:
    roles = {Role.NONE: guarded.issuer.token(roles=["root"])}
    roles |= {role: guarded.keys[role.word] for role in Role if role}
    for call, needed in ROLES.items():
        if call.partition("/")[0] not in SERVICES:
            continue
        for role, token in roles.items():
            found = outcome(guarded, f"/steersman.v1.{call}", b"", token)
            assert (found == "ROLE_MISSING") == (role < needed), (call, role, found)
    refused = failure(guarded.server.scenario.PutScenario, PutScenarioRequest(), metadata=bearer(guarded.keys["steer"]))
    assert (refused.code, refused.metadata["role"], refused.metadata["given_role"]) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "admin",
        "steer",
    )
    assert "ScenarioService/PutScenario needs the role admin" in refused.message
    by_http = over_http(guarded, bearer(guarded.keys["steer"]), "/steersman.v1.ScenarioService/PutScenario")
    assert by_http == Refusal("ROLE_MISSING", "PERMISSION_DENIED", "")


def outcome(guarded: Guarded, path: str, data: bytes, token: str) -> str:
    """The reason of the error; empty if there is none."""
    try:
        raw(guarded, path)(data, metadata=bearer(token))
    except grpc.RpcError as error:
        return explain(error).reason
    return ""


CALLS = [method for method in methods() if method.name not in ("Recommend", "BatchRecommend")]


@given(st.sampled_from(Role), st.sampled_from(CALLS), st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_message_gets_a_role_around_the_table(role: Role, method: Any, data: bytes) -> None:
    message = method.request()
    try:
        message.ParseFromString(data)
    except Exception:
        message.Clear()
    call = f"{method.service.rpartition('.')[2]}/{method.name}"
    assert allowed(call, message, role) == (role >= ROLES[call])
    assert not allowed("NewService/New", message, Role.STEER)


@given(st.sampled_from(Role), st.lists(st.booleans(), max_size=4))
def test_controls_are_for_those_that_steer(role: Role, controlled: list[bool]) -> None:
    requests = [RecommendRequest(controls=[CONTROL] if one else [], scenario="s") for one in controlled]
    needed = Role.STEER if any(controlled) else Role.RECOMMEND
    assert allowed("RecommendationService/BatchRecommend", BatchRecommendRequest(requests=requests), role) == (
        role >= needed
    )
    for one, request in zip(controlled, requests, strict=True):
        assert allowed("RecommendationService/Recommend", request, role) == (
            role >= (Role.STEER if one else Role.RECOMMEND)
        )


def test_what_no_server_answers_is_not_looked_through() -> None:
    """Millions of empty requests fit into a message, and each takes its time."""
    call, none = "RecommendationService/BatchRecommend", RecommendRequest()
    for count, needed in ((MOST_LOOKED_AT, Role.RECOMMEND), (MOST_LOOKED_AT + 1, Role.STEER)):
        batch = BatchRecommendRequest(requests=[none] * count)
        assert [allowed(call, batch, role) for role in (Role.RECOMMEND, Role.STEER)] == [needed < Role.STEER, True]
    named = RecommendRequest(controls=[Control(feature=FeatureRef(bundle_version="b"))])
    for count, versions in ((1, {"b"}), (MOST_LOOKED_AT, set[str]())):
        assert versions_named(BatchRecommendRequest(requests=[*[none] * count, named])) == versions


def allowed(call: str, message: Any, role: Role) -> bool:
    try:
        permit(call, message, Identity("ann", "acme", role))
    except RoleMissing:
        return False
    return True


def test_tenants_are_those_of_the_credentials(guarded: Guarded) -> None:
    session, tokens = guarded.server.session, {"acme": guarded.keys["steer"], "other": guarded.keys["other"]}
    tokens["issued"] = guarded.issuer.token(tenant="issued")
    for tenant, token in tokens.items():
        event = Event(event_id="1", item_id=tenant)
        session.AppendEvents(AppendEventsRequest(session_id="shared", events=[event]), metadata=bearer(token))
    for tenant, token in tokens.items():
        found = session.GetSession(GetSessionRequest(session_id="shared", max_item_ids=9), metadata=bearer(token))
        assert list(found.session.item_ids) == [tenant]
        named = (*bearer(token), ("steersman-tenant", tenant))
        session.GetSession(GetSessionRequest(session_id="shared"), metadata=named)
        for other in {"acme", "other", "issued", "x"} - {tenant}:
            sent = (*bearer(token), ("steersman-tenant", other))
            refused = failure(session.GetSession, GetSessionRequest(session_id="shared"), metadata=sent)
            assert (refused.reason, refused.code) == ("TENANT_REFUSED", grpc.StatusCode.PERMISSION_DENIED)
            assert over_http(guarded, sent).reason == "TENANT_REFUSED"
    mine = GetSessionRequest(session_id="shared")
    assert failure(session.GetSession, mine, metadata=bearer(guarded.keys["admin"])).reason == "NOT_FOUND"


def test_changes_are_recorded_under_who_made_them(guarded: Guarded) -> None:
    admin = bearer(guarded.issuer.token(sub="root@acme", roles="admin"))
    put = PutScenarioRequest(scenario=Scenario(name="own"), author="somebody else")
    assert guarded.server.scenario.PutScenario(put, metadata=admin).scenario.updated_by == "root@acme"
    trail = guarded.server.scenario.ListScenarioChanges(ListScenarioChangesRequest(name="own"), metadata=admin)
    assert [change.author for change in trail.changes] == ["root@acme"]
    version = guarded.server.model.GetModelInfo(GetModelInfoRequest(), metadata=admin).bundle_version
    label = SetLabelRequest(id=1, bundle_version=version, label="mine", author="somebody else")
    assert guarded.server.feature.SetLabel(label, metadata=admin).feature.correction.author == "root@acme"


def test_pages_of_other_sites_bring_no_credentials(guarded: Guarded) -> None:
    """No cookie is anybody, and a browser asks before it sends the header to another site."""
    token = guarded.keys["admin"]
    reply = guarded.front.send(INFO, "{}", {**JSON, "cookie": f"authorization=Bearer {token}; token={token}"})
    assert (reply.status, reason(connect_status(reply))) == (401, "TOKEN_MISSING")
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    reply = guarded.front.send(
        INFO, None, {**asked, "access-control-request-headers": "authorization"}, method="OPTIONS"
    )
    assert "access-control-allow-origin" not in reply.headers
