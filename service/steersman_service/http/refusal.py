"""Errors in HTTP: a status, and `google.rpc.Status` as JSON the way Connect writes it, with details that can be read."""

import json
import math
from base64 import b64encode
from contextlib import suppress
from random import getrandbits
from typing import Any
from urllib.parse import quote

from google.protobuf import any_pb2
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status
from starlette.responses import Response

from steersman_service.api.status import challenge, status_of
from steersman_service.errors import (
    ContentTypeRefused,
    MessageTooLarge,
    NoSuchPath,
    OnlyGet,
    OnlyPost,
    RequestError,
    SlowRequest,
)

# As Connect has it.
HTTP_STATUS = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}
# Where HTTP has a word of its own.
OWN_STATUS = {
    NoSuchPath: 404,
    OnlyPost: 405,
    OnlyGet: 405,
    ContentTypeRefused: 415,
    MessageTooLarge: 413,
    SlowRequest: 408,
}
OTHER_STATUS = 500
RETRY_AFTER = "retry-after"


def new_status(error: RequestError) -> Status:
    """Of a request that no server has seen."""
    return status_of(error, f"{getrandbits(128):032x}")


def refused(error: RequestError, headers: dict[str, str] | None = None) -> Response:
    """The answer that says so."""
    return said(new_status(error), headers, OWN_STATUS.get(type(error)))


def said(status: Status, headers: dict[str, str] | None = None, http_status: int | None = None) -> Response:
    """A status of a server, or of the gateway, as an answer."""
    http_status = http_status or HTTP_STATUS.get(_code(status), OTHER_STATUS)
    body = json.dumps(as_json(status), ensure_ascii=False)
    return Response(body, http_status, {**headers_of(status), **(headers or {})}, "application/json")


def refused_in_grpc_web(error: RequestError, headers: dict[str, str]) -> Response:
    """The same for a caller that reads gRPC's status."""
    status = new_status(error)
    trailers = {
        "grpc-status": str(status.code),
        "grpc-message": quote(status.message, safe=""),
        "grpc-status-details-bin": b64encode(status.SerializeToString()).decode().rstrip("="),
    }
    return Response(b"", 200, {**headers, **trailers}, "application/grpc-web")


def as_json(status: Status) -> dict[str, Any]:
    """The object that Connect puts into the body."""
    details = [
        {
            "type": detail.TypeName(),
            "value": b64encode(detail.value).decode().rstrip("="),
            **({"debug": debug} if (debug := readable(detail)) else {}),
        }
        for detail in status.details
    ]
    return {"code": connect_code(status), "message": status.message, "details": details}


def connect_code(status: Status) -> str:
    """ "invalid_argument" """
    name = _code(status)
    return "canceled" if name == "CANCELLED" else name.lower()


def readable(detail: any_pb2.Any) -> dict[str, Any]:
    """The fields of a detail; none if its type is not known here."""
    with suppress(TypeError, ValueError):
        return {name: value for name, value in MessageToDict(detail).items() if name != "@type"}
    return {}


def headers_of(status: Status) -> dict[str, str]:
    """When to come back, in whole seconds, where RetryInfo says so; which credentials are wanted, where they are missing."""
    retry, info = error_details_pb2.RetryInfo(), error_details_pb2.ErrorInfo()
    any(detail.Unpack(info) for detail in status.details)
    headers = challenge(_code(status), info.reason)
    if any(detail.Unpack(retry) for detail in status.details):
        headers[RETRY_AFTER] = str(max(1, math.ceil(retry.retry_delay.ToNanoseconds() / 1e9)))
    return headers


def _code(status: Status) -> str:
    return Code.Name(status.code) if status.code in Code.values() else "UNKNOWN"
