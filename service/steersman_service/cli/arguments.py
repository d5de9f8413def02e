"""Controls, tilts and filters as typed on the command line. An ambiguous text is read with the longest name that the bundle has."""

import re
from collections.abc import Iterable

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, FeatureRef, ItemSet
from steersman.v1.feature_service_pb2 import ListNeighboursRequest
from steersman.v1.recommendation_service_pb2 import AttributeFilter
from steersman_service.cli.client import Client
from steersman_service.cli.printing import fail, remark
from steersman_service.cli.typed_items import read_items

FEATURE = re.compile(r"f(?P<feature>\d+)(:(?P<operation>add|set|scale|ablate))?(=(?P<strength>.+))?")
QUOTED = re.compile(r'"(?P<name>(?:[^"]|"")*)"(?P<rest>.*)', re.DOTALL)
HINTS = {
    "--control": "write genres:Horror=0.8 for a concept; f123:add=0.5, f123:set=1, f123:scale=2 or f123:ablate",
    "--tilt": "write genres:Horror=0.8, or year=-0.5 for a numeric attribute",
}
LARGEST_ID = 2**32 - 1


def read_control(text: str, client: Client) -> Control:
    """`genres:Horror=0.8`, `f123:add=0.5`, `f123:ablate`; `"f12"=0.8` for a concept whose name looks like a feature.

    A feature is one of the bundle that the server runs now.
    """
    name, _, strength = text.rpartition("=")
    feature, quoted = FEATURE.fullmatch(text), QUOTED.fullmatch(name)
    if name and (feature or quoted) and client.has_concept(name):
        if feature:
            number = feature["feature"]
            remark(f"--control {text}: read as the concept {name}. Feature {number} is f{number}:add={strength}")
    elif feature:
        return _feature_control(text, feature, client)
    elif quoted and not quoted["rest"]:
        name = _unquoted(quoted)
    return Control(concept=name, operation=OPERATION_ADD, strength=_strength("--control", text, name and strength))


def _feature_control(text: str, typed: re.Match[str], client: Client) -> Control:
    if int(typed["feature"]) > LARGEST_ID:
        fail(f"--control: {text!r}: there is no such feature; steersman features lists them", 2)
    operation = typed["operation"] or "add"
    strength = _strength("--control", text, typed["strength"] or ("0" if operation == "ablate" else ""))
    feature = FeatureRef(id=int(typed["feature"]), bundle_version=client.info.bundle_version)
    return Control(feature=feature, operation=f"OPERATION_{operation.upper()}", strength=strength)


def read_tilt(text: str, client: Client) -> Control:
    """`genres:Horror=0.8`, or `year=-0.5` for a numeric attribute."""
    target, _, typed = text.rpartition("=")
    strength = _strength("--tilt", text, target and typed)
    name, value = _split(target, ":", client) or (target, "")
    return Control(attribute=AttributeRef(name=name, value=value), operation=OPERATION_ADD, strength=strength)


def read_like(text: str, client: Client) -> Control:
    """`50,181` or `Alien, Aliens=0.8`: items as everywhere; without a strength, 1."""
    items, strength = _with_strength(text)
    item_set = ItemSet(item_ids=read_items("--like", [items], client))
    return Control(items=item_set, operation=OPERATION_ADD, strength=strength)


def read_words(text: str) -> Control:
    """`slow crime` or `slow crime=0.8`."""
    words, strength = _with_strength(text)
    return Control(words=words, operation=OPERATION_ADD, strength=strength)


def _with_strength(text: str) -> tuple[str, float]:
    target, _, strength = text.rpartition("=")
    try:
        return (target, float(strength)) if target else (text, 1.0)
    except ValueError:  # the sign belongs to a title
        return text, 1.0


def read_neighbours(text: str, size: int, client: Client) -> ListNeighboursRequest:
    """`f12`, or the name of a concept."""
    feature = FEATURE.fullmatch(text)
    if not feature or client.has_concept(text):
        return ListNeighboursRequest(concept=text, size=size)
    if feature["operation"] or feature["strength"] or int(feature["feature"]) > LARGEST_ID:
        fail(f"--like: {text!r} is no feature; write f12, or the name of a concept", 2)
    reference = FeatureRef(id=int(feature["feature"]), bundle_version=client.info.bundle_version)
    return ListNeighboursRequest(feature=reference, size=size)


def read_where(texts: Iterable[str], client: Client) -> list[AttributeFilter]:
    """`genres=Horror`. Filters on the same attribute are alternatives."""
    values: dict[str, list[str]] = {}
    for text in texts:
        split = _split(text, "=", client)
        if split is None:
            fail(f"--where: {text!r} is no filter; write genres=Horror", 2)
        values.setdefault(split[0], []).append(split[1])
    return [AttributeFilter(attribute=attribute, any_of=any_of) for attribute, any_of in values.items()]


def _split(text: str, separator: str, client: Client) -> tuple[str, str] | None:
    """The name of an attribute, which may be quoted, and the rest after the separator; None without a separator."""
    ends = [match.start() for match in re.finditer(re.escape(separator), text)]
    if not ends:
        return None
    names = client.info.attributes
    if separator == ":" and text in names:
        return text, ""
    quoted = QUOTED.fullmatch(text)
    end = next((end for end in reversed(ends) if text[:end] in names), None)
    if end is None and quoted and quoted["rest"][:1] in ("", separator):
        return _unquoted(quoted), quoted["rest"][1:]
    end = ends[0] if end is None else end
    return text[:end], text[end + 1 :]


def _unquoted(quoted: re.Match[str]) -> str:
    return quoted["name"].replace('""', '"')


def _strength(option: str, text: str, strength: str) -> float:
    try:
        return float(strength)
    except ValueError:
        fail(f"{option}: {text!r} has no strength; {HINTS[option]}", 2)
