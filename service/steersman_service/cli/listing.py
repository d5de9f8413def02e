"""The client side of lists: follows their pages to the end."""

from collections.abc import Sequence

from steersman.v1.feature_service_pb2 import (
    ListConceptsRequest,
    ListConceptsResponse,
    ListFeaturesRequest,
    ListFeaturesResponse,
)
from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.item_service_pb2 import ListItemsRequest, ListItemsResponse
from steersman.v1.item_service_pb2_grpc import ItemServiceStub

MAX_PAGE_SIZE = 1000


def list_features(
    stub: FeatureServiceStub, limit: int, timeout: float, *, text: str = "", steerable_only: bool = False
) -> ListFeaturesResponse:
    """The first `limit` features, as one answer. `timeout` seconds are for each page."""
    request = ListFeaturesRequest(text=text, steerable_only=steerable_only, page_size=min(limit, MAX_PAGE_SIZE))
    listed = page = stub.ListFeatures(request, timeout=timeout)
    while page.next_page_token and len(listed.features) < limit:
        request.page_token = page.next_page_token
        request.page_size = min(limit - len(listed.features), MAX_PAGE_SIZE)
        page = stub.ListFeatures(request, timeout=timeout)
        listed.features.extend(page.features)
        listed.next_page_token = page.next_page_token
    return listed


def list_concepts(stub: FeatureServiceStub, timeout: float, *, text: str = "") -> ListConceptsResponse:
    """All concepts, as one answer. `timeout` seconds are for each page."""
    request = ListConceptsRequest(text=text)
    listed = page = stub.ListConcepts(request, timeout=timeout)
    while page.next_page_token:
        request.page_token = page.next_page_token
        page = stub.ListConcepts(request, timeout=timeout)
        listed.concepts.extend(page.concepts)
    listed.next_page_token = ""
    return listed


def list_items(
    stub: ItemServiceStub, limit: int, timeout: float, *, text: str = "", item_ids: Sequence[str] = ()
) -> ListItemsResponse:
    """The first `limit` items, as one answer. `timeout` seconds are for each page."""
    request = ListItemsRequest(text=text, item_ids=item_ids, page_size=min(limit, MAX_PAGE_SIZE))
    listed = page = stub.ListItems(request, timeout=timeout)
    while page.next_page_token and len(listed.items) < limit:
        request.page_token = page.next_page_token
        request.page_size = min(limit - len(listed.items), MAX_PAGE_SIZE)
        page = stub.ListItems(request, timeout=timeout)
        listed.items.extend(page.items)
        listed.next_page_token = page.next_page_token
    return listed
