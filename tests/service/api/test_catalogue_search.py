"""The catalogue as people use it: ranked search, by items, neighbours, attributes; over gRPC."""

import math
import shutil
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, Control, FeatureRef, ItemSet
from steersman.v1.feature_service_pb2 import Concept, ListConceptsRequest, ListFeaturesRequest, ListNeighboursRequest
from steersman.v1.item_service_pb2 import ListAttributesRequest
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman_service.api.release import Release
from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Items
from steersman_service.settings import load_settings
from tests.service.bundle.test_bundle import resign
from tests.serving import Running, failure


@pytest.fixture
def catalogue(bundle_dir: Path, tmp_path: Path) -> Catalogue:
    """Labels, values and titles of its first features are told apart."""
    folder = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    table = pq.read_table(folder / "features.parquet")
    rows = table.to_pylist()
    for row in rows:
        row.update(label="nothing", value="none", top_items=[], steerable=False, density=0.1)
    rows[1].update(label="Warlike")
    rows[2].update(label="a War")
    rows[3].update(value="War")
    rows[4].update(value="Warm")
    rows[5].update(top_items=[0])
    rows[6].update(label="War (old)", steerable=True)
    pq.write_table(table.from_pylist(rows, schema=table.schema), folder / "features.parquet")
    items = pq.read_table(folder / "items.parquet")
    titles = pa.array(["Cold War", *items["title"].to_pylist()[1:]], items.schema.field("title").type)
    pq.write_table(items.set_column(items.column_names.index("title"), "title", titles), folder / "items.parquet")
    resign(folder)
    bundle = load_bundle(folder, "onnx")
    return Catalogue(bundle, Items(bundle.items))


def test_labels_come_before_values_and_titles_and_whole_words_before_parts(catalogue: Catalogue) -> None:
    assert [feature.id for feature in catalogue.search_features("wAr")] == [6, 2, 1, 3, 4, 5]
    assert catalogue.search_features("(") == [catalogue.features[6]]
    assert len(catalogue.search_features("")) == len(catalogue.features)


def test_concepts_are_found_by_their_names_and_by_those_for_people(catalogue: Catalogue) -> None:
    names = [
        ("genres:Metal", "Metal"),
        ("year", "Newer (year)"),
        ("co_consumption:Iron Maiden / Metallica", "Iron Maiden / Metallica"),
        ("popularity", "More popular"),
        ("metals:Iron", "Iron (metals)"),
    ]
    catalogue.concepts[:] = [Concept(name=name, display_name=shown) for name, shown in names]

    def found(text: str) -> list[int]:
        return [names.index((concept.name, concept.display_name)) for concept in catalogue.search_concepts(text)]

    assert found("nEWer") == [1]
    assert found("Iron Maiden") == [2]
    assert found("metal") == [0, 4, 2], "those of which a name begins with it come first"
    assert found("pop") == [3]
    assert found("(year)") == [1]
    assert found("xyzzy") == []
    assert found("") == [0, 1, 2, 3, 4]


def test_pages_of_concepts_that_contain_a_text_give_each_once_in_order(server: Running) -> None:
    whole = server.feature.ListConcepts(ListConceptsRequest(text="m"))
    names = [concept.name for concept in whole.concepts]
    assert (names[0], names[-1]) == ("popularity", "exposure"), "More popular, ..., Shown more often"
    assert whole.total_size == len(names) > 3
    request, paged = ListConceptsRequest(text="m", page_size=2), []
    for _ in range(len(names)):
        page = server.feature.ListConcepts(request)
        paged += [concept.name for concept in page.concepts]
        assert page.total_size == len(names)
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert paged == names
    (newer,) = server.feature.ListConcepts(ListConceptsRequest(text="newer")).concepts
    assert newer.name == "year"


def test_features_that_fire_on_items(server: Running, bundle: Bundle) -> None:
    horror = [row["item_id"] for row in bundle.items.to_pylist() if row["genres"] == ["Horror"]][:5]
    found = server.feature.ListFeatures(ListFeaturesRequest(item_ids=horror, include_rare=True))
    assert 0 < found.total_size < len(bundle.features)
    anchored = server.feature.ListConcepts(ListConceptsRequest(text="genres:Horror")).concepts[0].terms[0].feature_id
    assert anchored in [feature.id for feature in found.features[:3]]
    again = server.feature.ListFeatures(ListFeaturesRequest(item_ids=[*horror[::-1], horror[0]], include_rare=True))
    assert again.features == found.features


def test_pages_of_features_by_items_belong_to_these_items(server: Running) -> None:
    page = server.feature.ListFeatures(ListFeaturesRequest(item_ids=["100"], page_size=1))
    token = page.next_page_token
    assert token
    failed = failure(server.feature.ListFeatures, ListFeaturesRequest(item_ids=["101"], page_token=token))
    assert "page_token" in failed.fields


def test_items_that_are_unknown_or_too_many(server: Running) -> None:
    failed = failure(server.feature.ListFeatures, ListFeaturesRequest(item_ids=["100", "no", "\x00"]))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(failed.fields) == {"item_ids[1]", "item_ids[2]"}
    failed = failure(server.feature.ListFeatures, ListFeaturesRequest(item_ids=["100"] * 101))
    assert "at most 100" in failed.fields["item_ids"]


