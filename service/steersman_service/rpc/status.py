"""Errors as gRPC statuses."""

import grpc
from grpc_status import rpc_status

from steersman_service.api.status import status_of
from steersman_service.errors import RequestError


def grpc_status(error: RequestError, request_id: str) -> grpc.Status:
    """With the details of `status_of`."""
    return rpc_status.to_status(status_of(error, request_id))
