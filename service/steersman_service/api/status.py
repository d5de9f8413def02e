"""Errors as `google.rpc.Status` with details: ErrorInfo, BadRequest and RetryInfo. Every transport says them from this."""

from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from steersman_service.errors import InvalidRequest, RequestError

DOMAIN = "steersman"
WWW_AUTHENTICATE = "www-authenticate"


def status_of(error: RequestError, request_id: str) -> Status:
    """BadRequest and RetryInfo are there where they apply."""
    metadata = {"request_id": request_id, **error.metadata}
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if isinstance(error, InvalidRequest):
        fields = [error_details_pb2.BadRequest.FieldViolation(**each._asdict()) for each in error.violations]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if error.retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_seconds * 1e9))
        details.append(retry)
    status = Status(code=Code.Value(error.code), message=error.message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def challenge(code: str, reason: str) -> dict[str, str]:
    """The header, or gRPC's trailer, that says which credentials are wanted (RFC 6750); none for other errors."""
    if code != "UNAUTHENTICATED":
        return {}
    wrong = "" if reason == "TOKEN_MISSING" else ', error="invalid_token"'
    return {WWW_AUTHENTICATE: f'Bearer realm="steersman"{wrong}'}
