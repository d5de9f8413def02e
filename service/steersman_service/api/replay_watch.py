"""Replays the scenarios of the store when a bundle begins to be served, and those that change while it is."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

from steersman.v1 import scenario_service_pb2 as pb
from steersman_service.api.caller import Caller
from steersman_service.api.replaying import ScenarioReplays
from steersman_service.errors import RequestError, StartupError, StoreUnavailable
from steersman_service.sessions.scenarios import MeasuredName

REPEAT_SECONDS = 60.0
# A share of the queue of its own, behind which no caller waits.
WATCH = Caller(tenant="steersman:scenario-replay")
WORSE = (pb.REPLAY_STATUS_MOVED, pb.REPLAY_STATUS_BROKEN)
MOST_NAMED = 10

log = structlog.get_logger()


class ReplayWatch:
    """One process of a server has one. A scenario is replayed once, until it is put again."""

    def __init__(self, replays: ScenarioReplays, report: Callable[[Mapping[int, int]], None]) -> None:
        """`report` takes how many scenarios there are of each ReplayStatus."""
        self._replays, self._report = replays, report
        self._known: dict[MeasuredName, pb.ScenarioReplay] = {}

    async def update(self) -> list[pb.ScenarioReplay]:
        """Replays what is new; those of all scenarios. Logs each one that moved or broke. Errors are those of ScenarioReplays.replay."""
        names = await self._replays.store.measured_names()
        self._known = {name: self._known[name] for name in names if name in self._known}
        for name in names:
            if name in self._known:
                continue
            replay = await self._replays.replay(name.name, WATCH)
            # If it was put again meanwhile, the next update sees to it.
            if replay is not None and replay.version == name.version:
                self._known[name] = replay
                _log(replay)
        self._report(Counter(replay.status for replay in self._known.values()))
        return list(self._known.values())

    async def block(self) -> None:
        """Raises StartupError if a scenario moved or broke. Without the session store there is nothing to compare with, and no error."""
        try:
            worse = [replay for replay in await self.update() if replay.status in WORSE]
        except StoreUnavailable:
            log.warning("scenarios not replayed", why="the session store does not answer", serves="all the same")
            return
        except RequestError as error:
            raise StartupError(f"scenarios cannot be replayed: {error.message}") from error
        if worse:
            named = ", ".join(f"{replay.name} ({_status(replay)})" for replay in worse[:MOST_NAMED])
            more = f" and {len(worse) - MOST_NAMED} more" if len(worse) > MOST_NAMED else ""
            raise StartupError(
                f"scenarios do something else with bundle {self._replays.release.version}: {named}{more}. Serve it with"
                " scenario_replay=report and see `steersman scenarios replay`; scenarios that are put again under it count as meant"
            )

    async def run(self) -> None:
        """Updates again and again. What fails is tried again the next time, and logged once in a row."""
        failed = ""
        while True:
            try:
                await self.update()
                failed = ""
            except Exception as error:
                why = error.reason if isinstance(error, RequestError) else type(error).__name__
                if why != failed:
                    foreseen = isinstance(error, RequestError)
                    log.warning(
                        "scenarios not replayed", why=why, again_in_seconds=REPEAT_SECONDS, exc_info=not foreseen
                    )
                failed = why
            await asyncio.sleep(REPEAT_SECONDS)


def _log(replay: pb.ScenarioReplay) -> None:
    """Nothing of the scenario but its name: not what is wrong, only the field that is."""
    if replay.status == pb.REPLAY_STATUS_MOVED:
        outside = sum(effect.outside for effect in replay.effects)
        log.warning("scenario moved", scenario=replay.name, effects_outside=outside, effects=len(replay.effects))
    elif replay.status == pb.REPLAY_STATUS_BROKEN:
        log.warning("scenario broken", scenario=replay.name, field=replay.problem.partition(":")[0])


def _status(replay: pb.ScenarioReplay) -> str:
    return pb.ReplayStatus.Name(replay.status).removeprefix("REPLAY_STATUS_").lower()
