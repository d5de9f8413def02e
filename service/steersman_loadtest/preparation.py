"""Prepares a load test: reads the catalogue, the items of attribute values, and the answers to canaries."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import islice
from typing import Any

import grpc

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.feature_service_pb2 import Concept, Feature, ListConceptsRequest, ListFeaturesRequest
from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.model_service_pb2 import GetModelInfoRequest, GetModelInfoResponse
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman.v1.recommendation_service_pb2 import RecommendRequest, RecommendResponse
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman_loadtest.canaries import MARGIN, Canary, ranked
from steersman_loadtest.errors import LoadTestError
from steersman_loadtest.histories import Histories, make_up_histories
from steersman_loadtest.mix import Mix
from steersman_loadtest.scenario import FEATURE_STRENGTHS, AttributeValue, Scenario

MAX_FEATURES = 10_000
PAGE_SIZE = 1000
MAX_VALUES = 20
MAX_POPULAR = 100
# Canaries without controls, and concepts that further ones steer.
CANARIES = 24
CANARY_CONCEPTS = 8
# The effect of a concept is checked if the bundle states at least this effect on the share of its items.
LEAST_EFFECT = 0.1
MOST_UNKNOWN = 0.5


class BlockingClient:
    """Blocking calls to the server."""

    def __init__(self, channel: grpc.Channel, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._models, self._catalogue = ModelServiceStub(channel), FeatureServiceStub(channel)
        self._recommendations = RecommendationServiceStub(channel)

    def info(self) -> GetModelInfoResponse:
        return self._models.GetModelInfo(GetModelInfoRequest(), timeout=self._timeout)

    def concepts(self) -> list[Concept]:
        pages = self._pages(self._catalogue.ListConcepts, ListConceptsRequest())
        return [concept for page in pages for concept in page.concepts]

    def features(self) -> list[Feature]:
        """The first MAX_FEATURES, rare ones, too."""
        request = ListFeaturesRequest(page_size=PAGE_SIZE, include_rare=True)
        pages = self._pages(self._catalogue.ListFeatures, request)
        return list(islice((feature for page in pages for feature in page.features), MAX_FEATURES))

    def _pages(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        page = method(request, timeout=self._timeout)
        yield page
        while page.next_page_token:
            request.page_token = page.next_page_token
            page = method(request, timeout=self._timeout)
            yield page

    def recommend(self, request: RecommendRequest) -> RecommendResponse:
        return self._recommendations.Recommend(request, timeout=self._timeout)

    def longer_answer(self, request: RecommendRequest) -> RecommendResponse:
        """The answer with MARGIN further items."""
        longer = RecommendRequest()
        longer.CopyFrom(request)
        longer.k += MARGIN
        return self.recommend(longer)


def prepare(
    channel: grpc.Channel, address: str, mix: Mix, histories: Histories | None, *, seed: int, timeout_seconds: float
) -> Scenario:
    """Reads from the server what clients need. Without `histories`, some are made up of the catalogue's items.

    Raises LoadTestError if the mix asks for what the bundle does not have, or if the histories are of other items than
    the bundle's; grpc.RpcError if the server does not answer.
    """
    server = BlockingClient(channel, timeout_seconds)
    info, concepts, features = server.info(), server.concepts(), server.features()
    alive = [feature.id for feature in features if feature.scale]
    _check_mix(mix, info, concepts, alive)
    values = dict(_complete_values(server, info, _named_values(concepts, features)))
    known = {item_id for feature in features for item_id in feature.top_item_ids}.union(*values.values())
    histories = histories or make_up_histories(sorted(known), seed)
    events = Counter(item_id for history in histories.item_ids for item_id in history if item_id in known)
    scenario = Scenario(
        address=address,
        info=info,
        mix=mix,
        histories=histories,
        concepts=[concept.name for concept in concepts],
        features=alive,
        values=values,
        known=known,
        popular=[item_id for item_id, _ in events.most_common(MAX_POPULAR)],
    )
    return _with_canaries(scenario, server, concepts, random.Random(seed))


def _check_mix(mix: Mix, info: GetModelInfoResponse, concepts: Sequence[Concept], features: Sequence[int]) -> None:
    if mix.steered and mix.concepts and not concepts:
        raise LoadTestError("the bundle has no concepts: steer features alone (--concepts 0), or nothing (--steered 0)")
    if mix.steered and mix.concepts < 1 and not features:
        raise LoadTestError("the bundle has no feature that is alive: steer concepts alone (--concepts 1)")
    if mix.k + MARGIN > info.limits.k:
        raise LoadTestError(f"k: {mix.k} and {MARGIN} to spare are more than the {info.limits.k} that the server gives")


def _named_values(concepts: Iterable[Concept], features: Iterable[Feature]) -> Iterable[AttributeValue]:
    """Values that the catalogue names, those of concepts first."""
    named = [AttributeValue(concept.attribute, concept.value) for concept in concepts]
    named += [AttributeValue(feature.association.attribute, feature.association.value) for feature in features]
    return dict.fromkeys(value for value in named if all(value))


def _complete_values(
    server: BlockingClient, info: GetModelInfoResponse, named: Iterable[AttributeValue]
) -> Iterator[tuple[AttributeValue, Set[str]]]:
    """The items of MAX_VALUES values, except values with more items than an answer holds."""
    for value in islice(named, MAX_VALUES):
        answer = server.recommend(RecommendRequest(k=info.limits.k, filters=value.filters()))
        if 0 < answer.eligible_items == len(answer.items):
            yield value, frozenset(item.item_id for item in answer.items)


def _with_canaries(
    scenario: Scenario, server: BlockingClient, concepts: Sequence[Concept], rng: random.Random
) -> Scenario:
    mix, everyone = scenario.mix, scenario.histories.item_ids
    chosen = rng.sample(everyone, min(CANARIES, len(everyone)))
    histories = [scenario.history(history[: rng.randint(1, len(history))]) for history in chosen]
    requests = [RecommendRequest(history=history, k=mix.k) for history in histories]
    answers = [server.longer_answer(request) for request in requests]
    _check_known(scenario, answers)
    plain = [Canary(request, ranked(answer.items)) for request, answer in zip(requests, answers, strict=True)]
    steered: list[Canary] = []
    if mix.steered and mix.concepts < 1:
        steered += _feature_canaries(scenario, server, requests, rng)
    if mix.steered and mix.concepts:
        steered += _concept_canaries(scenario, server, concepts, plain)
    rng.shuffle(steered)
    return replace(scenario, plain_canaries=plain, steered_canaries=steered)


def _check_known(scenario: Scenario, answers: Iterable[RecommendResponse]) -> None:
    uses = [answer.history_use for answer in answers]
    unknown = sum(use.unknown_events for use in uses)
    events = unknown + sum(use.used_events for use in uses)
    if events and unknown > MOST_UNKNOWN * events:
        raise LoadTestError(
            f"{scenario.histories.source}: {unknown} of {events} events are of items that the bundle "
            f"(data: {scenario.info.data}) does not know; give the interactions that it was trained on"
        )


def _feature_canaries(
    scenario: Scenario, server: BlockingClient, requests: Sequence[RecommendRequest], rng: random.Random
) -> Iterator[Canary]:
    operations = list(FEATURE_STRENGTHS)
    for index, request in enumerate(requests):
        control = scenario.feature_control(rng.choice(scenario.features), operations[index % len(operations)])
        steered = _steered(request, control)
        yield Canary(steered, ranked(server.longer_answer(steered).items))


def _concept_canaries(
    scenario: Scenario, server: BlockingClient, concepts: Iterable[Concept], plain: Iterable[Canary]
) -> Iterator[Canary]:
    """Some concepts at strength 1, each on every other history of the plain canaries."""
    for concept in sorted(concepts, key=_effect, reverse=True)[:CANARY_CONCEPTS]:
        having = scenario.values.get(AttributeValue(concept.attribute, concept.value), frozenset())
        judged = concept.name if having and _effect(concept) >= LEAST_EFFECT else ""
        control = Control(concept=concept.name, operation=OPERATION_ADD, strength=1.0)
        for unsteered in islice(plain, 0, None, 2):
            request = _steered(unsteered.request, control)
            canary = Canary(request, ranked(server.longer_answer(request).items), judged, having)
            before = [item.item_id for item in unsteered.reference[: scenario.mix.k]]
            yield canary._replace(plain_share=canary.share(before))


def _effect(concept: Concept) -> float:
    return concept.effect.share_after - concept.effect.share_before


def _steered(request: RecommendRequest, control: Control) -> RecommendRequest:
    return RecommendRequest(history=request.history, k=request.k, controls=[control])
