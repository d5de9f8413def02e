"""The catalogue over gRPC."""

import base64
from pathlib import Path
from typing import Any

import grpc
import pytest

from steersman.v1.feature_service_pb2 import Feature, GetFeatureRequest, ListConceptsRequest, ListFeaturesRequest
from steersman_service.bundle.bundle import Bundle
from steersman_service.cli.client import Client
from tests.serving import Running, failure, serving, settings_for


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


@pytest.mark.parametrize("size", [1, 7, 63, 64, 1000])
def test_pages_give_every_feature_once_in_order(server: Running, bundle: Bundle, size: int) -> None:
    assert [feature.id for feature in pages(server, page_size=size)] == list(range(bundle.manifest.shape.features))


def test_the_default_page_has_fifty(server: Running, bundle: Bundle) -> None:
    page = server.feature.ListFeatures(ListFeaturesRequest())
    assert (len(page.features), page.total_size, page.bundle_version) == (50, 64, bundle.version)


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
    assert got.feature == pages(server)[3]
    assert server.feature.GetFeature(GetFeatureRequest(id=3)) == got
    missing = failure(server.feature.GetFeature, GetFeatureRequest(id=64))
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
        client = Client(server.channel, "", 10)
        concepts = client.concepts()
        assert [concept.name for concept in concepts.concepts] == bundle.concepts["name"].to_pylist()
        assert not concepts.next_page_token
        features = client.features(1000)
        assert [feature.id for feature in features.features] == list(range(bundle.manifest.shape.features))
        assert len(client.features(7).features) == 7
