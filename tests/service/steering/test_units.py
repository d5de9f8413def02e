"""Units of controls, over gRPC: the same strength is a comparable push, and several controls on one thing compose."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.control_pb2 import (
    OPERATION_ADD,
    OPERATION_SCALE,
    OPERATION_SET,
    Control,
    FeatureRef,
    Operation,
)
from steersman.v1.feature_service_pb2 import Feature, ListConceptsRequest, ListFeaturesRequest
from steersman.v1.recommendation_service_pb2 import Filters, History, RecommendRequest, RecommendResponse
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.catalogue import Catalogue, Units
from steersman_service.bundle.items import Items
from steersman_service.errors import BundleError
from tests.serving import Running

CONCEPT = "genres:Horror"
STRENGTHS = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=5)


def ask(server: Running, controls: Sequence[Control]) -> RecommendResponse:
    history, filters = History(item_ids=["103", "107", "111"]), Filters(include_seen=True)
    return server.recommendation.Recommend(RecommendRequest(history=history, controls=controls, k=60, filters=filters))


def horror(strength: float) -> Control:
    return Control(concept=CONCEPT, operation=OPERATION_ADD, strength=strength)


def assert_same_lists(one: RecommendResponse, other: RecommendResponse) -> None:
    first, second = ({item.item_id: item.score for item in answer.items} for answer in (one, other))
    assert first.keys() == second.keys()
    assert list(first.values()) == pytest.approx([second[item] for item in first], rel=2e-4, abs=2e-4)


@pytest.fixture(scope="module")
def steerable(server: Running) -> Feature:
    """A feature whose units, up and down, are neither 1 nor each other."""
    answer = server.feature.ListFeatures(ListFeaturesRequest(steerable_only=True, page_size=1000))
    return next(f for f in answer.features if len({1.0, f.unit_up, f.unit_down}) == 3)


def turned(server: Running, bundle: Bundle, feature: Feature, *given: tuple[Operation, float]) -> RecommendResponse:
    ref = FeatureRef(id=feature.id, bundle_version=bundle.version)
    return ask(server, [Control(feature=ref, operation=how, strength=strength) for how, strength in given])


def test_add_counts_in_the_unit_of_its_direction_and_what_is_answered_is_natural(
    server: Running, bundle: Bundle, steerable: Feature
) -> None:
    wanted = {
        (OPERATION_ADD, 0.5): 0.5 * steerable.unit_up,
        (OPERATION_ADD, -0.5): -0.5 * steerable.unit_down,
        (OPERATION_SET, 0.5): 0.5,
        (OPERATION_SCALE, 0.5): 0.0,
    }
    for asked, natural in wanted.items():
        (applied,) = turned(server, bundle, steerable, asked).applied_controls
        assert applied.control.strength == asked[1]
        assert applied.edits[0].strength == pytest.approx(natural)


def test_a_feature_turned_both_ways_is_where_it_was(server: Running, bundle: Bundle, steerable: Feature) -> None:
    both = turned(server, bundle, steerable, (OPERATION_ADD, 0.5), (OPERATION_ADD, -0.5))
    assert sum(edit.strength for applied in both.applied_controls for edit in applied.edits) == 0
    assert_same_lists(both, ask(server, []))
    mixed = turned(server, bundle, steerable, (OPERATION_ADD, -0.25), (OPERATION_ADD, 1.0))
    assert_same_lists(mixed, turned(server, bundle, steerable, (OPERATION_ADD, 0.75)))
    assert_same_lists(ask(server, []), turned(server, bundle, steerable, (OPERATION_ADD, 0.0)))


@given(strengths=STRENGTHS)
@settings(deadline=None, max_examples=30)
def test_controls_on_one_concept_are_one_of_their_sum(server: Running, strengths: list[float]) -> None:
    total = float(np.float32(sum(strengths)))
    many, one = ask(server, [horror(strength) for strength in strengths]), ask(server, [horror(total)])
    assert_same_lists(many, one)
    edits = [[edit.strength for edit in applied.edits] for applied in many.applied_controls]
    whole = sum(edit.strength for edit in one.applied_controls[0].edits)
    assert sum(map(sum, edits)) == pytest.approx(whole, rel=1e-3, abs=1e-4)
    if abs(whole) > 1e-3:
        for strength, own in zip(strengths, edits, strict=True):
            assert sum(own) == pytest.approx(whole * strength / total, rel=1e-2, abs=1e-3)


def test_others_are_solved_beside_a_concept_that_is_named_twice(server: Running) -> None:
    war = Control(concept="genres:War", operation=OPERATION_ADD, strength=0.7)
    answer = ask(server, [horror(0.4), war, horror(0.4)])
    alone = {name: ask(server, [only]).applied_controls[0] for name, only in (("horror", horror(0.8)), ("war", war))}
    first, between, last = (applied.edits[0] for applied in answer.applied_controls)
    assert first == last
    assert 2 * first.strength == pytest.approx(alone["horror"].edits[0].strength, rel=1e-5)
    assert between == alone["war"].edits[0]


def test_the_catalogue_says_the_units_and_what_they_push(server: Running, bundle: Bundle) -> None:
    concepts = server.feature.ListConcepts(ListConceptsRequest()).concepts
    units = bundle.concepts.select(["unit_up", "unit_down", "push_up", "push_down"]).to_pylist()
    for concept, row in zip(concepts, units, strict=True):
        assert {name: getattr(concept, name) for name in row} == pytest.approx(row)
        assert 0 < concept.push_up <= 1
    for feature in bundle.features.to_pylist():
        assert {feature["unit_up"], feature["unit_down"]} == {1.0} or feature["push_up"] is not None


def test_a_bundle_without_units_has_those_of_its_own(bundle: Bundle, items: Items) -> None:
    columns = ["unit_up", "unit_down", "push_up", "push_down"]
    features, concepts = (table.drop_columns(columns) for table in (bundle.features, bundle.concepts))
    catalogue = Catalogue(replace(bundle, features=features, concepts=concepts), items)
    assert {*catalogue.feature_units, *catalogue.concept_units} == {Units(1.0, 1.0)}
    assert catalogue.concepts[0].push_up == 0


@pytest.mark.parametrize("unit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_unit_that_is_none_is_refused(bundle: Bundle, items: Items, unit: float) -> None:
    column = pa.array([unit] * bundle.concepts.num_rows, pa.float32())
    at = bundle.concepts.schema.get_field_index("unit_down")
    broken = bundle.concepts.set_column(at, "unit_down", column)
    with pytest.raises(BundleError, match="unit_down"):
        Catalogue(replace(bundle, concepts=broken), items)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"curve_strengths": [-1.0, 0.0, 0.0]}, "do not rise"),
        ({"curve_strengths": [0.0, 1.0]}, "cannot be understood"),
        ({"curve_shares": [0.0, float("nan"), 1.0]}, "no number"),
        ({"curve_ndcg_kept": [1.0, 1.0, float("inf")]}, "no number"),
    ],
)
def test_a_curve_that_is_none_is_refused(
    bundle: Bundle, items: Items, columns: dict[str, list[float]], why: str
) -> None:
    concepts, count = bundle.concepts, bundle.concepts.num_rows
    right = {"curve_strengths": [-1.0, 0.0, 1.0], "curve_shares": [0.0, 0.5, 1.0], "curve_ndcg_kept": [1.0, 1.0, 0.5]}
    for name, values in (right | columns).items():
        at = concepts.schema.get_field_index(name)
        concepts = concepts.set_column(at, name, pa.array([values] * count, pa.list_(pa.float32())))
    with pytest.raises(BundleError, match=why):
        Catalogue(replace(bundle, concepts=concepts), items)
