"""Registers the handlers of `api/` with a gRPC server, by the contract's descriptors."""

from collections.abc import Mapping

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from steersman_service.telemetry.metrics import Metrics

PACKAGE = "steersman.v1"


def add_services(server: grpc.aio.Server, services: Mapping[str, object], metrics: Metrics) -> None:
    """`services`: name of each service of the contract -> object with a method `(request, Caller) -> response` for each RPC.

    The `CallInterceptor` calls them with a Caller. The metrics of every method stand at 0 from now on.
    """
    for service, handlers in services.items():
        name, methods = f"{PACKAGE}.{service}", {}
        for method in descriptor_pool.Default().FindServiceByName(name).methods:
            metrics.calls("unary", name, method.name)
            methods[method.name] = grpc.unary_unary_rpc_method_handler(
                getattr(handlers, method.name),
                GetMessageClass(method.input_type).FromString,
                GetMessageClass(method.output_type).SerializeToString,
            )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
