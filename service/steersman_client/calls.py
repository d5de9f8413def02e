"""Every RPC of the contract as a function of plain values: what is sent, and how the answer is read. Nothing is sent here.

`methods.py` makes methods of them, for clients that wait, for asyncio and for a bundle in this process.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar

from google.protobuf.message import Message

from steersman.v1 import control_pb2
from steersman.v1 import explanation_service_pb2 as explanation_pb
from steersman.v1 import feature_service_pb2 as features_pb
from steersman.v1 import item_service_pb2 as items_pb
from steersman.v1 import model_service_pb2 as model_pb
from steersman.v1 import recommendation_service_pb2 as recommendation_pb
from steersman.v1 import release_service_pb2 as releases_pb
from steersman.v1 import scenario_service_pb2 as scenarios_pb
from steersman.v1 import session_service_pb2 as sessions_pb
from steersman_client.catalogue import FEATURE_KINDS, Attribute, Concept, Feature, FeatureKind, Item, Neighbours
from steersman_client.controls import Control, Controls, ids_of, messages_of
from steersman_client.errors import CallError
from steersman_client.explanations import ChangeQuery, Explanation
from steersman_client.model import BundleSummary, ModelInfo, SampleHistory
from steersman_client.recommendations import Comparison, Recommendation, Sweep
from steersman_client.releases import CHANNELS, Channel, Release
from steersman_client.requests import Events, Request, event_messages, with_receipt
from steersman_client.scenarios import Scenario, ScenarioChange, ScenarioReplay
from steersman_client.sessions import AppendResult, Session

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R", bound=Request)

# Of lists; a server may answer fewer at a time.
PAGE_SIZE = 200


class Call(NamedTuple, Generic[A]):
    """A call to be made."""

    method: str
    """ "RecommendationService/Recommend"."""
    request: Message
    answer: type[Message]
    read: Callable[[Any], A]
    """Of the answer."""


class Pages(NamedTuple, Generic[A]):
    """Calls for a list, a page at a time: `page_token` of each request is `next_page_token` of the answer before."""

    method: str
    request: Any
    answer: type[Message]
    read: Callable[[Any], Iterable[A]]


@dataclass(frozen=True)
class ExplainRequest(Request):
    """What Explain is asked. The fields are the arguments of `explain`."""

    _: KW_ONLY
    item_ids: Sequence[str] = ()
    """Accounted for beside those of the list."""
    top_features: int = 5
    """Named in taste and accounts; the rest is summed."""
    event_influence: bool = False
    """Adds to each feature which events carry it. Costs as much as a request for each event of the window."""
    change: ChangeQuery | None = None


def _with(make: Callable[P, R], call: Callable[[R], Call[A]]) -> Callable[P, Call[A]]:
    """`call`, with the fields of what it takes as arguments."""

    def build(*arguments: P.args, **named: P.kwargs) -> Call[A]:
        return call(make(*arguments, **named))

    build.__name__, build.__doc__ = call.__name__.strip("_"), call.__doc__
    build.__signature__ = inspect.signature(make)  # type: ignore[attr-defined]
    return build


def _recommend(request: Request) -> Call[Recommendation]:
    """The k best items for a history or a session, under controls and filters."""
    method, answer = "RecommendationService/Recommend", recommendation_pb.RecommendResponse
    return Call(method, request.message(), answer, Recommendation.of)


def batch_recommend(requests: Iterable[Request]) -> Call[list[Recommendation | CallError]]:
    """Several requests in one call, each answered or refused on its own."""
    message = recommendation_pb.BatchRecommendRequest(requests=[request.message() for request in requests])
    answer = recommendation_pb.BatchRecommendResponse
    return Call("RecommendationService/BatchRecommend", message, answer, lambda response: [*_results(response)])


def _compare(request: Request) -> Call[Comparison]:
    """The list of a request beside that of the same request without its controls, in one call.

    Controls of its session or scenario act on both.
    """
    call = batch_recommend([_plain(request), request])
    return call._replace(read=lambda response: Comparison(*_answers(response)))  # type: ignore[return-value, arg-type]


def _explain(request: ExplainRequest) -> Call[Explanation]:
    """The list, what the model sees in the history, what each score is made of, and what would change it."""
    message = explanation_pb.ExplainRequest(
        request=request.message(),
        item_ids=ids_of("item_ids", request.item_ids),
        top_features=request.top_features,
        event_influence=request.event_influence,
        change=request.change.message() if request.change else None,
    )
    return Call("ExplanationService/Explain", message, explanation_pb.ExplainResponse, Explanation.of)


def _sweep(make: Callable[P, Request]) -> Callable[Concatenate[Control, Sequence[float], P], Call[Sweep]]:
    def sweep(control: Control, strengths: Sequence[float], /, *arguments: P.args, **named: P.kwargs) -> Call[Sweep]:
        """A request at several strengths of a control that is added to its own, and without that, in one call."""
        request = make(*arguments, **named)
        own = _listed(request.controls)
        swept = [replace(control, strength=strength) for strength in strengths]
        parts = with_receipt(request.parts, True)
        steered = [replace(request, controls=[*own, each], receipt=True, parts=parts) for each in swept]
        call = batch_recommend([request, *steered])

        def read(response: recommendation_pb.BatchRecommendResponse) -> Sweep:
            plain, *lists = _answers(response)
            return Sweep(plain, tuple(strengths), tuple(lists))

        return Call(call.method, call.request, call.answer, read)

    first = [*inspect.signature(sweep).parameters.values()][:2]
    parameters = [*first, *inspect.signature(make).parameters.values()]
    sweep.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return sweep


recommend = _with(Request, _recommend)
compare = _with(Request, _compare)
explain = _with(ExplainRequest, _explain)
sweep = _sweep(Request)


def features(
    text: str = "",
    *,
    steerable_only: bool = False,
    include_rare: bool = False,
    kind: FeatureKind = "",
    item_ids: Sequence[str] = (),
) -> Pages[Feature]:
    """Features of the catalogue, the most useful ones first; those that fire on `item_ids`, where given."""
    request = features_pb.ListFeaturesRequest(
        page_size=PAGE_SIZE,
        text=text,
        steerable_only=steerable_only,
        include_rare=include_rare,
        kind=FEATURE_KINDS[kind],
        item_ids=ids_of("item_ids", item_ids),
    )
    return Pages(
        "FeatureService/ListFeatures",
        request,
        features_pb.ListFeaturesResponse,
        lambda page: [Feature.of(each, page.bundle_version) for each in page.features],
    )


def feature(feature_id: int, *, version: str = "") -> Call[Feature]:
    """A feature by its id. With `version` it must be one of that bundle."""
    return Call(
        "FeatureService/GetFeature",
        features_pb.GetFeatureRequest(id=feature_id, bundle_version=version),
        features_pb.GetFeatureResponse,
        lambda answer: Feature.of(answer.feature, answer.bundle_version),
    )


def set_label(feature: Feature, label: str, *, author: str = "") -> Call[Feature]:
    """Corrects the label of a feature, for everybody, and gives the feature. Empty: the automatic one again."""
    version = feature.bundle_version
    return Call(
        "FeatureService/SetLabel",
        features_pb.SetLabelRequest(id=feature.id, bundle_version=version, label=label, author=author),
        features_pb.SetLabelResponse,
        lambda answer: Feature.of(answer.feature, version),
    )


def concepts(text: str = "") -> Pages[Concept]:
    """Concepts of the catalogue whose name or display name contains `text`, in any case; those that begin with it come first."""
    return Pages(
        "FeatureService/ListConcepts",
        features_pb.ListConceptsRequest(page_size=PAGE_SIZE, text=text),
        features_pb.ListConceptsResponse,
        lambda page: map(Concept.of, page.concepts),
    )


def neighbours(of: Feature | str, *, size: int = 10) -> Call[Neighbours]:
    """Features and concepts that are like a feature or a concept (by its name), and those that are opposed to it."""
    if isinstance(of, str):
        request = features_pb.ListNeighboursRequest(concept=of, size=size)
    else:
        reference = control_pb2.FeatureRef(id=of.id, bundle_version=of.bundle_version)
        request = features_pb.ListNeighboursRequest(feature=reference, size=size)
    return Call("FeatureService/ListNeighbours", request, features_pb.ListNeighboursResponse, Neighbours.of)


def items(text: str = "", *, item_ids: Sequence[str] = ()) -> Pages[Item]:
    """All items, those that a text names, best first, or those of some ids."""
    return Pages(
        "ItemService/ListItems",
        items_pb.ListItemsRequest(page_size=PAGE_SIZE, text=text, item_ids=ids_of("item_ids", item_ids)),
        items_pb.ListItemsResponse,
        lambda page: map(Item.of, page.items),
    )


def attributes(name: str = "", *, text: str = "", values: int = 50) -> Call[list[Attribute]]:
    """All attributes, or one, with the values that contain `text`, at most `values` of each."""
    return Call(
        "ItemService/ListAttributes",
        items_pb.ListAttributesRequest(name=name, text=text, values=values),
        items_pb.ListAttributesResponse,
        lambda answer: [Attribute.of(each) for each in answer.attributes],
    )


def append_events(session_id: str, events: Events) -> Call[AppendResult]:
    """Appends events to a session, oldest first, all or none, and creates it. An event sent twice counts once."""
    request = sessions_pb.AppendEventsRequest(session_id=session_id, events=event_messages(events))
    return Call("SessionService/AppendEvents", request, sessions_pb.AppendEventsResponse, AppendResult.of)


def session(session_id: str, *, max_item_ids: int = 0) -> Call[Session]:
    """What is kept of a session, with at most so many of its latest items (0: all that are kept)."""
    request = sessions_pb.GetSessionRequest(session_id=session_id, max_item_ids=max_item_ids)
    answer = sessions_pb.GetSessionResponse
    return Call("SessionService/GetSession", request, answer, lambda response: Session.of(response.session))


def set_controls(session_id: str, controls: Controls) -> Call[int]:
    """Replaces the session's sticky controls; gives its new version."""
    request = sessions_pb.SetControlsRequest(session_id=session_id, controls=messages_of(controls))
    answer = sessions_pb.SetControlsResponse
    return Call("SessionService/SetControls", request, answer, lambda response: int(response.session_version))


