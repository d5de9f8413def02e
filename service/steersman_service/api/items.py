"""ItemService: finds items, and tells what is known of them."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

import numpy as np
import pyarrow as pa

from steersman.v1 import item_service_pb2 as pb
from steersman.v1.item_service_pb2_grpc import ItemServiceServicer
from steersman_service.api.pages import MAX_PAGE_SIZE, page_of
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.item_search import Found, ItemSearch
from steersman_service.bundle.items import Items, Rows, known
from steersman_service.checks import MAX_SEARCH_BYTES, check_bytes
from steersman_service.errors import QueueFull, Violation, raise_if_any
from steersman_service.rpc.calls import Context

DEFAULT_PAGE_SIZE = 50
MAX_IDS = 1000
# Searches that wait for others. They have one thread: no number of them takes more than a core.
MAX_WAITING = 64


class ItemService(ItemServiceServicer):
    def __init__(self, bundle: Bundle, items: Items, max_message_bytes: int) -> None:
        self._version, self._items, self._max_message_bytes = bundle.version, items, max_message_bytes
        self._table = bundle.items.select(["item_id", *items.attributes])
        self._search = ItemSearch(items)
        self._thread = ThreadPoolExecutor(1, "item search")
        self._waiting = 0

    async def ListItems(self, request: pb.ListItemsRequest, context: Context) -> pb.ListItemsResponse:
        raise_if_any(_violations(request))
        found = await self._found(request)
        listed = _Described(found.rows, self._items, self._table)
        query = f"{self._version} items {sorted(request.item_ids)} {request.text}"
        size = request.page_size or DEFAULT_PAGE_SIZE
        page = page_of(listed, size, request.page_token, query, self._max_message_bytes)
        return pb.ListItemsResponse(
            items=page.listed,
            next_page_token=page.next_token,
            total_size=len(listed),
            bundle_version=self._version,
            exact_matches=found.exact,
        )

    async def _found(self, request: pb.ListItemsRequest) -> Found:
        if request.item_ids:
            return Found(np.unique(known(self._items.places(request.item_ids))), 0)
        if not request.text:
            return Found(np.arange(len(self._items)), 0)
        if self._waiting >= MAX_WAITING:
            raise QueueFull("too many searches wait", retry_seconds=1.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._search.find, request.text)
        finally:
            self._waiting -= 1


class _Described(Sequence[pb.Item]):
    """Items of some rows, made when they are asked for."""

    def __init__(self, rows: Rows, items: Items, table: pa.Table) -> None:
        self._rows, self._items, self._table = rows, items, table

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> pb.Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[pb.Item]: ...
    def __getitem__(self, index: int | slice) -> pb.Item | list[pb.Item]:
        if isinstance(index, int):
            return self[index : index + 1][0]
        rows = self._rows[index]
        records = self._table.take(rows).to_pylist()
        ids, titles = self._items.ids, self._items.titles
        return [
            pb.Item(item_id=ids[row], title=titles[row], attributes=_attributes(record))
            for row, record in zip(rows.tolist(), records, strict=True)
        ]


def _violations(request: pb.ListItemsRequest) -> list[Violation]:
    violations = list(check_bytes("text", request.text, 0, MAX_SEARCH_BYTES))
    if request.page_size > MAX_PAGE_SIZE:
        violations.append(Violation("page_size", f"{request.page_size}; at most {MAX_PAGE_SIZE}"))
    if len(request.item_ids) > MAX_IDS:
        violations.append(Violation("item_ids", f"{len(request.item_ids)} ids; at most {MAX_IDS}"))
    if request.item_ids and request.text:
        violations.append(Violation("item_ids", "go not beside text: give one of them"))
    return violations


def _attributes(record: dict[str, Any]) -> list[pb.ItemAttribute]:
    described = []
    for name, value in record.items():
        if isinstance(value, float) and np.isfinite(value):
            described.append(pb.ItemAttribute(name=name, number=value))
        elif isinstance(value, list) and (values := [part for part in value if part is not None]):
            described.append(pb.ItemAttribute(name=name, values=values))
    return described
