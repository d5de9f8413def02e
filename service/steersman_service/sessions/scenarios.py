"""Keeps scenarios in the session store, without expiry, and remembers those that requests name."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from google.protobuf.message import DecodeError

from steersman.v1.scenario_service_pb2 import (
    SCENARIO_ACTION_DELETE,
    SCENARIO_ACTION_PUT,
    Scenario,
    ScenarioChange,
)
from steersman_service.checks import nearest
from steersman_service.errors import ScenarioUnreadable, StoreUnavailable, TooManyScenarios, VersionConflict
from steersman_service.sessions.measurements import Histories, Measured, Measurement, decoded, decoded_histories
from steersman_service.sessions.patience import DEADLINE
from steersman_service.sessions.pipeline import Part
from steersman_service.sessions.store import SessionStore

MAX_SCENARIOS = 1000
MAX_CHANGES = 1000
# No session has an id with a slash. One hash tag: all of them are on one node of a cluster.
PARTS = ("documents", "versions", "changes", "effects", "measured", "histories")
KEYS = tuple(f"steersman:{{/scenarios}}:{part}" for part in PARTS)
# A change is seen within this time, by every front end.
FRESH_SECONDS = 1.0
MAX_REMEMBERED = 1000


class ScenarioPage(NamedTuple):
    total: int
    more: bool
    scenarios: Sequence[Scenario]


class ChangePage(NamedTuple):
    changes: Sequence[ScenarioChange]
    next_place: str
    """Where the next page begins. Empty: nowhere."""


class MeasuredName(NamedTuple):
    """A scenario, and where its effects were measured."""

    name: str
    version: int
    source: str
    """Empty: nowhere."""


class ScenarioStore:
    """Each operation is one call of a function of `scenarios.lua`, atomic on the server, and raises StoreUnavailable; ScenarioUnreadable
    where one is read that is none."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def get(self, name: str) -> Scenario | None:
        """None: there is none."""
        found = await self._store.call("get_scenario", KEYS, [name])
        return None if found is None else _scenario(name, found)

    async def names(self) -> list[str]:
        return sorted(name.decode() for name in await self._store.call("name_scenarios", KEYS, []))

    async def page(self, after: str, most: int, most_bytes: int) -> ScenarioPage:
        """Those whose name comes after `after`, by name; one at least, however large."""
        total, more, found = await self._store.call("list_scenarios", KEYS, [after, most, most_bytes])
        try:
            scenarios = [Scenario.FromString(document) for document in found]
        except DecodeError:
            for name in await self.names():
                await self.get(name)  # raises for the one that it is
            raise StoreUnavailable from None  # it was put right meanwhile
        return ScenarioPage(total, bool(more), scenarios)

    async def measured_names(self) -> list[MeasuredName]:
        """Of all scenarios, by name."""
        found = [part.decode() for part in await self._store.call("list_measured", KEYS, [])]
        names = zip(found[::3], found[1::3], found[2::3], strict=True)
        return sorted(MeasuredName(name, int(version), source) for name, version, source in names)

    async def measured(self, name: str) -> tuple[Scenario, Measurement | None] | None:
        """A scenario, and what was measured of this version of it; None: there is no such scenario."""
        document, effects = await self._store.call("get_measured", KEYS, [name])
        if document is None:
            return None
        scenario = _scenario(name, document)
        measurement = decoded(effects) if effects is not None else None
        # A server that knows nothing of effects may have replaced the scenario.
        if measurement is not None and measurement.scenario_version != scenario.version:
            measurement = None
        return scenario, measurement

    async def histories(self, source: str) -> Histories | None:
        """None: they are not kept any more, because the scenario was put again."""
        found = await self._store.call("get_histories", KEYS, [source])
        return None if found is None else decoded_histories(found)

    async def put(self, scenario: Scenario, author: str, measured: Measured | None = None) -> Scenario:
        """Keeps a scenario whose version is the one that the caller has seen, with what was measured of it. Raises VersionConflict or
        TooManyScenarios."""
        kept, seen = Scenario(), scenario.version
        kept.CopyFrom(scenario)
        kept.version, kept.updated_by = seen + 1, author
        kept.updated.GetCurrentTime()
        change = ScenarioChange(
            name=kept.name, action=SCENARIO_ACTION_PUT, time=kept.updated, author=author, scenario=kept
        )
        arguments: list[Part] = [
            kept.name,
            seen,
            kept.SerializeToString(),
            change.SerializeToString(),
            MAX_SCENARIOS,
            MAX_CHANGES,
            *(measured.encoded(kept.version) if measured else ()),
        ]
        version, found = await self._store.call("put_scenario", KEYS, arguments)
        if version == -1:
            raise VersionConflict("scenario.version", seen, found)
        if version == -2:
            raise TooManyScenarios(MAX_SCENARIOS)
        return kept

    async def delete(self, name: str, version: int, author: str) -> bool:
        """Whether there was one. `version` is the one that the caller has seen, 0 for any. Raises VersionConflict."""
        change = ScenarioChange(name=name, action=SCENARIO_ACTION_DELETE, author=author)
        change.time.GetCurrentTime()
        arguments: list[Part] = [name, version, change.SerializeToString(), MAX_CHANGES]
        existed, found = await self._store.call("delete_scenario", KEYS, arguments)
        if existed == -1:
            # One that is not there is deleted already.
            if not found:
                return False
            raise VersionConflict("version", version, found)
        return bool(existed)

    async def changes(self, name: str, place: str, most: int, most_bytes: int) -> ChangePage:
        """The latest first, from `place` on ("": from the newest), of scenario `name` ("": of all)."""
        begin = f"({place}" if place else "+"
        more, found = await self._store.call("list_changes", KEYS, [name, begin, most, most_bytes])
        changes = []
        for version, data in zip(found[1::3], found[2::3], strict=True):
            change = ScenarioChange.FromString(data)
            change.version = int(version)
            changes.append(change)
        return ChangePage(changes, found[-3].decode() if more else "")