def delete_session(session_id: str) -> Call[bool]:
    """Forgets a session; whether there was one."""
    request = sessions_pb.DeleteSessionRequest(session_id=session_id)
    answer = sessions_pb.DeleteSessionResponse
    return Call("SessionService/DeleteSession", request, answer, lambda response: bool(response.existed))


def scenarios() -> Pages[Scenario]:
    """All scenarios, by name."""
    return Pages(
        "ScenarioService/ListScenarios",
        scenarios_pb.ListScenariosRequest(page_size=PAGE_SIZE),
        scenarios_pb.ListScenariosResponse,
        lambda page: map(Scenario.of, page.scenarios),
    )


def scenario(name: str) -> Call[Scenario]:
    """A scenario by its name."""
    request, answer = scenarios_pb.GetScenarioRequest(name=name), scenarios_pb.GetScenarioResponse
    return Call("ScenarioService/GetScenario", request, answer, lambda response: Scenario.of(response.scenario))


def put_scenario(scenario: Scenario, *, author: str = "") -> Call[Scenario]:
    """Creates or replaces a scenario; gives it with its new version. ABORTED if its version is not the one that is kept."""
    request = scenarios_pb.PutScenarioRequest(scenario=scenario.message(), author=author)
    answer = scenarios_pb.PutScenarioResponse
    return Call("ScenarioService/PutScenario", request, answer, lambda response: Scenario.of(response.scenario))


