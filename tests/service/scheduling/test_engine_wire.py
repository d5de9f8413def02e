"""Messages between an engine's process and those it computes for."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from steersman_service.scheduling.engine_wire import packed, unpacked


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(0, 1600), max_size=8))
def test_messages_come_whole_and_in_order_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream, unread = b"".join(map(packed, messages)), bytearray()
    came: list[bytes] = []
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for begin, end in pairwise(edges):
        unread += stream[begin:end]
        came += unpacked(unread)
    assert came == messages
    assert not unread
