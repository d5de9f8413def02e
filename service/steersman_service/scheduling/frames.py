"""Frames of msgpack between processes of one server: the length in 4 bytes, then a list of messages."""

import asyncio
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec

LENGTH = struct.Struct("!I")
_encoder = msgspec.msgpack.Encoder()
Message = TypeVar("Message")


def frame(messages: Sequence[Any]) -> bytes:
    """Messages (msgspec structs) as one frame."""
    data = _encoder.encode(messages)
    return LENGTH.pack(len(data)) + data


class FrameReader(Generic[Message]):
    """Cuts a stream of bytes into frames."""

    def __init__(self, decoder: "msgspec.msgpack.Decoder[list[Message]]") -> None:
        self._decoder = decoder
        self._unread = bytearray()

    def messages(self, data: bytes) -> Iterator[Message]:
        """Of all frames that `data` completes. Raises msgspec.DecodeError."""
        unread = self._unread
        unread += data
        begin = 0
        try:
            while len(unread) - begin >= LENGTH.size:
                end = begin + LENGTH.size + LENGTH.unpack_from(unread, begin)[0]
                if len(unread) < end:
                    return
                found, begin = bytes(unread[begin + LENGTH.size : end]), end
                yield from self._decoder.decode(found)
        finally:
            del unread[:begin]


async def received(reader: asyncio.StreamReader, frames: FrameReader[Message]) -> Sequence[Message] | None:
    """The next messages of a stream, none or more; None at its end."""
    data = await reader.read(1 << 16)
    return [*frames.messages(data)] if data else None
