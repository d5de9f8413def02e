"""Registers the handlers of `api/` with a gRPC server, by the contract's descriptors."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from steersman_service.telemetry.metrics import Metrics

PACKAGE = "steersman.v1"


Behaviour = Callable[[Any, Any], Awaitable[Any]]


def add_services(
    server: grpc.aio.Server, services: Iterable[str], behaviour: Callable[[str, str], Behaviour], metrics: Metrics
) -> None:
    """`behaviour` of the service and method of each RPC: `(request, Caller) -> response`.

    The `CallInterceptor` calls them with a Caller. The metrics of every method stand at 0 from now on.
    """
    for service in services:
        name, methods = f"{PACKAGE}.{service}", {}
        for method in descriptor_pool.Default().FindServiceByName(name).methods:
            metrics.calls("unary", name, method.name)
            methods[method.name] = grpc.unary_unary_rpc_method_handler(
                behaviour(service, method.name),
                GetMessageClass(method.input_type).FromString,
                GetMessageClass(method.output_type).SerializeToString,
            )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
