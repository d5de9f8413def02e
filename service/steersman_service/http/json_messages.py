"""Messages as JSON, by protobuf's own mapping. What does not fit is refused by the name of its field."""

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from steersman_service.errors import ENOUGH_VIOLATIONS, FieldViolation, InvalidRequest, raise_if_any

M = TypeVar("M", bound=Message)

BODY = "request"
# A name of no letters, as it stands in JSON.
EMPTY = '""'
# Messages that JSON writes in a way of their own: a time is a string.
WELL_KNOWN = "google.protobuf."
FAILED = re.compile(r"Failed to parse (\w+) field: ")
PLACE = re.compile(r" at \"?\w+((?:\.\w+|\[\d+\])*)\"?[.\s]*$")
MOST_NAMES = 12
# Each takes some 8 us to read, and an empty one three bytes.
MOST_OBJECTS = 20_000


def to_json(message: Message) -> bytes:
    """Names in lowerCamelCase; a field at its default is left out."""
    return json.dumps(MessageToDict(message), ensure_ascii=False, separators=(",", ":")).encode()


def from_json(data: bytes, kind: type[M]) -> M:
    """Names in lowerCamelCase or as in the proto. Raises InvalidRequest, for fields that do not exist, too."""
    value = _loaded(data)
    raise_if_any([*islice(_misfits(value, cast(Descriptor, kind.DESCRIPTOR), ""), ENOUGH_VIOLATIONS)])
    try:
        return ParseDict(value, kind())
    except (ParseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest([_violation(str(error))]) from None


def _loaded(data: bytes) -> Any:
    if not data.strip():
        raise InvalidRequest([FieldViolation(BODY, "the body is empty; write {} for a request without fields")])
    if (objects := data.count(b"{")) > MOST_OBJECTS:
        why = (
            f"the body has {objects} objects; at most {MOST_OBJECTS} in JSON: send application/proto, or several calls"
        )
        raise InvalidRequest([FieldViolation(BODY, why)])
    try:
        return json.loads(data.decode(), object_pairs_hook=_object)
    except UnicodeDecodeError:
        why = "the body is not UTF-8"
    except RecursionError:
        why = "the body is nested too deep"
    except ValueError as error:
        why = f"the body is no JSON: {error}"
    raise InvalidRequest([FieldViolation(BODY, why)])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def _misfits(value: Any, message: Descriptor, path: str) -> Iterator[FieldViolation]:
    """Names that `message` does not have or has already, and values where an object or a list has to be."""
    if message.full_name.startswith(WELL_KNOWN):
        return
    if not isinstance(value, Mapping):
        yield FieldViolation(path or BODY, f"has to be an object of {message.name}: {{...}}")
        return
    seen = dict[str, str]()
    for typed, inner in value.items():
        field = message.fields_by_camelcase_name.get(typed) or message.fields_by_name.get(typed)
        if field is None:
            yield FieldViolation(f"{path}{'.' * bool(path)}{typed or EMPTY}", _unknown(typed, message))
            continue
        place = f"{path}{'.' * bool(path)}{field.name}"
        if field.name in seen:
            yield FieldViolation(place, f"stands twice: as {seen[field.name]} and as {typed}")
        seen[field.name] = typed
        if inner is not None:
            yield from _misfits_of_field(inner, field, place)


def _misfits_of_field(value: Any, field: FieldDescriptor, place: str) -> Iterator[FieldViolation]:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        inner = entry.fields_by_name["value"].message_type
        if not isinstance(value, Mapping):
            yield FieldViolation(place, "has to be an object: {...}")
        elif inner is not None:
            for key, each in value.items():
                yield from _misfits(each, inner, f"{place}[{key!r}]")
    elif field.is_repeated:
        if not isinstance(value, list):
            yield FieldViolation(place, "has to be a list: [...]")
        elif entry is not None:
            for number, each in enumerate(value):
                yield from _misfits(each, entry, f"{place}[{number}]")
    elif entry is not None:
        yield from _misfits(value, entry, place)


def _unknown(typed: str, message: Descriptor) -> str:
    names = [field.camelcase_name for field in message.fields]
    close = get_close_matches(typed[:100], [*names, *message.fields_by_name], 1)
    if close:
        return f"{message.name} has no such field; did you mean {close[0]}?"
    shown = ", ".join(names[:MOST_NAMES]) or "none"
    return f"{message.name} has no such field; it has {shown}{', ...' if len(names) > MOST_NAMES else ''}"


def _violation(text: str) -> FieldViolation:
    """What protobuf says of a value, with the field apart."""
    names = FAILED.findall(text)
    place = PLACE.search(text)
    path = place[1].lstrip(".") if place and place[1] else ".".join(names)
    why = FAILED.sub("", text[: place.start()] if place else text).rstrip(". ")
    return FieldViolation(path or BODY, why[:1].lower() + why[1:])
