"""Items over gRPC: pages, search, and items by id."""

from typing import Any

import pytest

from steersman.v1.item_service_pb2 import Item, ListItemsRequest, ListItemsResponse
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from tests.serving import Running, failure


def pages(server: Running, **query: Any) -> list[Item]:
    found: list[Item] = []
    token = ""
    while True:
        page = server.item.ListItems(ListItemsRequest(page_token=token, **query))
        found += page.items
        token = page.next_page_token
        if not token:
            assert page.total_size == len(found)
            return found


def search(server: Running, text: str) -> ListItemsResponse:
    return server.item.ListItems(ListItemsRequest(text=text))


@pytest.mark.parametrize("size", [1, 7, 60, 1000])
def test_pages_give_every_item_once_in_order(server: Running, items: Items, size: int) -> None:
    assert [item.item_id for item in pages(server, page_size=size)] == items.ids


def test_an_item_has_its_title_and_attributes(server: Running, bundle: Bundle) -> None:
    (item,) = server.item.ListItems(ListItemsRequest(item_ids=["103"])).items
    row = bundle.items.slice(3, 1).to_pylist()[0]
    assert (item.item_id, item.title) == (row["item_id"], row["title"])
    told = {one.name: one.number if one.HasField("number") else list(one.values) for one in item.attributes}
    assert told == {name: row[name] for name in bundle.items.column_names if name not in ("item_id", "title")}


def test_the_best_match_comes_first(server: Running) -> None:
    found = search(server, "film 1")
    assert [item.title for item in found.items[:2]] == ["Film 1", "Film 10"]
    assert (found.exact_matches, found.total_size) == (1, 15)  # 1, 10 to 19, 21, 31, 41 and 51
    assert pages(server, text="5 FILM", page_size=3)[0].title == "Film 5"
    by_id = search(server, "105")
    assert (by_id.items[0].item_id, by_id.exact_matches) == ("105", 1)
    assert not search(server, "nothing is called so").items
    assert not search(server, " ").items


def test_titles_read_as_people_write_them(server: Running) -> None:
    (item,) = search(server, "film 59").items
    assert (item.item_id, item.title) == ("159", "The Film 59")


def test_items_by_id(server: Running) -> None:
    listed = pages(server, item_ids=["159", "nosuch", "100", "159"], page_size=1)
    assert [item.item_id for item in listed] == ["100", "159"]


def test_what_is_refused(server: Running) -> None:
    for request, field in (
        (ListItemsRequest(page_size=1001), "page_size"),
        (ListItemsRequest(text="x" * 257), "text"),
        (ListItemsRequest(item_ids=["1"] * 1001), "item_ids"),
        (ListItemsRequest(item_ids=["1"], text="x"), "item_ids"),
        (ListItemsRequest(page_token="x"), "page_token"),
    ):
        assert failure(server.item.ListItems, request).fields.keys() == {field}
    token = server.item.ListItems(ListItemsRequest(page_size=5)).next_page_token
    assert failure(server.item.ListItems, ListItemsRequest(page_token=token, text="a")).fields.keys() == {"page_token"}
