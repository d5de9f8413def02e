"""The client side of the command line: reads controls and filters as a person types them, and explains errors."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import grpc
import typer
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from rich.console import Console

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, FeatureRef
from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman.v1.recommendation_service_pb2 import AttributeFilter

CONTROL = re.compile(r"f(?P<feature>\d+)(:(?P<operation>add|set|scale|ablate))?(=(?P<strength>.+))?")
CONTROL_HINT = "write genres:Horror=0.8 for a concept; f123:add=0.5, f123:set=1, f123:scale=2 or f123:ablate"


def split_ids(values: Iterable[str]) -> list[str]:
    """Ids of options that may be repeated, and may hold several ids between commas."""
    return [item_id.strip() for value in values for item_id in value.split(",") if item_id.strip()]


def read_controls(texts: Sequence[str], channel: grpc.Channel) -> list[Control]:
    """Controls as typed: `genres:Horror=0.8`, `f123:add=0.5`, `f123:ablate`.

    A feature typed now is one of the bundle that the server runs now, so its version is asked for.
    """
    features = any(CONTROL.fullmatch(text) for text in texts)
    version = ModelServiceStub(channel).GetModelInfo(GetModelInfoRequest()).bundle_version if features else ""
    return [_read_control(text, version) for text in texts]


def _read_control(text: str, version: str) -> Control:
    if match := CONTROL.fullmatch(text):
        operation = f"OPERATION_{(match['operation'] or 'add').upper()}"
        feature = FeatureRef(id=int(match["feature"]), bundle_version=version)
        default = "0" if match["operation"] == "ablate" else None
        return Control(feature=feature, operation=operation, strength=_strength(text, match["strength"] or default))
    name, _, strength = text.rpartition("=")
    return Control(concept=name or text, operation=OPERATION_ADD, strength=_strength(text, strength if name else None))


def read_tilts(texts: Iterable[str]) -> list[Control]:
    """Controls on attributes as typed: `genres:Horror=0.8`, and `year=-0.5` for a numeric one."""
    return [_read_tilt(text) for text in texts]


def _read_tilt(text: str) -> Control:
    target, _, strength = text.rpartition("=")
    name, _, value = target.partition(":")
    hint = "write genres:Horror=0.8, or year=-0.5 for a numeric attribute"
    attribute = AttributeRef(name=name, value=value)
    return Control(attribute=attribute, operation=OPERATION_ADD, strength=_strength(text, strength, hint))


def _strength(text: str, strength: str | None, hint: str = CONTROL_HINT) -> float:
    try:
        return float(strength or "")
    except ValueError:
        raise typer.BadParameter(f"{text!r} has no strength; {hint}") from None


def read_where(texts: Iterable[str]) -> list[AttributeFilter]:
    """Attribute filters as typed: `genres=Horror`. Those on the same attribute are alternatives."""
    values: dict[str, list[str]] = {}
    for text in texts:
        attribute, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is no filter; write genres=Horror")
        values.setdefault(attribute, []).append(value)
    return [AttributeFilter(attribute=attribute, any_of=any_of) for attribute, any_of in values.items()]


@contextmanager
def connected(address: str) -> Iterator[grpc.Channel]:
    """A channel; an error of a call inside is explained, and ends the command with exit code 1."""
    try:
        with grpc.insecure_channel(address) as channel:
            yield channel
    except grpc.RpcError as error:
        _explain(error, address)


def _explain(error: grpc.RpcError, address: str) -> NoReturn:
    assert isinstance(error, grpc.Call)
    console = Console(stderr=True, soft_wrap=True)
    status = rpc_status.from_call(error)
    if status is None and error.code() is grpc.StatusCode.UNAVAILABLE:
        console.print(f"No server answers at {address}. Start one: steersman serve", style="red", markup=False)
        raise typer.Exit(1)
    violations = error_details_pb2.BadRequest()
    any(detail.Unpack(violations) for detail in (status.details if status else ()))
    fields = [f"{violation.field}: {violation.description}" for violation in violations.field_violations]
    console.print(f"{error.code().name}: {'; '.join(fields) or error.details()}", style="red", markup=False)
    raise typer.Exit(1)
