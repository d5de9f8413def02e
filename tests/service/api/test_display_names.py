"""Names for people of concepts, and of the controls that an answer says were applied; over gRPC."""

import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, FeatureRef, Goal, ItemSet
from steersman.v1.feature_service_pb2 import Concept, ListConceptsRequest, ListFeaturesRequest
from steersman.v1.recommendation_service_pb2 import ANSWER_PART_NONE, History, RecommendRequest
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.catalogue import CLUSTERS, _display_name
from steersman_service.bundle.items import Items
from tests.serving import Running


def concepts(server: Running) -> dict[str, Concept]:
    return {concept.name: concept for concept in server.feature.ListConcepts(ListConceptsRequest()).concepts}


@pytest.mark.parametrize(
    ("attribute", "value", "alone", "name"),
    [
        ("genres", "Horror", True, "Horror"),
        ("genres", "Horror", False, "Horror (genres)"),
        ("made_in", "France", False, "France (made in)"),
        (CLUSTERS, "Iron Maiden / Metallica", True, "Iron Maiden / Metallica"),
        (CLUSTERS, "Horror", False, "Horror (cluster)"),
        ("year", "", True, "Newer (year)"),
        ("popularity", "", True, "More popular"),
        ("exposure", "", True, "Shown more often"),
        ("running_time", "", True, "Higher running time"),
        ("", "", True, "own"),
    ],
)
def test_a_concept_reads_well(attribute: str, value: str, alone: bool, name: str) -> None:
    assert _display_name(Concept(name="own", attribute=attribute, value=value), alone=alone) == name


def test_no_name_of_a_concept_is_an_identifier(server: Running) -> None:
    names = [concept.display_name for concept in concepts(server).values()]
    assert len(names) == len(set(names)) > 4
    assert not [name for name in names if CLUSTERS in name or "_" in name or not name]


def test_applied_controls_have_names(server: Running, bundle: Bundle, items: Items) -> None:
    (feature, *_) = server.feature.ListFeatures(ListFeaturesRequest(page_size=1)).features
    cluster = next(iter(items.attributes[CLUSTERS].rows_of))  # type: ignore[union-attr]
    targets = [
        ({"concept": "genres:Horror"}, concepts(server)["genres:Horror"].display_name),
        ({"feature": FeatureRef(id=feature.id, bundle_version=bundle.version)}, feature.label),
        ({"attribute": AttributeRef(name="genres", value="Horror")}, "genres: Horror"),
        ({"attribute": AttributeRef(name="year")}, "year"),
        ({"attribute": AttributeRef(name=CLUSTERS, value=cluster)}, cluster),
        ({"items": ItemSet(item_ids=["102", "106", "110", "102"])}, "3 items"),
        ({"items": ItemSet(item_ids=["102"])}, "1 item"),
        ({"words": "horror"}, '"horror"'),
    ]
    for target, name in targets:
        control = Control(operation=OPERATION_ADD, strength=0.5, **target)  # type: ignore[arg-type]
        request = RecommendRequest(
            history=History(item_ids=items.ids[:3]), controls=[control], parts=[ANSWER_PART_NONE]
        )
        for _ in range(2):  # parsed, and remembered
            (applied,) = server.recommendation.Recommend(request).applied_controls
            assert applied.display_name == name
    goal = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=1, goal=Goal(least_overlap=0.5))
    (applied,) = server.recommendation.Recommend(RecommendRequest(controls=[goal])).applied_controls
    assert applied.display_name == "Horror"
