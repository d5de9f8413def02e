"""Every text and every list of every request has a bound, which is checked before any work is done."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control
from steersman.v1.recommendation_service_pb2 import AttributeFilter
from steersman_service.api.handlers import SERVICES
from tests.serving import Running, explain

LONG, MANY = "x" * 100_000, 50_000
# The server sets them: what a caller gives is not looked at.
SET_BY_SERVER = ("scenario.updated_by",)
# Of what a field needs beside it.
BESIDE: dict[str, dict[str, Any]] = {
    "new_events": {"session_id": "s"},
    "fallback_history": {"session_id": "s"},
    "AppendEvents": {"session_id": "s"},
    "SetControls": {"session_id": "s"},
}


class Bound(NamedTuple):
    """A field that has to have one."""

    rpc: str
    request: type[Message]
    path: tuple[FieldDescriptor, ...]
    kind: str
    """ "text", "list" or "text in a list"."""

    @property
    def name(self) -> str:
        return ".".join(field.name for field in self.path)

    def __str__(self) -> str:
        return f"{self.rpc.rpartition('/')[2]} {self.name}: {self.kind}"

    def filled(self) -> Message:
        request = self.request()
        for key in (self.path[0].name, self.rpc.rpartition("/")[2]):
            for name, value in BESIDE.get(key, {}).items():
                setattr(request, name, value)
        holder: Any = request
        for field in self.path[:-1]:
            inner = getattr(holder, field.name)
            holder = inner.add() if field.is_repeated else inner
            if isinstance(holder, Control):
                holder.operation = OPERATION_ADD
            elif isinstance(holder, AttributeFilter):
                holder.attribute = "genres"
            elif isinstance(holder, AttributeRef):
                holder.name = "genres"
        last = self.path[-1]
        if self.kind == "text":
            setattr(holder, last.name, LONG)
        elif self.kind == "text in a list":
            getattr(holder, last.name).extend(["x", LONG])
        elif last.message_type:
            getattr(holder, last.name).extend(GetMessageClass(last.message_type)() for _ in range(MANY))
        else:
            getattr(holder, last.name).extend(["x" if last.type == FieldDescriptor.TYPE_STRING else 1] * MANY)
        return request


def fields(message: Any, before: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    for field in message.fields:
        yield (*before, field)
        if field.message_type and field.message_type.full_name.startswith("steersman."):
            yield from fields(field.message_type, (*before, field))


def bounds() -> Iterator[Bound]:
    for service in SERVICES:
        for method in descriptor_pool.Default().FindServiceByName(f"steersman.v1.{service}").methods:
            for path in fields(method.input_type):
                text, many = path[-1].type == FieldDescriptor.TYPE_STRING, path[-1].is_repeated
                kinds = {"text": text and not many, "list": many, "text in a list": text and many}
                for kind in (kind for kind, has in kinds.items() if has):
                    bound = Bound(
                        f"/steersman.v1.{service}/{method.name}", GetMessageClass(method.input_type), path, kind
                    )
                    if bound.name not in SET_BY_SERVER:
                        yield bound


BOUNDS = list(bounds())


def test_all_are_found() -> None:
    assert len(BOUNDS) > 150
    assert {bound.kind for bound in BOUNDS} == {"text", "list", "text in a list"}


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_it_is_refused_by_name(server: Running, bound: Bound) -> None:
    if bound.rpc.endswith("BatchRecommend") and len(bound.path) > 1:
        return  # each is answered on its own, as by Recommend
    call: Any = server.channel.unary_unary(bound.rpc)
    with pytest.raises(grpc.RpcError) as caught:
        call(bound.filled().SerializeToString(), timeout=60)
    failed = explain(caught.value)
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT, failed
    plain = [field.replace("[0]", "").replace("[1]", "") for field in failed.fields]
    assert any(bound.name == field or bound.name.startswith(f"{field}.") for field in plain), failed.fields
    assert all(len(why.encode()) <= 400 for why in failed.fields.values())
