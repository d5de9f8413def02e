"""Calls that ended before the server saw them: gRPC's core dropped them, their deadline passed, or their caller gave up, while they waited.

They reach neither an interceptor nor a log. The core counts what it receives (channelz), so their number is known.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from grpc_channelz.v1.channelz import ChannelzServicer
from grpc_channelz.v1.channelz_pb2 import GetServerRequest, GetServersRequest

LOOK_SECONDS = 1.0
# Those that wait now have not ended: what was received and not seen is looked at so often, and the least of it counts.
LOOKS = 5
# It would only be told about errors.
CONTEXT: Any = None


class Received:
    """What a server received since it was made."""

    def __init__(self) -> None:
        """Of the server that was made last in this process."""
        self._id, more = 0, True
        while more:
            listed = ChannelzServicer.GetServers(GetServersRequest(start_server_id=self._id + 1), CONTEXT)
            self._id = listed.server[-1].ref.server_id if listed.server else self._id
            more = not listed.end
        if not self._id:
            raise LookupError("this process has no gRPC server")

    def calls(self) -> int:
        answer = ChannelzServicer.GetServer(GetServerRequest(server_id=self._id), CONTEXT)
        return int(answer.server.data.calls_started)


async def count_unseen(received: Callable[[], int], seen: Callable[[], int], add: Callable[[float], None]) -> None:
    """Tells `add` about them until it is cancelled, some seconds late and to within the calls that wait.

    `received` and `seen` give numbers of calls since the server was made.
    """
    looks, told = deque[int](maxlen=LOOKS), 0
    while True:
        looks.append(received() - seen())
        if len(looks) == LOOKS and (least := min(looks)) > told:
            add(least - told)
            told = least
        await asyncio.sleep(LOOK_SECONDS)