def delete_scenario(name: str, *, version: int = 0, author: str = "") -> Call[bool]:
    """Deletes a scenario of this version (0: of any); whether there was one."""
    request = scenarios_pb.DeleteScenarioRequest(name=name, version=version, author=author)
    answer = scenarios_pb.DeleteScenarioResponse
    return Call("ScenarioService/DeleteScenario", request, answer, lambda response: bool(response.existed))


def scenario_changes(name: str = "") -> Pages[ScenarioChange]:
    """Who changed a scenario, or any: newest first."""
    return Pages(
        "ScenarioService/ListScenarioChanges",
        scenarios_pb.ListScenarioChangesRequest(page_size=PAGE_SIZE, name=name),
        scenarios_pb.ListScenarioChangesResponse,
        lambda page: map(ScenarioChange.of, page.changes),
    )


def replay_scenarios(names: Sequence[str] = ()) -> Pages[ScenarioReplay]:
    """What scenarios do with the bundle that is served, beside the one under which they were put: those of these names, or all, by name."""
    return Pages(
        "ScenarioService/ReplayScenarios",
        scenarios_pb.ReplayScenariosRequest(page_size=PAGE_SIZE, names=names),
        scenarios_pb.ReplayScenariosResponse,
        lambda page: map(ScenarioReplay.of, page.replays),
    )


