"""Exits with 0 if the server in this container answers that a service serves: `healthcheck.py [SERVICE]`, by default the whole."""

import os
import sys
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

TIMEOUT_SECONDS = 3.0
# The way to one's own machine leads through no proxy that the environment names.
OPTIONS = (("grpc.enable_http_proxy", 0),)


def main() -> None:
    address = f"127.0.0.1:{os.environ.get('STEERSMAN_PORT') or 50051}"
    request = HealthCheckRequest(service=sys.argv[1] if len(sys.argv) > 1 else "")
    try:
        with grpc.insecure_channel(address, OPTIONS) as channel:
            stub: Any = HealthStub(channel)
            status = stub.Check(request, timeout=TIMEOUT_SECONDS).status
    except grpc.RpcError as error:
        sys.exit(f"{address}: {error.code().name}")
    if status != HealthCheckResponse.SERVING:
        sys.exit(f"{address}: {HealthCheckResponse.ServingStatus.Name(status)}")


if __name__ == "__main__":
    main()
