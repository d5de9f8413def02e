"""Which files hold the weights of an ONNX model: ONNX Runtime would look for them in the server's working folder.

Reads protobuf's wire format of the messages that lead to tensors (onnx.proto3), and skips weights.
"""

from collections.abc import Container, Iterator
from typing import NamedTuple

# Kind of message -> field number -> kind of message. What is not here holds no tensor.
MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE, FUNCTION, TRAINING, ENTRY = range(9)
WITHIN: dict[int, dict[int, int]] = {
    MODEL: {7: GRAPH, 20: TRAINING, 25: FUNCTION},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    SPARSE: {1: TENSOR, 2: TENSOR},
    FUNCTION: {7: NODE, 11: ATTRIBUTE},
    TRAINING: {1: GRAPH, 2: GRAPH},
}
EXTERNAL_DATA, DATA_LOCATION, EXTERNAL = 13, 14, 1
# The initializers of the model's own graph may be external; its path is this one.
OWN_INITIALIZER = (MODEL, GRAPH, TENSOR)
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5


class ExternalDataError(ValueError):
    """A model that keeps weights where it must not, or is no model."""


class _Message(NamedTuple):
    path: tuple[int, ...]  # kinds of the messages that it lies in, and its own
    content: memoryview


def external_files(model: bytes, allowed: Container[str]) -> list[str]:
    """Names of the files that hold initializers of `model`, each once.

    Raises ExternalDataError where one is not `allowed`, or any other tensor is external (of a subgraph, an attribute, a function, or
    sparse), or `model` is no protobuf.
    """
    names: dict[str, None] = {}
    waiting = [_Message((MODEL,), memoryview(model))]
    while waiting:
        message = waiting.pop()
        if message.path[-1] == TENSOR:
            names |= dict.fromkeys(_locations(message, allowed))
            continue
        inner = WITHIN[message.path[-1]]
        for number, value in _fields(message.content):
            if number in inner and isinstance(value, memoryview):
                waiting.append(_Message((*message.path, inner[number]), value))
    return list(names)


def _locations(tensor: _Message, allowed: Container[str]) -> list[str]:
    external, locations = False, []
    for number, value in _fields(tensor.content):
        external |= number == EXTERNAL_DATA or (number == DATA_LOCATION and value == EXTERNAL)
        if number == EXTERNAL_DATA and isinstance(value, memoryview):
            entry = {key: _text(text) for key, text in _fields(value)}
            locations += [entry.get(2, "")] if entry.get(1) == "location" else []
    if not external:
        return []
    if tensor.path != OWN_INITIALIZER:
        raise ExternalDataError("a tensor of a node has its data in another file; only initializers may")
    if not locations:
        raise ExternalDataError("an initializer has its data in another file, and does not say in which")
    for location in locations:
        if location not in allowed:
            raise ExternalDataError(
                f"has weights in {location!a}, which is not among the files of the manifest; export it with its weights inside"
            )
    return locations


def _text(value: memoryview | int) -> str:
    return bytes(value).decode("utf-8", "backslashreplace") if isinstance(value, memoryview) else ""


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field: bytes, or the number of a varint (0 for numbers of fixed size)."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        number, wire = key >> 3, key & 7
        value: memoryview | int = 0
        if wire == VARINT:
            value, place = _varint(content, place)
        elif wire == BYTES:
            size, place = _varint(content, place)
            value, place = content[place : place + size], place + size
        elif wire in (FIXED_64, FIXED_32):
            place += 8 if wire == FIXED_64 else 4
        else:  # groups, which ONNX does not have
            raise ExternalDataError("is no model of ONNX")
        if place > len(content):
            raise ExternalDataError("is no model of ONNX, or is cut off")
        yield number, value


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            break
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise ExternalDataError("is no model of ONNX, or is cut off")
