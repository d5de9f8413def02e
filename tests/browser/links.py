"""Requests in the addresses of pages."""

import base64
from urllib.parse import parse_qs, urlsplit

from steersman.v1 import recommendation_service_pb2 as pb


def link(page: str, request: pb.RecommendRequest) -> str:
    """The address of a page with this request."""
    return f"#/{page}?r={base64.urlsafe_b64encode(request.SerializeToString()).decode().rstrip('=')}"


def requested(url: str) -> pb.RecommendRequest:
    """The request of an address; an empty one if it has none."""
    (text,) = parse_qs(urlsplit(urlsplit(url).fragment).query).get("r", [""])
    return pb.RecommendRequest.FromString(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
