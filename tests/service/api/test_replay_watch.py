"""What a server says of scenarios when it begins to serve another bundle."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from steersman.v1 import scenario_service_pb2 as pb
from steersman_service.api import caller
from steersman_service.api import replay_watch as module
from steersman_service.api.caller import Caller
from steersman_service.api.replay_watch import ReplayWatch
from steersman_service.api.scenarios import ScenarioService
from steersman_service.errors import QueueFull, StartupError, StoreUnavailable
from steersman_service.sessions.scenarios import MeasuredName
from steersman_service.settings import load_settings

HELD, MOVED, BROKEN = pb.REPLAY_STATUS_HELD, pb.REPLAY_STATUS_MOVED, pb.REPLAY_STATUS_BROKEN
PROBLEM = "scenario.controls[0].concept: unknown concept 'secret'"


class FakeReplays:
    """Answers with a status for each name; counts what it is asked."""

    def __init__(self, **statuses: Any) -> None:
        self.statuses, self.versions = dict(statuses), dict.fromkeys(statuses, 1)
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.store = self
        self.release = SimpleNamespace(version="abc")

    async def measured_names(self) -> list[MeasuredName]:
        if self.error is not None:
            raise self.error
        return [MeasuredName(name, self.versions[name], "abc 1") for name in sorted(self.statuses)]

    async def names(self) -> list[str]:
        return sorted(self.statuses)

    async def replay(self, name: str, caller: Caller) -> pb.ScenarioReplay:
        self.asked.append(name)
        status = self.statuses[name]
        effects = [pb.ReplayedEffect(name="share of genres:secret", outside=status == MOVED), pb.ReplayedEffect()]
        problem = PROBLEM if status == BROKEN else ""
        return pb.ScenarioReplay(
            name=name, version=self.versions[name], status=status, effects=effects, problem=problem
        )


def watch(replays: FakeReplays) -> tuple[ReplayWatch, list[Mapping[int, int]]]:
    reports: list[Mapping[int, int]] = []
    return ReplayWatch(cast(Any, replays), reports.append), reports


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Of the log, at every level."""
    capture, every_level = structlog.testing.LogCapture(), structlog.make_filtering_bound_logger(0)
    monkeypatch.setattr(module, "log", structlog.wrap_logger(None, processors=[capture], wrapper_class=every_level))
    return cast(list[Any], capture.entries)


async def test_each_scenario_that_moved_or_broke_is_one_line_without_its_content(lines: list[Any]) -> None:
    watching, reports = watch(FakeReplays(a=MOVED, b=BROKEN, c=HELD))
    await watching.update()
    await watching.update()
    assert lines == [
        {
            "event": "scenario moved",
            "log_level": "warning",
            "scenario": "a",
            "effects_outside": 1,
            "effects": 2,
        },
        {"event": "scenario broken", "log_level": "warning", "scenario": "b", "field": "scenario.controls[0].concept"},
    ]
    assert reports == [{MOVED: 1, BROKEN: 1, HELD: 1}] * 2


async def test_a_scenario_is_replayed_again_when_it_was_put_again() -> None:
    replays = FakeReplays(a=MOVED, b=HELD)
    watching, reports = watch(replays)
    await watching.update()
    replays.statuses["a"], replays.versions["a"] = HELD, 2
    await watching.update()
    del replays.statuses["b"]
    await watching.update()
    assert replays.asked == ["a", "b", "a"]
    assert reports == [{MOVED: 1, HELD: 1}, {HELD: 2}, {HELD: 1}]


async def test_one_that_is_put_while_it_is_replayed_is_left_for_the_next_time() -> None:
    replays = FakeReplays(a=HELD)
    watching, reports = watch(replays)
    original = replays.measured_names

    async def older() -> list[MeasuredName]:
        names = await original()
        return [name._replace(version=name.version - 1) for name in names]

    replays.measured_names = older  # type: ignore[method-assign]
    await watching.update()
    replays.measured_names = original  # type: ignore[method-assign]
    await watching.update()
    assert reports == [{}, {HELD: 1}]


async def test_block_names_scenarios_and_the_remedy() -> None:
    replays = FakeReplays(**{f"s{place:02}": MOVED for place in range(12)}, other=HELD)
    with pytest.raises(StartupError, match=r"bundle abc: s00 \(moved\), .* and 2 more\. Serve .* put again") as caught:
        await watch(replays)[0].block()
    assert "secret" not in str(caught.value)
    await watch(FakeReplays(a=HELD, b=pb.REPLAY_STATUS_NOTHING_TO_COMPARE))[0].block()


async def test_block_without_the_store_serves_and_without_an_engine_does_not(lines: list[Any]) -> None:
    replays = FakeReplays(a=MOVED)
    replays.error = StoreUnavailable()
    await watch(replays)[0].block()
    assert [line["event"] for line in lines] == ["scenarios not replayed"]
    replays.error = QueueFull("the queue is full")
    with pytest.raises(StartupError, match="cannot be replayed: the queue is full"):
        await watch(replays)[0].block()


async def test_what_fails_is_tried_again_and_logged_once(monkeypatch: pytest.MonkeyPatch, lines: list[Any]) -> None:
    monkeypatch.setattr(module, "REPEAT_SECONDS", 0.0)
    replays = FakeReplays(a=HELD)
    replays.error = StoreUnavailable()
    watching, reports = watch(replays)
    task = asyncio.create_task(watching.run())
    for _ in range(20):
        await asyncio.sleep(0)
    replays.error = RuntimeError("unforeseen")
    for _ in range(20):
        await asyncio.sleep(0)
    replays.error = None
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    assert [line["why"] for line in lines] == ["SESSION_STORE_UNAVAILABLE", "RuntimeError"]
    assert reports[0] == {HELD: 1}


async def test_a_page_ends_where_half_of_the_callers_time_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(caller, "time", SimpleNamespace(monotonic=lambda: now[0]))
    replays = FakeReplays(a=HELD, b=HELD, c=HELD, d=HELD)
    replay = replays.replay

    async def long(name: str, caller: Caller) -> pb.ScenarioReplay:
        now[0] += 3.0
        return await replay(name, caller)

    replays.replay = long  # type: ignore[method-assign]
    whatever: Any = replays
    service = ScenarioService(whatever.release, whatever, whatever, load_settings(), whatever)
    first = await service.ReplayScenarios(pb.ReplayScenariosRequest(), Caller(deadline=10.0))
    assert [one.name for one in first.replays] == ["a", "b"]
    # One at least, however little time there is.
    rest = pb.ReplayScenariosRequest(page_token=first.next_page_token)
    second = await service.ReplayScenarios(rest, Caller(deadline=now[0] + 0.1))
    assert [one.name for one in second.replays] == ["c"]
    assert second.next_page_token
    whole = await service.ReplayScenarios(pb.ReplayScenariosRequest(), Caller())
    assert (len(whole.replays), whole.next_page_token) == (4, "")
