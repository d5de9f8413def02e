"""Errors as gRPC statuses."""

import math
from collections.abc import Iterator
from typing import Any

import grpc
from grpc_status import rpc_status

from steersman_service.api.status import challenge, status_of
from steersman_service.errors import RequestError


def grpc_status(error: RequestError, request_id: str) -> grpc.Status:
    """With the details of `status_of`, and what clients that repeat calls by themselves go by."""
    told: Any = rpc_status.to_status(status_of(error, request_id))  # a named tuple, which its stubs do not say
    pushed: grpc.Status = told._replace(
        trailing_metadata=(*told.trailing_metadata, *_pushback(error), *challenge(error.code, error.reason).items())
    )
    return pushed


def _pushback(error: RequestError) -> Iterator[tuple[str, str]]:
    """What clients that repeat calls by themselves go by (gRPC proposal A6): RetryInfo again, and that what is too large stays so."""
    if error.retry_seconds is not None:
        yield "grpc-retry-pushback-ms", str(math.ceil(1e3 * error.retry_seconds))
    elif error.code == "RESOURCE_EXHAUSTED":
        yield "grpc-retry-pushback-ms", "-1"
