"""Errors as gRPC statuses with details: google.rpc.Status with ErrorInfo, BadRequest and RetryInfo."""

import math
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from steersman_service.errors import InvalidRequest, RequestError

DOMAIN = "steersman"


def grpc_status(error: RequestError, request_id: str) -> grpc.Status:
    """`error` as a gRPC status. BadRequest and RetryInfo are there where they apply."""
    metadata = {"request_id": request_id, **error.metadata}
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if isinstance(error, InvalidRequest):
        fields = [error_details_pb2.BadRequest.FieldViolation(**each._asdict()) for each in error.violations]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if error.retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_seconds * 1e9))
        details.append(retry)
    status = status_pb2.Status(code=grpc.StatusCode[error.code].value[0], message=error.message)
    for detail in details:
        status.details.add().Pack(detail)
    told: Any = rpc_status.to_status(status)  # a named tuple, which its stubs do not say
    pushed: grpc.Status = told._replace(trailing_metadata=(*told.trailing_metadata, *_pushback(error)))
    return pushed


def _pushback(error: RequestError) -> Iterator[tuple[str, str]]:
    """What clients that repeat calls by themselves go by (gRPC proposal A6): RetryInfo again, and that what is too large stays so."""
    if error.retry_seconds is not None:
        yield "grpc-retry-pushback-ms", str(math.ceil(1e3 * error.retry_seconds))
    elif error.code == "RESOURCE_EXHAUSTED":
        yield "grpc-retry-pushback-ms", "-1"
