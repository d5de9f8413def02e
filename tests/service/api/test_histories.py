"""Histories of the bundle over gRPC: pages, search, shuffling, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from steersman.v1.feature_service_pb2 import ListConceptsRequest, ListFeaturesRequest
from steersman.v1.model_service_pb2 import ListHistoriesRequest, SampleHistory
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from tests.service.bundle.kinds import as_1_5
from tests.serving import Running, failure, serving, settings_for


def pages(server: Running, **query: Any) -> list[SampleHistory]:
    found: list[SampleHistory] = []
    token = ""
    while True:
        page = server.model.ListHistories(ListHistoriesRequest(page_token=token, **query))
        found += page.histories
        token = page.next_page_token
        if not token:
            assert page.total_size == len(found)
            return found


def names(histories: list[SampleHistory]) -> list[str]:
    return [each.name for each in histories]


@pytest.mark.parametrize("size", [1, 7, 160, 1000])
def test_pages_give_every_history_once_in_order(server: Running, bundle: Bundle, items: Items, size: int) -> None:
    assert bundle.histories is not None
    table = bundle.histories.to_pylist()
    found = pages(server, page_size=size)
    assert names(found) == [str(number + 1) for number in range(len(table))]
    assert [list(each.history.item_ids) for each in found] == [
        [items.ids[row] for row in own["items"]] for own in table
    ]
    assert [each.history.events_before for each in found] == [own["events_before"] for own in table]
    latest = [[items.titles[row] for row in own["items"][::-1][:5]] for own in table]
    assert [list(each.latest_titles) for each in found] == latest


def test_the_default_page_has_fifty(server: Running, bundle: Bundle) -> None:
    page = server.model.ListHistories(ListHistoriesRequest())
    assert (len(page.histories), page.total_size, page.bundle_version) == (50, 160, bundle.version)


def test_a_text_finds_histories_by_titles(server: Running, items: Items) -> None:
    found = pages(server, text="film 12", page_size=9)
    assert found
    everything = pages(server)
    assert found == [each for each in everything if "112" in each.history.item_ids]
    assert pages(server, text="no such film") == []


def test_a_seed_shuffles_the_same_way_over_pages(server: Running) -> None:
    shuffled = names(pages(server, seed=4, page_size=13))
    assert shuffled == names(pages(server, seed=4, page_size=1000))
    assert sorted(shuffled) == sorted(names(pages(server)))
    assert len({tuple(shuffled), tuple(names(pages(server))), tuple(names(pages(server, seed=5)))}) == 3


def test_a_history_can_be_steered_on(server: Running) -> None:
    long = next(each for each in pages(server) if each.history.events_before)
    use = server.recommendation.Recommend(RecommendRequest(history=long.history)).history_use
    assert use.total_events == long.history.events_before + len(long.history.item_ids)
    assert (use.unknown_events, use.empty) == (0, False)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"page_size": 1001}, "page_size"),
        ({"page_size": 2**32 - 1}, "page_size"),
        ({"text": "x" * 257}, "text"),
        ({"text": "é" * 129}, "text"),
        ({"page_token": "x"}, "page_token"),
        ({"page_token": "é" * 300}, "page_token"),
    ],
)
def test_what_is_refused(server: Running, query: dict[str, Any], field: str) -> None:
    failed = failure(server.model.ListHistories, ListHistoriesRequest(**query))
    assert failed.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failed.fields.keys() == {field}


@pytest.mark.parametrize("other", [{"seed": 2}, {"seed": 1, "text": "film"}, {}])
def test_a_token_is_of_its_own_query(server: Running, other: dict[str, Any]) -> None:
    token = server.model.ListHistories(ListHistoriesRequest(page_size=5, seed=1)).next_page_token
    failed = failure(server.model.ListHistories, ListHistoriesRequest(page_token=token, **other))
    assert failed.fields.keys() == {"page_token"}


# -- curves, which the catalogue gives


def catalogue(server: Running) -> list[Any]:
    """Features by id, then concepts."""
    features = server.feature.ListFeatures(ListFeaturesRequest(page_size=1000, include_rare=True)).features
    concepts = server.feature.ListConcepts(ListConceptsRequest()).concepts
    return [*sorted(features, key=lambda feature: feature.id), *concepts]


def test_the_catalogue_gives_curves(server: Running, bundle: Bundle) -> None:
    rows: list[Any] = [*bundle.features.to_pylist(), *bundle.concepts.to_pylist()]
    for told, row in zip(catalogue(server), rows, strict=True):
        columns = [row[f"curve_{name}"] for name in ("strengths", "shares", "ndcg_kept")]
        assert [(p.strength, p.share, p.ndcg_kept) for p in told.curve] == list(zip(*columns, strict=True))
        assert bool(told.curve) == row.get("steerable", True)
        if told.curve:
            assert [point.strength for point in told.curve] == [-1, -0.5, 0, 0.5, 1]
            assert told.curve[2].share == told.effect.share_before
            assert (told.curve[4].share, told.curve[4].ndcg_kept) == (told.effect.share_after, told.effect.ndcg_kept)


@pytest.fixture(scope="module")
def older(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("older")
    with serving(settings_for(folder, as_1_5(bundle_dir, folder))) as running:
        yield running


def test_a_bundle_of_1_5_is_served_without_either(older: Running) -> None:
    page = older.model.ListHistories(ListHistoriesRequest(text="film", seed=3))
    assert (len(page.histories), page.total_size, page.next_page_token) == (0, 0, "")
    known = catalogue(older)
    assert known
    assert not any(each.curve for each in known)
    assert older.recommendation.Recommend(RecommendRequest()).items