def test_neighbours_are_correlations_of_what_is_added(server: Running, bundle: Bundle) -> None:
    aims = Release.of(bundle, load_settings()).controls.targets.aims
    change_FN = aims.directions_FD @ bundle.items_ND.T
    reference = FeatureRef(id=64, bundle_version=bundle.version)
    near = server.feature.ListNeighbours(ListNeighboursRequest(feature=reference, size=100))
    assert near.alike[0].concept == server.feature.ListConcepts(ListConceptsRequest()).concepts[0].name
    assert near.alike[0].likeness == pytest.approx(1, abs=1e-5)
    for neighbour in (*near.alike, *near.opposed):
        if neighbour.WhichOneof("of") == "feature_id":
            pair = change_FN[[64, neighbour.feature_id]]
            covariance = np.cov(pair, aweights=aims.weights_N)
            wanted = covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])
            assert neighbour.likeness == pytest.approx(wanted, abs=1e-4)
            assert neighbour.feature_id != 64
    likenesses = [each.likeness for each in near.alike]
    assert likenesses == sorted(likenesses, reverse=True)
    assert [each.likeness for each in near.opposed] == sorted(each.likeness for each in near.opposed)
    assert all(each.likeness < 0 for each in near.opposed)
    few = server.feature.ListNeighbours(ListNeighboursRequest(concept="genres:War", size=2))
    assert max(len(few.alike), len(few.opposed)) <= 2


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ListNeighboursRequest(), "of"),
        (ListNeighboursRequest(concept="genres:Horor"), "concept"),
        (ListNeighboursRequest(concept="genres:War", size=101), "size"),
        (ListNeighboursRequest(feature=FeatureRef(id=1)), "feature.bundle_version"),
    ],
)
def test_wrong_questions_after_neighbours(server: Running, request_: ListNeighboursRequest, field: str) -> None:
    failed = failure(server.feature.ListNeighbours, request_)
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(failed.fields) == [field]


def test_neighbours_of_a_feature_that_is_not_there(server: Running, bundle: Bundle) -> None:
    reference = FeatureRef(id=2**32 - 1, bundle_version=bundle.version)
    assert "feature.id" in failure(server.feature.ListNeighbours, ListNeighboursRequest(feature=reference)).fields
    other = FeatureRef(id=1, bundle_version="a" * 64)
    failed = failure(server.feature.ListNeighbours, ListNeighboursRequest(feature=other))
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION


def test_attributes_with_their_values_and_counts(server: Running, bundle: Bundle) -> None:
    listed = {one.name: one for one in server.item.ListAttributes(ListAttributesRequest()).attributes}
    assert list(listed) == [name for name in bundle.items.column_names if name not in ("item_id", "title")]
    counts: dict[str, int] = {}
    for genres in bundle.items["genres"].to_pylist():
        for genre in genres or ():
            counts[genre] = counts.get(genre, 0) + 1
    assert {value.value: value.items for value in listed["genres"].values} == counts
    given = [value.items for value in listed["genres"].values]
    assert given == sorted(given, reverse=True)
    assert listed["genres"].total_values == len(counts)
    assert listed["genres"].items == 60
    assert (listed["year"].least, listed["year"].most, listed["year"].mean, listed["year"].items) == (
        1950,
        2009,
        1979.5,
        60,
    )
    assert not listed["genres"].HasField("mean")


def test_values_of_one_attribute_that_contain_a_text(server: Running) -> None:
    (genres,) = server.item.ListAttributes(ListAttributesRequest(name="genres", text="OR", values=1)).attributes
    assert [value.value for value in genres.values] == ["Horror"]
    assert genres.total_values == 1
    (genres,) = server.item.ListAttributes(ListAttributesRequest(name="genres", text="r", values=1)).attributes
    assert (len(genres.values), genres.total_values) == (1, 3)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ListAttributesRequest(name="genre"), "name"),
        (ListAttributesRequest(text="x" * 257), "text"),
        (ListAttributesRequest(values=1001), "values"),
    ],
)
def test_wrong_questions_after_attributes(server: Running, request_: ListAttributesRequest, field: str) -> None:
    assert list(failure(server.item.ListAttributes, request_).fields) == [field]


def test_concepts_have_names_for_people(server: Running) -> None:
    names = {
        concept.name: concept.display_name for concept in server.feature.ListConcepts(ListConceptsRequest()).concepts
    }
    assert names["genres:Horror"] == "Horror"
    assert names["year"] == "Newer (year)"


def test_items_and_words_steer_a_request_and_can_be_written_as_features(server: Running, bundle: Bundle) -> None:
    history = History(item_ids=["101", "105"])
    for target in ({"items": ItemSet(item_ids=["102", "106", "110"])}, {"words": "horror"}):
        control = Control(operation=OPERATION_ADD, strength=1.5, **target)
        asked = RecommendRequest(history=history, k=58, controls=[control])
        steered = server.recommendation.Recommend(asked)
        plain = server.recommendation.Recommend(RecommendRequest(history=history, k=58))
        assert [item.item_id for item in steered.items] != [item.item_id for item in plain.items]
        (applied,) = steered.applied_controls
        written = [
            Control(
                feature=FeatureRef(id=e.feature_id, bundle_version=bundle.version),
                operation=OPERATION_ADD,
                strength=e.control_strength,
            )
            for e in applied.edits
        ]
        explicit = server.recommendation.Recommend(RecommendRequest(history=history, k=58, controls=written))
        scores = {item.item_id: item.score for item in explicit.items}
        assert {item.item_id: pytest.approx(item.score, abs=1e-4) for item in steered.items} == scores


def test_what_is_wrong_with_items_and_words_names_the_field(server: Running) -> None:
    controls = [Control(operation=OPERATION_ADD, words="xyzzy"), Control(operation=OPERATION_ADD, items=ItemSet())]
    failed = failure(server.recommendation.Recommend, RecommendRequest(controls=controls))
    assert set(failed.fields) == {"controls[0].words", "controls[1].items.item_ids"}
