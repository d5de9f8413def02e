"""The catalogue over gRPC."""

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from steersman.v1.feature_service_pb2 import (
    FEATURE_KIND_ANCHORED,
    FEATURE_KIND_DISCOVERED,
    FEATURE_KIND_UNSPECIFIED,
    Feature,
    GetFeatureRequest,
    ListConceptsRequest,
    ListFeaturesRequest,
)
from steersman_service.bundle.bundle import Bundle
from steersman_service.cli.client import Client
from steersman_service.cli.server import HERE
from tests.service.bundle.kinds import (
    ANCHORED,
    DEAD,
    OF_ANOTHER_KIND,
    RARE_STEERABLE,
    STEERABLE,
    STRENGTHS,
    as_older,
    listed,
    with_kinds,
)
from tests.serving import Running, failure, serving, settings_for


def ids(features: Iterable[Feature]) -> list[int]:
    return [feature.id for feature in features]


def pages(server: Running, **query: Any) -> list[Feature]:
    """All pages, one after the other."""
    features: list[Feature] = []
    token = ""
    while True:
        page = server.feature.ListFeatures(ListFeaturesRequest(page_token=token, **query))
        features += page.features
        token = page.next_page_token
        if not token:
            assert page.total_size == len(features)
            return features


@pytest.fixture(scope="module")
def told(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serves a bundle that says of what kind its features are, and how strong its concepts are."""
    folder = tmp_path_factory.mktemp("told")
    with serving(settings_for(folder, with_kinds(bundle_dir, folder))) as running:
        yield running


@pytest.fixture(scope="module")
def older(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serves one that does not say."""
    folder = tmp_path_factory.mktemp("older")
    with serving(settings_for(folder, as_older(bundle_dir, folder))) as running:
        yield running


@pytest.mark.parametrize("size", [1, 7, 63, 64, 1000])
def test_pages_give_every_feature_once(server: Running, bundle: Bundle, size: int) -> None:
    features = pages(server, page_size=size, include_rare=True)
    assert sorted(feature.id for feature in features) == list(range(bundle.manifest.shape.features))
    assert features == pages(server, include_rare=True)


def test_the_default_page_has_fifty(server: Running, bundle: Bundle) -> None:
    page = server.feature.ListFeatures(ListFeaturesRequest(include_rare=True))
    assert (len(page.features), page.total_size) == (50, bundle.manifest.shape.features)
    assert page.bundle_version == bundle.version


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_useful_features_come_first_and_rare_ones_are_asked_for(told: Running, bundle: Bundle, size: int) -> None:
    count = bundle.manifest.shape.features
    assert ids(pages(told, page_size=size)) == listed(count)
    assert ids(pages(told, page_size=size, include_rare=True)) == listed(count, rare=True)
    assert ids(pages(told, page_size=size, steerable_only=True)) == STEERABLE
    assert ids(pages(told, steerable_only=True, include_rare=True)) == [RARE_STEERABLE, *STEERABLE]
    assert DEAD not in ids(pages(told, text="no clear", page_size=1000))
    assert ids(pages(told, text="no clear", page_size=1000, include_rare=True))[-1] == DEAD


def test_kinds(told: Running, bundle: Bundle) -> None:
    assert {feature.id for feature in pages(told, kind=FEATURE_KIND_ANCHORED)} == ANCHORED
    discovered = pages(told, kind=FEATURE_KIND_DISCOVERED, page_size=3)
    everything = listed(bundle.manifest.shape.features)
    assert ids(discovered) == [feature for feature in everything if feature not in {*ANCHORED, OF_ANOTHER_KIND}]
    assert {feature.kind for feature in discovered} == {FEATURE_KIND_DISCOVERED}
    other = told.feature.GetFeature(GetFeatureRequest(id=OF_ANOTHER_KIND)).feature
    assert other.kind == FEATURE_KIND_UNSPECIFIED
    anchored = told.feature.GetFeature(GetFeatureRequest(id=61)).feature
    assert (anchored.kind, anchored.clear) == (FEATURE_KIND_ANCHORED, True)
    unclear = told.feature.GetFeature(GetFeatureRequest(id=7)).feature
    assert (unclear.kind, unclear.clear, unclear.label) == (FEATURE_KIND_DISCOVERED, False, "no clear meaning")
    assert unclear.label_confidence == 0
    wrong = failure(told.feature.ListFeatures, ListFeaturesRequest(kind=7))  # type: ignore[arg-type]
    assert wrong.fields.keys() == {"kind"}


def test_an_older_bundle_has_no_kinds(older: Running, bundle: Bundle) -> None:
    features = sorted(pages(older, include_rare=True), key=lambda feature: feature.id)
    assert {feature.kind for feature in features} == {FEATURE_KIND_UNSPECIFIED}
    described = [bool(parts) for parts in bundle.features["description"].to_pylist()]
    assert [feature.clear for feature in features] == described
    assert 0 < sum(described) < len(described)
    assert pages(older, kind=FEATURE_KIND_DISCOVERED, include_rare=True) == []


def test_search(server: Running) -> None:
    everything = pages(server)
    found = pages(server, text="HORROR", page_size=3)
    assert found
    for feature in everything:
        text = " ".join([feature.label, feature.association.value, *feature.top_item_titles]).lower()
        assert (feature in found) == ("horror" in text)
    steerable = pages(server, steerable_only=True)
    assert steerable == [feature for feature in everything if feature.steerable]
    assert pages(server, text="nothing is called so") == []


def test_a_token_holds_for_its_own_query(server: Running) -> None:
    token = server.feature.ListFeatures(ListFeaturesRequest(page_size=5)).next_page_token
    other_bundle = base64.urlsafe_b64encode(b"5:0123456789abcdef").decode()
    for request in (
        ListFeaturesRequest(page_token=token, steerable_only=True),
        ListFeaturesRequest(page_token=token, text="a"),
        ListFeaturesRequest(page_token=token, include_rare=True),
        ListFeaturesRequest(page_token=token, kind=FEATURE_KIND_DISCOVERED),
        *(ListFeaturesRequest(page_token=bad) for bad in ("x", "ü", token + "=", token[:-4], other_bundle, "LTE6")),
    ):
        assert failure(server.feature.ListFeatures, request).fields.keys() == {"page_token"}


def test_oversized_queries(server: Running) -> None:
    list_features, list_concepts = server.feature.ListFeatures, server.feature.ListConcepts
    assert failure(list_features, ListFeaturesRequest(page_size=1001)).fields.keys() == {"page_size"}
    assert failure(list_features, ListFeaturesRequest(text="x" * 257)).fields.keys() == {"text"}
    assert failure(list_concepts, ListConceptsRequest(text="x" * 257)).fields.keys() == {"text"}


def test_one_feature(server: Running, bundle: Bundle) -> None:
    got = server.feature.GetFeature(GetFeatureRequest(id=3, bundle_version=bundle.version))
    assert [got.feature] == [feature for feature in pages(server, include_rare=True) if feature.id == 3]
    assert server.feature.GetFeature(GetFeatureRequest(id=3)) == got
    missing = failure(server.feature.GetFeature, GetFeatureRequest(id=bundle.manifest.shape.features))
    assert missing.code is grpc.StatusCode.NOT_FOUND
    assert "id" in missing.message
    stale = failure(server.feature.GetFeature, GetFeatureRequest(id=3, bundle_version="x"))
    assert stale.code is grpc.StatusCode.FAILED_PRECONDITION
    assert stale.metadata["field"] == "bundle_version"


def test_concepts(server: Running, bundle: Bundle) -> None:
    listed = server.feature.ListConcepts(ListConceptsRequest())
    assert [concept.name for concept in listed.concepts] == bundle.concepts["name"].to_pylist()
    assert listed.bundle_version == bundle.version
    (horror,) = server.feature.ListConcepts(ListConceptsRequest(text="horr")).concepts
    assert (horror.name, horror.attribute, horror.value) == ("genres:Horror", "genres", "Horror")
    assert horror.terms
    assert horror.HasField("effect")


def test_how_strong_a_concept_is(told: Running) -> None:
    concepts = {concept.name: concept for concept in told.feature.ListConcepts(ListConceptsRequest()).concepts}
    for name, (strength, strength_95) in STRENGTHS.items():
        assert concepts[name].strength == pytest.approx(strength)
        assert concepts[name].strength_95 == pytest.approx(strength_95)
    beyond = {name for name, concept in concepts.items() if concept.beyond_natural}
    assert beyond == {"genres:Horror"}, "neither one whose mean is 2, nor one that only some users have beyond it"


def test_an_older_bundle_says_of_a_concept_what_its_weights_say(older: Running) -> None:
    strong, *others = older.feature.ListConcepts(ListConceptsRequest()).concepts
    assert (strong.strength, strong.strength_95, strong.beyond_natural) == (2.5, 0, True)
    assert {(other.strength, other.strength_95, other.beyond_natural) for other in others} == {(1.5, 0, False)}


@pytest.mark.parametrize("size", [0, 1, 3, 1000])
def test_pages_give_every_concept_once_in_order(server: Running, bundle: Bundle, size: int) -> None:
    names: list[str] = []
    request = ListConceptsRequest(page_size=size)
    while True:
        page = server.feature.ListConcepts(request)
        names += [concept.name for concept in page.concepts]
        assert (page.total_size, page.bundle_version) == (len(bundle.concepts), bundle.version)
        assert len(page.concepts) == size or not page.next_page_token
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert names == bundle.concepts["name"].to_pylist()


def test_a_token_of_concepts_holds_for_its_own_query(server: Running) -> None:
    of_concepts = server.feature.ListConcepts(ListConceptsRequest(page_size=1)).next_page_token
    of_features = server.feature.ListFeatures(ListFeaturesRequest(page_size=1)).next_page_token
    for request in (
        ListConceptsRequest(page_token=of_concepts, text="a"),
        *(ListConceptsRequest(page_token=bad) for bad in ("x", "ü", of_concepts[:-4], of_features, "9" * 9999)),
    ):
        assert failure(server.feature.ListConcepts, request).fields.keys() == {"page_token"}
    assert failure(server.feature.ListFeatures, ListFeaturesRequest(page_token=of_concepts)).fields.keys() == {
        "page_token"
    }
    assert failure(server.feature.ListConcepts, ListConceptsRequest(page_size=1001)).fields.keys() == {"page_size"}


def test_pages_end_where_a_message_would_be_too_large(bundle_dir: Path, tmp_path: Path, bundle: Bundle) -> None:
    with serving(settings_for(tmp_path, bundle_dir, max_message_bytes=1024)) as server:
        first = server.feature.ListConcepts(ListConceptsRequest())
        assert first.next_page_token
        client = Client(server.channel, HERE)
        concepts = client.concepts()
        assert [concept.name for concept in concepts.concepts] == bundle.concepts["name"].to_pylist()
        assert not concepts.next_page_token
        features = client.features(1000, include_rare=True)
        assert sorted(ids(features.features)) == list(range(bundle.manifest.shape.features))
        assert len(client.features(7).features) == 7
