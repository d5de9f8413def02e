"""Answers of ReleaseService."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

from steersman.v1 import release_service_pb2 as pb

Channel = Literal["stable", "canary"]
CHANNELS: dict[str, "pb.Channel"] = {"stable": pb.CHANNEL_STABLE, "canary": pb.CHANNEL_CANARY}


@dataclass(frozen=True)
class Release:
    """A bundle that a server serves, loads, lets go of, served before or refused."""

    version: str
    """Empty where its manifest could not be read."""
    name: str
    """Of its folder."""
    channel: str
    """ "stable" or "canary"."""
    state: str
    """ "loading", "serving", "draining", "before" or "refused"."""
    share: float
    """Of the calls that have a session or a history, 0 to 1."""
    since: datetime
    problem: str
    """Why it was refused."""

    @classmethod
    def of(cls, message: pb.Release) -> Self:
        return cls(
            version=message.version,
            name=message.name,
            channel=_word(pb.Channel, message.channel, "CHANNEL_"),
            state=_word(pb.ReleaseState, message.state, "RELEASE_STATE_"),
            share=message.share,
            since=message.since.ToDatetime(UTC),
            problem=message.problem,
        )


def _word(enum: Any, value: int, prefix: str) -> str:
    """Empty for what this client does not know."""
    known = value in enum.values()
    return str(enum.Name(value)).removeprefix(prefix).lower() if known else ""
