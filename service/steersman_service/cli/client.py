"""The connection of the command line to a server: what it asks, and how it explains errors."""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from steersman.v1 import feature_service_pb2 as features_pb
from steersman.v1 import item_service_pb2 as items_pb
from steersman.v1 import release_service_pb2 as releases_pb
from steersman.v1 import scenario_service_pb2 as scenarios_pb
from steersman.v1.explanation_service_pb2 import ExplainRequest, ExplainResponse
from steersman.v1.explanation_service_pb2_grpc import ExplanationServiceStub
from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.item_service_pb2_grpc import ItemServiceStub
from steersman.v1.model_service_pb2 import GetModelInfoRequest, GetModelInfoResponse
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman.v1.recommendation_service_pb2 import (
    BatchRecommendRequest,
    BatchRecommendResponse,
    RecommendRequest,
    RecommendResponse,
)
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.release_service_pb2_grpc import ReleaseServiceStub
from steersman.v1.scenario_service_pb2_grpc import ScenarioServiceStub
from steersman_client.credentials import Access
from steersman_service.cli.address import Address
from steersman_service.cli.printing import fail
from steersman_service.cli.server import DEFAULT_ADDRESS, Server, channel_to, explain_tls

MAX_PAGE_SIZE = 1000
# Of a search.
MAX_TEXT_BYTES = 256
# The commands that list valid names, by the end of the field that is wrong.
LISTS = {
    "concept": "steersman features --concepts",
    "feature.id": "steersman features",
    "scenario": "steersman scenarios list",
}


Listed = TypeVar(
    "Listed",
    features_pb.ListFeaturesResponse,
    features_pb.ListConceptsResponse,
    items_pb.ListItemsResponse,
    scenarios_pb.ListScenariosResponse,
    scenarios_pb.ListScenarioChangesResponse,
    scenarios_pb.ReplayScenariosResponse,
)