def model_info() -> Call[ModelInfo]:
    """What is served, and its limits."""
    return Call(
        "ModelService/GetModelInfo", model_pb.GetModelInfoRequest(), model_pb.GetModelInfoResponse, ModelInfo.of
    )


def histories(text: str = "", *, seed: int = 0) -> Pages[SampleHistory]:
    """Histories of real users to try controls on: all, or those with an item whose title has every word of `text`.

    In the order of the bundle, or shuffled by a seed that is not 0. A bundle older than format 1.6 has none.
    """
    return Pages(
        "ModelService/ListHistories",
        model_pb.ListHistoriesRequest(page_size=PAGE_SIZE, text=text, seed=seed),
        model_pb.ListHistoriesResponse,
        lambda page: map(SampleHistory.of, page.histories),
    )


def bundles() -> Call[list[BundleSummary]]:
    """The bundles in the folder of the one that is served, newest first, at most 20."""
    return Call(
        "ModelService/ListBundles",
        model_pb.ListBundlesRequest(),
        model_pb.ListBundlesResponse,
        lambda answer: [BundleSummary.of(each) for each in answer.bundles],
    )


def _releases(method: str, request: Any, answer: type[Message]) -> Call[list[Release]]:
    return Call(
        f"ReleaseService/{method}", request, answer, lambda response: [Release.of(each) for each in response.releases]
    )


def releases() -> Call[list[Release]]:
    """The bundles that the server serves, loads and lets go of, the one it served before, and what it refused."""
    return _releases("ListReleases", releases_pb.ListReleasesRequest(), releases_pb.ListReleasesResponse)


def load_release(bundle: str, *, channel: Channel = "stable", canary_share: float = 0.0) -> Call[list[Release]]:
    """Serves a bundle that lies beside the one that is served: its version, or the name of its folder. Answers when it is served.

    As a canary it answers `canary_share` of the sessions, 0 to 1. Loading takes its time: give the client a long `timeout`.
    """
    request = releases_pb.LoadReleaseRequest(bundle=bundle, channel=CHANNELS[channel], canary_share=canary_share)
    return _releases("LoadRelease", request, releases_pb.LoadReleaseResponse)


def set_canary_share(share: float) -> Call[list[Release]]:
    """0 to 1 of the sessions. Those that the canary answers stay there while it grows."""
    request = releases_pb.SetCanaryShareRequest(canary_share=share)
    return _releases("SetCanaryShare", request, releases_pb.SetCanaryShareResponse)


def promote_canary(version: str = "") -> Call[list[Release]]:
    """Makes the canary the stable release: that of `version`, or whichever there is."""
    return _releases(
        "PromoteCanary", releases_pb.PromoteCanaryRequest(version=version), releases_pb.PromoteCanaryResponse
    )


def roll_back() -> Call[list[Release]]:
    """Ends the canary, or, without one, brings back the release that was stable before."""
    return _releases("RollBack", releases_pb.RollBackRequest(), releases_pb.RollBackResponse)


def _plain(request: Request) -> Request:
    return replace(request, controls=(), receipt=False, parts=with_receipt(request.parts, False))


def _listed(controls: Controls) -> list[Control]:
    return [Control.of(message) for message in messages_of(controls)]


def _results(response: recommendation_pb.BatchRecommendResponse) -> Iterator[Recommendation | CallError]:
    for result in response.results:
        if result.WhichOneof("result") == "failure":
            yield CallError.of(result.failure)
        else:
            yield Recommendation.of(result.response)


def _answers(response: recommendation_pb.BatchRecommendResponse) -> list[Recommendation]:
    """Raises the error of the first that was refused."""
    answers = []
    for result in _results(response):
        if isinstance(result, CallError):
            raise result
        answers.append(result)
    return answers
