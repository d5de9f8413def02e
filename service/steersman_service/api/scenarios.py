"""ScenarioService: keeps named sets of controls, filters and composition."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from steersman.v1 import scenario_service_pb2 as pb
from steersman_service.api.caller import Caller
from steersman_service.api.pages import CLIENTS_BYTES, MAX_PAGE_SIZE, MAX_TOKEN_CHARACTERS, REST_BYTES
from steersman_service.api.placement import read_scenario, unknown_scenario
from steersman_service.api.release import Release
from steersman_service.api.replaying import ScenarioReplays
from steersman_service.checks import check_bytes, check_name
from steersman_service.errors import FieldViolation, InvalidRequest, NotFound, raise_if_any
from steersman_service.sessions.scenarios import MAX_SCENARIOS, ScenarioReader, ScenarioStore
from steersman_service.settings import Settings
from steersman_service.steering.policy import check_policy

DEFAULT_PAGE_SIZE = 50
MAX_DESCRIPTION_BYTES, MAX_AUTHOR_BYTES, MAX_SCENARIO_BYTES = 1000, 128, 64 << 10
# What an element of a page may take beside the bytes that the store counts: a length, and a version.
ELEMENT_BYTES = 16
# As the store tells the place of a change.
PLACE = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(frozen=True)
class ScenarioService:
    release: Release
    store: ScenarioStore
    reader: ScenarioReader
    settings: Settings
    replays: ScenarioReplays

    async def ListScenarios(self, request: pb.ListScenariosRequest, caller: Caller) -> pb.ListScenariosResponse:
        raise_if_any(list(_check_page_size(request.page_size)))
        size = request.page_size or DEFAULT_PAGE_SIZE
        page = await self.store.page(_read_token(request.page_token, "name"), size, self._page_bytes(size))
        token = _token("name", page.scenarios[-1].name) if page.more else ""
        return pb.ListScenariosResponse(scenarios=page.scenarios, next_page_token=token, total_size=page.total)

    async def GetScenario(self, request: pb.GetScenarioRequest, caller: Caller) -> pb.GetScenarioResponse:
        raise_if_any(list(check_name("name", request.name)))
        scenario = await self.store.get(request.name)
        if scenario is None:
            raise NotFound(f"name: {unknown_scenario(request.name, await self.store.names())}")
        return pb.GetScenarioResponse(scenario=scenario)

    async def PutScenario(self, request: pb.PutScenarioRequest, caller: Caller) -> pb.PutScenarioResponse:
        scenario = request.scenario
        scenario.DiscardUnknownFields()
        raise_if_any([*self._check(scenario), *check_bytes("author", request.author, 0, MAX_AUTHOR_BYTES)])
        measured = await self.replays.measured(scenario, caller)
        kept = await self.store.put(scenario, caller.author(request.author), measured)
        self.reader.forget(kept.name)
        histories = len(measured.histories) if measured else 0
        return pb.PutScenarioResponse(scenario=kept, measured_histories=histories)

    async def DeleteScenario(self, request: pb.DeleteScenarioRequest, caller: Caller) -> pb.DeleteScenarioResponse:
        wrong_author = check_bytes("author", request.author, 0, MAX_AUTHOR_BYTES)
        raise_if_any([*check_name("name", request.name), *wrong_author])
        existed = await self.store.delete(request.name, request.version, caller.author(request.author))
        self.reader.forget(request.name)
        return pb.DeleteScenarioResponse(existed=existed)

    async def ListScenarioChanges(
        self, request: pb.ListScenarioChangesRequest, caller: Caller
    ) -> pb.ListScenarioChangesResponse:
        wrong_name = check_name("name", request.name) if request.name else ()
        raise_if_any([*wrong_name, *_check_page_size(request.page_size)])
        size = request.page_size or DEFAULT_PAGE_SIZE
        kind = f"change {request.name}"
        place = _read_token(request.page_token, kind)
        if place and not PLACE.fullmatch(place):
            raise _wrong_token()
        page = await self.store.changes(request.name, place, size, self._page_bytes(size))
        token = _token(kind, page.next_place) if page.next_place else ""
        return pb.ListScenarioChangesResponse(changes=page.changes, next_page_token=token)

    async def ReplayScenarios(self, request: pb.ReplayScenariosRequest, caller: Caller) -> pb.ReplayScenariosResponse:
        raise_if_any([*_check_names(request.names), *_check_page_size(request.page_size)])
        size = request.page_size or DEFAULT_PAGE_SIZE
        digest = hashlib.sha256("\n".join(sorted(set(request.names))).encode()).hexdigest()[:16]
        kind = f"replay {digest}"
        after = _read_token(request.page_token, kind)
        left = [name for name in await self._names(request.names) if name > after]
        page = pb.ReplayScenariosResponse(bundle_version=self.release.version)
        room, half = self._page_bytes(size), caller.seconds_left / 2
        for place, name in enumerate(left):
            full = len(page.replays) == size or caller.seconds_left < half
            # Deleted since its name was read: none.
            replay = None if full and page.replays else await self.replays.replay(name, caller)
            room -= replay.ByteSize() if replay else 0
            if page.replays and (full or room < 0):
                page.next_page_token = _token(kind, left[place - 1])
                break
            if replay:
                page.replays.append(replay)
        return page

    async def _names(self, wanted: Sequence[str]) -> list[str]:
        """Of the scenarios that are there, in order. Raises NotFound for one of `wanted` that is not; none: all."""
        names = await self.store.names()
        known = frozenset(names)
        for index, name in enumerate(wanted):
            if name not in known:
                raise NotFound(f"names[{index}]: {unknown_scenario(name, names)}")
        return sorted(set(wanted)) if wanted else names

    def _check(self, scenario: pb.Scenario) -> Iterator[FieldViolation]:
        # What is large is not looked at.
        if (size := scenario.ByteSize()) > MAX_SCENARIO_BYTES:
            yield FieldViolation("scenario", f"{size} bytes; at most {MAX_SCENARIO_BYTES}")
            return
        yield from check_name("scenario.name", scenario.name)
        yield from check_bytes("scenario.description", scenario.description, 0, MAX_DESCRIPTION_BYTES)
        release, settings = self.release, self.settings
        yield from check_policy(
            scenario.policy, release.catalogue, release.items, settings.max_strength, "scenario.policy"
        )
        yield from read_scenario(scenario, release, settings.max_filter_items)[1]

    def _page_bytes(self, size: int) -> int:
        return max(0, min(self.settings.max_message_bytes, CLIENTS_BYTES) - REST_BYTES - ELEMENT_BYTES * size)


def _check_names(names: Sequence[str]) -> Iterator[FieldViolation]:
    if len(names) > MAX_SCENARIOS:
        yield FieldViolation("names", f"{len(names)} names; at most {MAX_SCENARIOS}")
        return
    for index, name in enumerate(names):
        yield from check_name(f"names[{index}]", name)


def _check_page_size(page_size: int) -> Iterator[FieldViolation]:
    if page_size > MAX_PAGE_SIZE:
        yield FieldViolation("page_size", f"{page_size}; at most {MAX_PAGE_SIZE}")


def _token(kind: str, place: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}\n{place}".encode()).decode()


def _read_token(token: str, kind: str) -> str:
    """The place that it names. Empty: the beginning. What changes meanwhile neither hides nor repeats anything else."""
    if not token:
        return ""
    try:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise ValueError
        named, _, place = base64.urlsafe_b64decode(token.encode()).decode().partition("\n")
    except (binascii.Error, ValueError):
        raise _wrong_token() from None
    if named != kind or not place:
        raise _wrong_token()
    return place


def _wrong_token() -> InvalidRequest:
    return InvalidRequest([FieldViolation("page_token", "belongs to another query: start again without it")])