class Client:
    """Calls of a server. Its `timeout` is the limit of each."""

    def __init__(self, channel: grpc.Channel, server: Server) -> None:
        self._channel, self._server, self._timeout = channel, server, server.timeout
        self._features, self._items = FeatureServiceStub(channel), ItemServiceStub(channel)
        self._scenarios = ScenarioServiceStub(channel)

    def command(self, words: str, *quoted: str) -> str:
        """A command for the same server: `words` as they are, `quoted` escaped for the shell."""
        return " ".join(["steersman", words, *map(shlex.quote, [*quoted, *self._server.flags])])

    @cached_property
    def info(self) -> GetModelInfoResponse:
        return ModelServiceStub(self._channel).GetModelInfo(GetModelInfoRequest(), timeout=self._timeout)

    def recommend(self, request: RecommendRequest) -> RecommendResponse:
        return RecommendationServiceStub(self._channel).Recommend(request, timeout=self._timeout)

    def explain(self, request: ExplainRequest) -> ExplainResponse:
        return ExplanationServiceStub(self._channel).Explain(request, timeout=self._timeout)

    def batch_recommend(self, request: BatchRecommendRequest) -> BatchRecommendResponse:
        return RecommendationServiceStub(self._channel).BatchRecommend(request, timeout=self._timeout)

    def features(
        self,
        limit: int,
        text: str = "",
        *,
        steerable_only: bool = False,
        include_rare: bool = False,
        item_ids: Iterable[str] = (),
    ) -> features_pb.ListFeaturesResponse:
        """The first `limit`, as one answer."""
        request = features_pb.ListFeaturesRequest(
            text=text, steerable_only=steerable_only, include_rare=include_rare, item_ids=item_ids
        )
        return self._listed(self._features.ListFeatures, request, "features", limit)

    def label(self, feature: int) -> str:
        request = features_pb.GetFeatureRequest(id=feature)
        return str(self._features.GetFeature(request, timeout=self._timeout).feature.label)

    def set_label(self, request: features_pb.SetLabelRequest) -> features_pb.Feature:
        return self._features.SetLabel(request, timeout=self._timeout).feature

    def concepts(self, text: str = "") -> features_pb.ListConceptsResponse:
        """All, as one answer."""
        return self._listed(self._features.ListConcepts, features_pb.ListConceptsRequest(text=text), "concepts")

    def neighbours(self, request: features_pb.ListNeighboursRequest) -> features_pb.ListNeighboursResponse:
        return self._features.ListNeighbours(request, timeout=self._timeout)

    def attributes(self, text: str, values: int) -> items_pb.ListAttributesResponse:
        """At most `values` of each, the most frequent first."""
        return self._items.ListAttributes(
            items_pb.ListAttributesRequest(text=text, values=values), timeout=self._timeout
        )

    def has_concept(self, name: str) -> bool:
        text = name.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
        return any(concept.name == name for concept in self.concepts(text).concepts)

    def items(self, limit: int, text: str) -> items_pb.ListItemsResponse:
        """The first `limit`, as one answer."""
        return self._listed(self._items.ListItems, items_pb.ListItemsRequest(text=text), "items", limit)

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that the bundle has."""
        asked, known = list(dict.fromkeys(ids)), set[str]()
        for begin in range(0, len(asked), MAX_PAGE_SIZE):
            request = items_pb.ListItemsRequest(item_ids=asked[begin : begin + MAX_PAGE_SIZE])
            known.update(item.item_id for item in self._listed(self._items.ListItems, request, "items").items)
        return known

    def scenarios(self, limit: int) -> scenarios_pb.ListScenariosResponse:
        """The first `limit`, as one answer."""
        return self._listed(self._scenarios.ListScenarios, scenarios_pb.ListScenariosRequest(), "scenarios", limit)

    def scenario_changes(self, limit: int, name: str) -> scenarios_pb.ListScenarioChangesResponse:
        """The latest `limit` of scenario `name` (of all: empty), as one answer."""
        request = scenarios_pb.ListScenarioChangesRequest(name=name)
        return self._listed(self._scenarios.ListScenarioChanges, request, "changes", limit)

    def replays(self, names: Iterable[str]) -> scenarios_pb.ReplayScenariosResponse:
        """Of these scenarios (none: of all), as one answer."""
        request = scenarios_pb.ReplayScenariosRequest(names=names)
        return self._listed(self._scenarios.ReplayScenarios, request, "replays")

    def scenario(self, name: str) -> scenarios_pb.Scenario:
        request = scenarios_pb.GetScenarioRequest(name=name)
        return self._scenarios.GetScenario(request, timeout=self._timeout).scenario

    def scenario_version(self, name: str) -> int:
        """0: there is none."""
        try:
            return self.scenario(name).version
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
                return 0
            raise

    def put_scenario(self, request: scenarios_pb.PutScenarioRequest) -> scenarios_pb.PutScenarioResponse:
        return self._scenarios.PutScenario(request, timeout=self._timeout)

    def delete_scenario(self, request: scenarios_pb.DeleteScenarioRequest) -> bool:
        return self._scenarios.DeleteScenario(request, timeout=self._timeout).existed

    def releases(self, method: str, request: Any) -> Sequence[releases_pb.Release]:
        """What there is after a call of ReleaseService."""
        call = getattr(ReleaseServiceStub(self._channel), method)
        return call(request, timeout=self._timeout).releases  # type: ignore[no-any-return]

    def _listed(self, method: Callable[..., Listed], request: Any, field: str, limit: int = sys.maxsize) -> Listed:
        """The first `limit` of `field`: the first page, extended by those after it."""
        request.page_size = min(limit, MAX_PAGE_SIZE)
        listed = page = method(request, timeout=self._timeout)
        while page.next_page_token and (missing := limit - len(getattr(listed, field))) > 0:
            request.page_token, request.page_size = page.next_page_token, min(missing, MAX_PAGE_SIZE)
            page = method(request, timeout=self._timeout)
            getattr(listed, field).extend(getattr(page, field))
            listed.next_page_token = page.next_page_token
        return listed


@contextmanager
def connected(server: Server) -> Iterator[Client]:
    """Explains the error of a call inside, and ends the command with exit code 1. No proxy is used for loopback addresses."""
    address, access = server.read()
    try:
        with channel_to(address, access) as channel:
            yield Client(channel, server)
    except grpc.RpcError as error:
        _explain(error, address, access)


def _explain(error: grpc.RpcError, address: Address, access: Access) -> NoReturn:
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    if status is None and error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        fail(_explain_no_answer(error, address, access))
    if status is None and error.code() is grpc.StatusCode.CANCELLED:
        fail(f"The server at {address.target} is stopping, or has more calls waiting than it takes. Try again later")
    bad = error_details_pb2.BadRequest()
    any(detail.Unpack(bad) for detail in (status.details if status else ()))
    described = "; ".join(f"{wrong.field}: {wrong.description}" for wrong in bad.field_violations)
    lists = [command for end, command in LISTS.items() if any(w.field.endswith(end) for w in bad.field_violations)]
    hint = f". Names: {lists[0]}" if lists else ""
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        hint = ". A token is read from --token-file FILE, or from the environment (STEERSMAN_TOKEN)"
    fail(f"{error.code().name}: {described or error.details()}{hint}")


def _explain_no_answer(error: grpc.Call, address: Address, access: Access) -> str:
    if proxy := address.proxy:
        return (
            f"No server answers at {address.target} through the proxy of {proxy}. "
            f"To connect directly: no_proxy={address.host}"
        )
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"No answer from {address.target} in time. Allow more: --timeout SECONDS"
    if why := explain_tls(error.details() or "", access):
        return f"{address.target} does not let you in: {why}"
    if "DNS" in (error.details() or "") or "resolution" in (error.details() or ""):
        return f"No server answers at {address.target}: the name cannot be resolved. Write host:port after --address"
    local = address.loopback and address.target != DEFAULT_ADDRESS
    port = f" --port {address.target.rpartition(':')[2]}" if local else ""
    return f"No server answers at {address.target}. Start one: steersman serve{port}"