def _scenario(name: str, document: bytes) -> Scenario:
    """Raises ScenarioUnreadable."""
    try:
        return Scenario.FromString(document)
    except DecodeError:
        raise ScenarioUnreadable(name) from None


class KnownScenario(NamedTuple):
    """What is remembered under a name."""

    scenario: Scenario | None
    """None: there is none."""
    names: Sequence[str]
    """Of scenarios that this one may have been meant for, where there is none."""
    read: float
    """When, in seconds of time.monotonic()."""


class ScenarioReader:
    """Remembers scenarios for FRESH_SECONDS: one that does not change costs no visit to the store for each request.

    Requests that come while one of them reads a scenario anew take the one that is remembered. So they do for FRESH_SECONDS after the store
    did not answer.
    """

    def __init__(self, store: ScenarioStore, observe: Callable[[bool], None] = lambda hit: None) -> None:
        """`observe` is called with whether a scenario that a request names was in memory."""
        self._store, self._observe = store, observe
        self._known: OrderedDict[str, KnownScenario] = OrderedDict()
        self._reading: dict[str, asyncio.Task[KnownScenario | StoreUnavailable]] = {}

    async def get(self, name: str) -> KnownScenario:
        """Raises StoreUnavailable if the store is away and the scenario is not remembered."""
        known = self._known.get(name)
        if known and (name in self._reading or time.monotonic() - known.read < FRESH_SECONDS):
            self._observe(True)
            return known
        # A task of its own: a caller that goes away does not end what others wait for.
        task = self._reading.get(name)
        if task is None:
            task = self._reading[name] = asyncio.create_task(self._read(name))
        read = await asyncio.shield(task)
        self._observe(False)
        if isinstance(read, StoreUnavailable):
            if known is None:
                raise read
            read = known._replace(read=time.monotonic())
            if name in self._known:
                self._remember(name, read)
        return read

    def forget(self, name: str) -> None:
        """It was changed here."""
        self._known.pop(name, None)
        self._reading.pop(name, None)

    async def _read(self, name: str) -> KnownScenario | StoreUnavailable:
        began = time.monotonic()
        # It is read for all that wait, whoever came first.
        DEADLINE.set(float("inf"))
        known: KnownScenario | StoreUnavailable
        try:
            scenario = await self._store.get(name)
            names = [] if scenario else nearest(name, await self._store.names())
            known = KnownScenario(scenario, names, began)
        except StoreUnavailable as error:
            known = error
        finally:
            # Not if it was changed here meanwhile.
            if unchanged := self._reading.get(name) is asyncio.current_task():
                del self._reading[name]
        if unchanged and isinstance(known, KnownScenario):
            self._remember(name, known)
        return known

    def _remember(self, name: str, known: KnownScenario) -> None:
        self._known[name] = known
        self._known.move_to_end(name)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
