"""FeatureService: pages through the catalogue."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from steersman.v1 import feature_service_pb2 as pb
from steersman.v1.feature_service_pb2_grpc import FeatureServiceServicer
from steersman_service.calls import Context
from steersman_service.catalogue import Catalogue
from steersman_service.checks import MAX_SEARCH_BYTES, check_bytes
from steersman_service.controls import ControlReader
from steersman_service.errors import InvalidRequest, NotFound, Violation, raise_if_any

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000


@dataclass(frozen=True)
class FeatureService(FeatureServiceServicer):
    version: str
    """The bundle's."""
    catalogue: Catalogue
    controls: ControlReader

    async def ListFeatures(self, request: pb.ListFeaturesRequest, context: Context) -> pb.ListFeaturesResponse:
        violations = list(check_bytes("text", request.text, 0, MAX_SEARCH_BYTES))
        if request.page_size > MAX_PAGE_SIZE:
            violations.append(Violation("page_size", f"{request.page_size}; at most {MAX_PAGE_SIZE}"))
        raise_if_any(violations)
        query = f"{self.version} {request.steerable_only} {request.text}"
        start = _read_token(request.page_token, query)
        found = self.catalogue.search_features(request.text, request.steerable_only)
        end = start + (request.page_size or DEFAULT_PAGE_SIZE)
        return pb.ListFeaturesResponse(
            features=found[start:end],
            next_page_token=_token(end, query) if end < len(found) else "",
            total_size=len(found),
            bundle_version=self.version,
        )

    async def GetFeature(self, request: pb.GetFeatureRequest, context: Context) -> pb.GetFeatureResponse:
        if request.bundle_version:
            self.controls.check_version("bundle_version", request.bundle_version, request.id)
        if request.id >= len(self.catalogue.features):
            raise NotFound(f"id: there is no feature {request.id}; there are {len(self.catalogue.features)}, from 0")
        return pb.GetFeatureResponse(feature=self.catalogue.features[request.id], bundle_version=self.version)

    async def ListConcepts(self, request: pb.ListConceptsRequest, context: Context) -> pb.ListConceptsResponse:
        raise_if_any(list(check_bytes("text", request.text, 0, MAX_SEARCH_BYTES)))
        return pb.ListConceptsResponse(
            concepts=self.catalogue.search_concepts(request.text), bundle_version=self.version
        )


def _token(start: int, query: str) -> str:
    digest = hashlib.sha256(query.encode()).hexdigest()[:16]
    return base64.urlsafe_b64encode(f"{start}:{digest}".encode()).decode()


def _read_token(token: str, query: str) -> int:
    """Where the page starts. A token holds for the bundle and the query that it was given for."""
    if not token:
        return 0
    try:
        start = int(base64.urlsafe_b64decode(token.encode()).partition(b":")[0])
    except (binascii.Error, ValueError):
        start = -1
    if start < 0 or token != _token(start, query):
        why = "belongs to another query or another bundle: start again without it"
        raise InvalidRequest([Violation("page_token", why)])
    return start
