"""The catalogue of a bundle whose data set says nothing of its items: it has labels, concepts and controls that work all the same."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.feature_service_pb2 import ListConceptsRequest, ListFeaturesRequest
from steersman.v1.recommendation_service_pb2 import AttributeFilter, Filters, History, RecommendRequest
from tests.conftest import make_bundle
from tests.serving import serving, settings_for


@pytest.fixture(scope="module")
def bare_bundle(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on interactions alone. Item tables that say nothing: test_choice.py."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copy(data_dir / "interactions.parquet", folder)
    return make_bundle(folder, tmp_path_factory.mktemp("bundles"))


def test_every_feature_has_a_label_and_some_do_what_it_says(bare_bundle: Path) -> None:
    features = pl.read_parquet(bare_bundle / "features.parquet")
    alive = features.filter(pl.col("scale") > 0)
    assert alive.filter(pl.col("label") != "never active").height == alive.height
    described = alive.filter(pl.col("description").list.len() > 0)
    assert described.height > 0
    assert described["description"].list.first().str.starts_with("co_consumption:").all()
    assert described["label"].str.starts_with("like ").all()
    assert described["confidence"].is_between(0, 1).all()
    assert features.filter(pl.col("description").list.len() == 0)["confidence"].eq(0).all()
    assert alive["steerable"].any()


def test_clusters_are_an_attribute_that_items_have_and_concepts_raise(bare_bundle: Path) -> None:
    items = pl.read_parquet(bare_bundle / "items.parquet")
    assert items["title"].to_list() == items["item_id"].to_list()
    concepts = pl.read_parquet(bare_bundle / "concepts.parquet").filter(pl.col("value") != "")
    assert set(concepts["attribute"]) == {"co_consumption"}
    assert set(concepts["value"]) == set(items["co_consumption"].explode().drop_nulls())
    assert concepts.height > 1
    assert max(concepts["share_after"] - concepts["share_before"]) > 0.1


def test_a_server_steers_by_a_cluster_and_filters_by_it(bare_bundle: Path, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, bare_bundle)) as server:
        assert server.feature.ListFeatures(ListFeaturesRequest(text="like ")).total_size > 0
        concepts = [c for c in server.feature.ListConcepts(ListConceptsRequest()).concepts if c.value]
        best = max(concepts, key=lambda concept: concept.effect.share_after - concept.effect.share_before)
        filters = Filters(attributes=[AttributeFilter(attribute=best.attribute, any_of=[best.value])])
        members = {
            item.item_id for item in server.recommendation.Recommend(RecommendRequest(k=50, filters=filters)).items
        }
        assert len(members) >= 5

        def share(*controls: Control) -> float:
            histories = [History(item_ids=[str(100 + row), str(130 + row)]) for row in range(12)]
            requests = [RecommendRequest(history=history, k=10, controls=controls) for history in histories]
            lists = [[item.item_id for item in server.recommendation.Recommend(request).items] for request in requests]
            return sum(item_id in members for one in lists for item_id in one) / sum(map(len, lists))

        assert share(Control(concept=best.name, operation=OPERATION_ADD, strength=1.0)) > share() + 0.1
