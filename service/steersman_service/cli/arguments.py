"""Controls, filters and ids as a person types them. Of several ways to read a text, that with the longest known name wins."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property

import grpc

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, FeatureRef
from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.item_service_pb2 import ListItemsResponse
from steersman.v1.item_service_pb2_grpc import ItemServiceStub
from steersman.v1.model_service_pb2 import GetModelInfoRequest, GetModelInfoResponse
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman.v1.recommendation_service_pb2 import AttributeFilter
from steersman_service.cli.client import command
from steersman_service.cli.listing import list_concepts, list_items
from steersman_service.cli.printing import fail, remark

FEATURE = re.compile(r"f(?P<feature>\d+)(:(?P<operation>add|set|scale|ablate))?(=(?P<strength>.+))?")
CONTROL_HINT = "write genres:Horror=0.8 for a concept; f123:add=0.5, f123:set=1, f123:scale=2 or f123:ablate"
TILT_HINT = "write genres:Horror=0.8, or year=-0.5 for a numeric attribute"
QUOTED = re.compile(r'"(?P<name>(?:[^"]|"")*)"(?P<rest>.*)', re.DOTALL)
LARGEST_ID = 2**32 - 1
# Of a search, in bytes; of ids, in one call.
MAX_TEXT_BYTES = 256
MAX_IDS = 1000


class Known:
    """What the server knows. It is asked when it has to be."""

    def __init__(self, channel: grpc.Channel, address: str, timeout_seconds: float) -> None:
        self._channel, self._address, self._timeout = channel, address, timeout_seconds

    def command(self, words: str, *quoted: str) -> str:
        """A command to type next, for the same server."""
        return command(words, self._address, *quoted)

    @cached_property
    def info(self) -> GetModelInfoResponse:
        return ModelServiceStub(self._channel).GetModelInfo(GetModelInfoRequest(), timeout=self._timeout)

    def is_concept(self, name: str) -> bool:
        text = name.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
        listed = list_concepts(FeatureServiceStub(self._channel), self._timeout, text=text)
        return any(concept.name == name for concept in listed.concepts)

    def items(self, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that there are."""
        asked, stub = list(dict.fromkeys(ids)), ItemServiceStub(self._channel)
        found: set[str] = set()
        for begin in range(0, len(asked), MAX_IDS):
            listed = list_items(stub, MAX_IDS, self._timeout, item_ids=asked[begin : begin + MAX_IDS])
            found.update(item.item_id for item in listed.items)
        return found

    def search(self, text: str, limit: int) -> ListItemsResponse:
        return list_items(ItemServiceStub(self._channel), limit, self._timeout, text=text)


def read_controls(texts: Sequence[str], known: Known) -> list[Control]:
    """Controls as typed: `genres:Horror=0.8`, `f123:add=0.5`, `f123:ablate`; `"f12"=0.8` for a concept that is called like a feature.

    A feature typed now is one of the bundle that the server runs now, so its version is asked for.
    """
    return [_read_control(text, known) for text in texts]


def _read_control(text: str, known: Known) -> Control:
    name, _, strength = text.rpartition("=")
    feature, quoted = FEATURE.fullmatch(text), QUOTED.fullmatch(name)
    if name and (feature or quoted) and known.is_concept(name):
        if feature:
            number = feature["feature"]
            remark(f"--control {text}: taken for the concept {name}. Feature {number} is f{number}:add={strength}")
    elif feature:
        return _feature_control(text, feature, known)
    elif quoted and not quoted["rest"]:
        name = _unquoted(quoted)
    return Control(concept=name or text, operation=OPERATION_ADD, strength=_strength("--control", text, strength, name))


def _feature_control(text: str, typed: re.Match[str], known: Known) -> Control:
    if int(typed["feature"]) > LARGEST_ID:
        fail(f"--control: {text!r}: there is no such feature; steersman features lists them", 2)
    feature = FeatureRef(id=int(typed["feature"]), bundle_version=known.info.bundle_version)
    default = "0" if typed["operation"] == "ablate" else ""
    strength = _strength("--control", text, typed["strength"] or default, "f")
    return Control(feature=feature, operation=f"OPERATION_{(typed['operation'] or 'add').upper()}", strength=strength)


def read_tilts(texts: Iterable[str], known: Known) -> list[Control]:
    """Controls on attributes as typed: `genres:Horror=0.8`, and `year=-0.5` for a numeric one."""
    return [_read_tilt(text, known) for text in texts]


def _read_tilt(text: str, known: Known) -> Control:
    target, _, typed = text.rpartition("=")
    strength = _strength("--tilt", text, typed, target)
    named = _split(target, ":", known) or (target, "")
    return Control(attribute=AttributeRef(name=named[0], value=named[1]), operation=OPERATION_ADD, strength=strength)


def read_where(texts: Iterable[str], known: Known) -> list[AttributeFilter]:
    """Attribute filters as typed: `genres=Horror`. Those on the same attribute are alternatives."""
    values: dict[str, list[str]] = {}
    for text in texts:
        named = _split(text, "=", known)
        if named is None:
            fail(f"--where: {text!r} is no filter; write genres=Horror", 2)
        values.setdefault(named[0], []).append(named[1])
    return [AttributeFilter(attribute=attribute, any_of=any_of) for attribute, any_of in values.items()]


def _split(text: str, separator: str, known: Known) -> tuple[str, str] | None:
    """The name of an attribute and what comes after it; None without a separator. A name may stand in double quotes."""
    ends = [match.start() for match in re.finditer(re.escape(separator), text)]
    if not ends:
        return None
    names = known.info.attributes
    if separator == ":" and text in names:
        return text, ""
    for end in reversed(ends):
        if text[:end] in names:
            return text[:end], text[end + 1 :]
    quoted = QUOTED.fullmatch(text)
    if quoted and quoted["rest"][:1] in ("", separator):
        return _unquoted(quoted), quoted["rest"][1:]
    return text[: ends[0]], text[ends[0] + 1 :]


def _unquoted(quoted: re.Match[str]) -> str:
    return quoted["name"].replace('""', '"')


def _strength(option: str, text: str, strength: str, name: str) -> float:
    try:
        return float(strength if name else "")
    except ValueError:
        hint = TILT_HINT if option == "--tilt" else CONTROL_HINT
        fail(f"{option}: {text!r} has no strength; {hint}", 2)
