"""The services of `steersman.v1`, from their descriptors: a service that is added to the contract is there without a word here."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import NamedTuple

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from steersman import v1

SERVICE_FILE = "_service_pb2"


class Method(NamedTuple):
    """An RPC."""

    service: str
    """ "steersman.v1.ItemService" """
    name: str
    request: type[Message]
    response: type[Message]

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


def services() -> Iterator[ServiceDescriptor]:
    """All, in the order of their files' names."""
    for module in sorted(found.name for found in pkgutil.iter_modules(v1.__path__)):
        if module.endswith(SERVICE_FILE):
            yield from import_module(f"{v1.__name__}.{module}").DESCRIPTOR.services_by_name.values()


def methods() -> list[Method]:
    """All that take one message and give one."""
    return [
        Method(service.full_name, one.name, GetMessageClass(one.input_type), GetMessageClass(one.output_type))
        for service in services()
        for one in service.methods
        if not (one.client_streaming or one.server_streaming)
    ]
