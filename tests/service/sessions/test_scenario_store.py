"""Scenarios in a real Valkey, and the memory of those that requests name."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from steersman.v1.scenario_service_pb2 import SCENARIO_ACTION_DELETE, SCENARIO_ACTION_PUT, Scenario
from steersman_service.errors import ScenarioUnreadable, StoreUnavailable, TooManyScenarios, VersionConflict
from steersman_service.sessions import scenarios as module
from steersman_service.sessions.measurements import KeptEffect, Measured, Measurement
from steersman_service.sessions.scenarios import KEYS, ScenarioReader, ScenarioStore
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics

MUCH = 1 << 20


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    configure_logs("critical", "json")
    server = EmbeddedValkey.start(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


def connect(valkey: EmbeddedValkey) -> SessionStore:
    return SessionStore(valkey.url, max_events=3, ttl_seconds=100.0, timeout_seconds=20.0, metrics=Metrics())


@pytest.fixture
async def scenarios(valkey: EmbeddedValkey) -> AsyncIterator[ScenarioStore]:
    """Empty."""
    sessions = connect(valkey)
    store = ScenarioStore(sessions)
    yield store
    for name in await store.names():
        await store.delete(name, 0, "")
    await sessions.close()


async def test_a_scenario_from_first_version_to_last(scenarios: ScenarioStore) -> None:
    one = await scenarios.put(Scenario(name="home", description="Ünfinished"), "ada")
    assert (one.version, one.updated_by, one.description) == (1, "ada", "Ünfinished")
    assert one.updated.seconds > 1_700_000_000
    one.description = "finished"
    two = await scenarios.put(one, "bo")
    assert await scenarios.get("home") == two
    assert two.version == 2
    with pytest.raises(VersionConflict) as caught:
        await scenarios.put(one, "eve")
    assert caught.value.metadata == {"field": "scenario.version", "version": "2"}
    with pytest.raises(VersionConflict):
        await scenarios.delete("home", 1, "eve")
    assert await scenarios.delete("home", 2, "bo")
    assert not await scenarios.delete("home", 2, "bo")
    assert not await scenarios.delete("home", 0, "bo")
    assert await scenarios.get("home") is None
    with pytest.raises(VersionConflict, match="there is none"):
        await scenarios.put(two, "eve")
    told = await scenarios.changes("home", "", 10, MUCH)
    assert [(change.action, change.version, change.author) for change in told.changes] == [
        (SCENARIO_ACTION_DELETE, 2, "bo"),
        (SCENARIO_ACTION_PUT, 2, "bo"),
        (SCENARIO_ACTION_PUT, 1, "ada"),
    ]
    assert told.changes[1].scenario == two
    assert not told.changes[0].HasField("scenario")


async def test_of_many_who_have_seen_the_same_version_one_wins(scenarios: ScenarioStore) -> None:
    for seen in range(3):
        puts = (scenarios.put(Scenario(name="race", version=seen), f"{n}") for n in range(20))
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert sum(isinstance(result, Scenario) for result in results) == 1
        assert sum(isinstance(result, VersionConflict) for result in results) == 19


async def test_scenarios_are_bounded_in_number_and_in_changes(
    scenarios: ScenarioStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SCENARIOS", 3)
    monkeypatch.setattr(module, "MAX_CHANGES", 5)
    for name in "abc":
        await scenarios.put(Scenario(name=name), "")
    with pytest.raises(TooManyScenarios):
        await scenarios.put(Scenario(name="d"), "")
    for version in range(1, 6):
        await scenarios.put(Scenario(name="a", version=version), "")
    assert [change.version for change in (await scenarios.changes("", "", 100, MUCH)).changes] == [6, 5, 4, 3, 2]
    assert (await scenarios.changes("b", "", 100, MUCH)).changes == []
    await scenarios.delete("a", 0, "")
    await scenarios.put(Scenario(name="d"), "")


async def test_pages(scenarios: ScenarioStore) -> None:
    for name in "ecadb":
        await scenarios.put(Scenario(name=name, description=name * 500), "")
    first = await scenarios.page("", 2, MUCH)
    assert ([one.name for one in first.scenarios], first.more, first.total) == (["a", "b"], True, 5)
    await scenarios.delete("b", 0, "")  # what is listed meanwhile is neither repeated nor left out
    rest = await scenarios.page("b", 10, MUCH)
    assert ([one.name for one in rest.scenarios], rest.more) == (["c", "d", "e"], False)
    assert len((await scenarios.page("", 10, 1200)).scenarios) == 2
    assert len((await scenarios.page("", 10, 0)).scenarios) == 1
    names, place = [], ""
    while True:
        page = await scenarios.changes("", place, 2, MUCH)
        names += [change.name for change in page.changes]
        if not (place := page.next_place):
            break
    assert names == [*"bbdace", *names[6:]]
    assert len((await scenarios.changes("", "", 10, 0)).changes) == 1


def test_all_keys_share_a_hash_tag_that_no_session_has() -> None:
    assert {key[key.index("{") : key.index("}") + 1] for key in KEYS} == {"{/scenarios}"}


async def test_a_scenario_is_read_once_a_while_and_a_change_is_seen_after_it(
    scenarios: ScenarioStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits: list[bool] = []
    reader = ScenarioReader(scenarios, hits.append)
    kept = await scenarios.put(Scenario(name="home"), "")
    monkeypatch.setattr(module, "FRESH_SECONDS", 1000.0)
    known = await asyncio.gather(*(reader.get("home") for _ in range(10)))
    assert {one.scenario.version for one in known if one.scenario} == {1}
    assert hits == [False] * 10
    await scenarios.put(kept, "")  # by another front end
    again = await reader.get("home")
    assert again.scenario
    assert (again.scenario.version, hits[-1]) == (1, True)
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    newer = await reader.get("home")
    assert newer.scenario
    assert (newer.scenario.version, hits[-1]) == (2, False)
    monkeypatch.setattr(module, "FRESH_SECONDS", 1000.0)
    reader.forget("home")
    await scenarios.delete("home", 0, "")
    gone = await reader.get("home")
    assert (gone.scenario, gone.names) == (None, [])
    for name in ("home-1", "home-2", "hone", "quite-another"):
        await scenarios.put(Scenario(name=name), "")
    assert (await reader.get("home-")).names == ["home-2", "home-1", "hone"], (
        "what is remembered of many names is little"
    )


async def test_what_is_no_scenario_is_named_left_alone_and_put_right(
    valkey: EmbeddedValkey, scenarios: ScenarioStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    reader, fresh = ScenarioReader(scenarios), ScenarioReader(scenarios)
    await scenarios.put(Scenario(name="away"), "")
    kept = await scenarios.put(Scenario(name="home"), "")
    assert (await reader.get("home")).scenario == kept
    async with Redis.from_url(valkey.url) as redis:
        await redis.hset(KEYS[0], "home", b"\xff")
        for call in (scenarios.get("home"), scenarios.page("", 9, MUCH), scenarios.measured("home"), fresh.get("home")):
            with pytest.raises(ScenarioUnreadable, match="'home'"):
                await call
        assert (await reader.get("home")).scenario == kept, "what was read before holds"
        assert await redis.hget(KEYS[0], "home") == b"\xff"
    newer = await scenarios.put(kept, "")
    assert [(await each.get("home")).scenario for each in (reader, fresh)] == [newer, newer]


async def test_a_change_here_while_it_is_read_is_not_overwritten(scenarios: ScenarioStore) -> None:
    reader = ScenarioReader(scenarios)
    await scenarios.put(Scenario(name="home"), "")
    reading = asyncio.create_task(reader.get("home"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reader.forget("home")
    await reading
    assert not reader._known
    await reader.get("home")
    assert reader._known
    assert not reader._reading


async def test_the_store_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    valkey = EmbeddedValkey.start(tmp_path)
    sessions = connect(valkey)
    scenarios = ScenarioStore(sessions)
    reader = ScenarioReader(scenarios)
    await scenarios.put(Scenario(name="home"), "")
    await reader.get("home")
    os.kill(valkey.pid, signal.SIGKILL)
    valkey.stop()
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    for _ in range(2):
        known = await reader.get("home")
        assert known.scenario
    with pytest.raises(StoreUnavailable):
        await reader.get("other")
    assert not reader._reading
    await sessions.close()


async def test_memory_is_bounded(scenarios: ScenarioStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    reader = ScenarioReader(scenarios)
    for number in range(10):
        assert (await reader.get(f"{number}")).scenario is None
    assert list(reader._known) == ["7", "8", "9"]


async def test_what_was_measured_is_kept_with_a_version_and_goes_with_it(
    scenarios: ScenarioStore, valkey: EmbeddedValkey
) -> None:
    effects = [KeptEffect("overlap", [0.5, 1.0]), KeptEffect("share", [0.0, 0.1], "genres", "War", ("x",))]
    histories = [["a", "ü"], ["b"]]
    one = await scenarios.put(Scenario(name="home"), "", Measured("v1", histories, effects))
    await scenarios.put(Scenario(name="other"), "", Measured("v1", histories, effects[:1]))
    await scenarios.put(Scenario(name="none"), "")
    names = await scenarios.measured_names()
    assert [(name.name, name.version, name.source[:3]) for name in names] == [
        ("home", 1, "v1 "),
        ("none", 1, ""),
        ("other", 1, "v1 "),
    ]
    source = names[0].source
    assert await scenarios.measured("home") == (one, Measurement(1, source, effects))
    assert await scenarios.histories(source) == histories
    assert await scenarios.measured("nowhere") is None
    # Other histories of the same bundle, as a server of another version may choose, stand beside these.
    await scenarios.put(Scenario(name="home", version=1), "", Measured("v1", [["c"]], effects))
    other = {name.name: name.source for name in await scenarios.measured_names()}
    assert other["home"] != other["other"] == source
    assert await scenarios.histories(other["home"]) == [["c"]]
    await scenarios.put(Scenario(name="home", version=2), "")
    kept = await scenarios.measured("home")
    assert kept is not None
    assert kept[1] is None
    assert await scenarios.histories(other["home"]) is None
    # A server that knows nothing of effects replaces the scenario.
    async with Redis.from_url(valkey.url) as redis:
        await redis.hset(KEYS[0], "other", Scenario(name="other", version=2).SerializeToString())
        await redis.hset(KEYS[1], "other", 2)
        assert await scenarios.measured("other") == (Scenario(name="other", version=2), None)
        # A later one writes them in another way.
        await redis.hset(KEYS[3], "other", b"?")
        assert await scenarios.measured("other") == (Scenario(name="other", version=2), None)
    await scenarios.delete("other", 0, "")
    assert await scenarios.histories(source) is None
