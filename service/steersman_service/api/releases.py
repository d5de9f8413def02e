"""ReleaseService: checks what is asked. The supervisor does it (processes/releases.py)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Protocol

from google.protobuf.message import Message

from steersman.v1 import release_service_pb2 as pb
from steersman_service.api.caller import Caller
from steersman_service.api.release import Release
from steersman_service.checks import check_bytes
from steersman_service.errors import FieldViolation, ReleasesFixed, raise_if_any

MAX_NAME_BYTES = 200


class ReleaseControl(Protocol):
    """Who changes what this server serves."""

    async def ask(self, request: Message) -> Sequence[pb.Release]:
        """Does what a request of ReleaseService asks; what there is then. Raises a RequestError."""


@dataclass(frozen=True)
class ReleaseService:
    control: ReleaseControl

    async def ListReleases(self, request: pb.ListReleasesRequest, caller: Caller) -> pb.ListReleasesResponse:
        return pb.ListReleasesResponse(releases=await self.control.ask(request))

    async def LoadRelease(self, request: pb.LoadReleaseRequest, caller: Caller) -> pb.LoadReleaseResponse:
        raise_if_any([*check_bytes("bundle", request.bundle, 1, MAX_NAME_BYTES), *_check_channel(request)])
        return pb.LoadReleaseResponse(releases=await self.control.ask(request))

    async def SetCanaryShare(self, request: pb.SetCanaryShareRequest, caller: Caller) -> pb.SetCanaryShareResponse:
        raise_if_any(list(_check_share(request.canary_share)))
        return pb.SetCanaryShareResponse(releases=await self.control.ask(request))

    async def PromoteCanary(self, request: pb.PromoteCanaryRequest, caller: Caller) -> pb.PromoteCanaryResponse:
        raise_if_any(list(check_bytes("version", request.version, 0, MAX_NAME_BYTES)))
        return pb.PromoteCanaryResponse(releases=await self.control.ask(request))

    async def RollBack(self, request: pb.RollBackRequest, caller: Caller) -> pb.RollBackResponse:
        return pb.RollBackResponse(releases=await self.control.ask(request))


class OneRelease:
    """The control of a process that serves one bundle for as long as it lives."""

    def __init__(self, version: str, name: str) -> None:
        """`name` of its folder."""
        state = pb.RELEASE_STATE_SERVING
        self._release = pb.Release(version=version, name=name, channel=pb.CHANNEL_STABLE, state=state, share=1.0)
        self._release.since.GetCurrentTime()

    @classmethod
    def of(cls, release: Release) -> "OneRelease":
        return cls(release.version, release.bundle.folder.name)

    async def ask(self, request: Message) -> Sequence[pb.Release]:
        if not isinstance(request, pb.ListReleasesRequest):
            raise ReleasesFixed("one bundle is served here for as long as the process lives: start `steersman serve`")
        return [self._release]


def _check_channel(request: pb.LoadReleaseRequest) -> Iterator[FieldViolation]:
    if request.channel not in pb.Channel.values():
        yield FieldViolation("channel", "is unknown: CHANNEL_STABLE or CHANNEL_CANARY")
    elif request.channel == pb.CHANNEL_CANARY:
        yield from _check_share(request.canary_share)
    elif request.canary_share:
        yield FieldViolation("canary_share", "goes only with channel CHANNEL_CANARY: the stable release has the rest")


def _check_share(share: float) -> Iterator[FieldViolation]:
    if isnan(share) or not 0 <= share <= 1:
        yield FieldViolation("canary_share", f"{share:g}; 0 to 1 is allowed")
