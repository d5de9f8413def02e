"""Lists of the server, whose pages are merged into one answer."""

from collections.abc import Callable, Sequence
from typing import Any

from steersman.v1 import feature_service_pb2 as features_pb
from steersman.v1 import item_service_pb2 as items_pb
from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.item_service_pb2_grpc import ItemServiceStub

MAX_PAGE_SIZE = 1000


def list_features(
    stub: FeatureServiceStub, limit: int, timeout: float, *, text: str = "", steerable_only: bool = False
) -> features_pb.ListFeaturesResponse:
    """The first `limit` features. `timeout` is in seconds, for each page."""
    request = features_pb.ListFeaturesRequest(text=text, steerable_only=steerable_only)
    merged: features_pb.ListFeaturesResponse = _merged(stub.ListFeatures, request, "features", timeout, limit)
    return merged


def list_concepts(stub: FeatureServiceStub, timeout: float, *, text: str = "") -> features_pb.ListConceptsResponse:
    """All concepts. `timeout` is in seconds, for each page."""
    request = features_pb.ListConceptsRequest(text=text)
    merged: features_pb.ListConceptsResponse = _merged(stub.ListConcepts, request, "concepts", timeout)
    return merged


def list_items(
    stub: ItemServiceStub, limit: int, timeout: float, *, text: str = "", item_ids: Sequence[str] = ()
) -> items_pb.ListItemsResponse:
    """The first `limit` items. `timeout` is in seconds, for each page."""
    request = items_pb.ListItemsRequest(text=text, item_ids=item_ids)
    merged: items_pb.ListItemsResponse = _merged(stub.ListItems, request, "items", timeout, limit)
    return merged


def _merged(method: Callable[..., Any], request: Any, field: str, timeout: float, limit: int | None = None) -> Any:
    """The first page, extended by the `field` of the following ones; all of them where `limit` is None."""
    merged = None
    while True:
        if limit is not None:
            request.page_size = min(limit - (len(getattr(merged, field)) if merged else 0), MAX_PAGE_SIZE)
        page = method(request, timeout=timeout)
        if merged is None:
            merged = page
        else:
            getattr(merged, field).extend(getattr(page, field))
            merged.next_page_token = page.next_page_token
        if not page.next_page_token or len(getattr(merged, field)) == limit:
            return merged
        request.page_token = page.next_page_token
