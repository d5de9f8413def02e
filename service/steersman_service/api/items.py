"""ItemService: finds items, and tells what is known of them."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from steersman.v1 import item_service_pb2 as pb
from steersman_service.api.attributes import described
from steersman_service.api.caller import Caller
from steersman_service.api.pages import CLIENTS_BYTES, check_query, page_of
from steersman_service.api.release import Release
from steersman_service.bundle.item_search import ItemMatches
from steersman_service.bundle.items import Categories, Rows
from steersman_service.checks import MAX_SEARCH_BYTES, check_bytes, check_item_ids
from steersman_service.errors import FieldViolation, QueueFull, raise_if_any

DEFAULT_PAGE_SIZE = 50
MAX_IDS = 1000
DEFAULT_VALUES, MAX_VALUES = 50, 1000
# Searches share one thread, so that they take one core at most; this many may wait for it.
MAX_WAITING = 64


class ItemService:
    def __init__(self, release: Release, max_message_bytes: int) -> None:
        self._release, self._max_message_bytes = release, max_message_bytes
        self._thread = ThreadPoolExecutor(1, "item search")
        self._waiting = 0

    async def ListItems(self, request: pb.ListItemsRequest, caller: Caller) -> pb.ListItemsResponse:
        raise_if_any([*check_query(request.text, request.page_size), *_check_ids(request)])
        found = await self._find(request)
        query = f"{self._release.version} items {sorted(request.item_ids)} {request.text}"
        size = request.page_size or DEFAULT_PAGE_SIZE
        page = page_of(found.rows, size, request.page_token, query, self._max_message_bytes, self._describe)
        return pb.ListItemsResponse(
            items=page.listed,
            next_page_token=page.next_token,
            total_size=len(found.rows),
            bundle_version=self._release.version,
            exact_matches=found.exact,
        )

    async def ListAttributes(self, request: pb.ListAttributesRequest, caller: Caller) -> pb.ListAttributesResponse:
        known = self._release.items.attributes
        raise_if_any([*check_bytes("text", request.text, 0, MAX_SEARCH_BYTES), *self._check_attributes(request)])
        # A text is looked for among values, which numbers have none of.
        every = [name for name in known if not request.text or isinstance(known[name], Categories)]
        names = [request.name] if request.name else every
        most = request.values or DEFAULT_VALUES
        listed = [described(name, known[name], request.text, most) for name in names]
        response = pb.ListAttributesResponse(attributes=listed, bundle_version=self._release.version)
        # Values may be long: fewer of each, until they fit into a message.
        while most > 1 and response.ByteSize() > min(self._max_message_bytes, CLIENTS_BYTES):
            most //= 2
            for attribute in response.attributes:
                del attribute.values[most:]
        return response

    def _check_attributes(self, request: pb.ListAttributesRequest) -> Iterator[FieldViolation]:
        if request.name and request.name not in self._release.items.attributes:
            yield FieldViolation("name", self._release.items.unknown_attribute(request.name))
        if request.values > MAX_VALUES:
            yield FieldViolation("values", f"{request.values}; at most {MAX_VALUES}")

    async def _find(self, request: pb.ListItemsRequest) -> ItemMatches:
        if request.item_ids:
            return ItemMatches(np.unique(self._release.items.rows(request.item_ids)), 0)
        if not request.text:
            return ItemMatches(np.arange(len(self._release.items)), 0)
        if self._waiting >= MAX_WAITING:
            raise QueueFull("too many searches wait", retry_seconds=1.0)
        self._waiting += 1
        find = self._release.search.find
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, find, request.text)
        finally:
            self._waiting -= 1

    def _describe(self, rows: Rows) -> list[pb.Item]:
        ids, titles = self._release.items.ids, self._release.items.titles
        return [
            pb.Item(item_id=ids[row], title=titles[row], attributes=known)
            for row, known in zip(rows.tolist(), self._release.attributes.of(rows), strict=True)
        ]


def _check_ids(request: pb.ListItemsRequest) -> Iterator[FieldViolation]:
    if len(request.item_ids) > MAX_IDS:
        yield FieldViolation("item_ids", f"{len(request.item_ids)} ids; at most {MAX_IDS}")
    else:
        yield from check_item_ids("item_ids", request.item_ids)
    if request.item_ids and request.text:
        yield FieldViolation("item_ids", "go not beside text: give one of them")
