"""The benchmark of two checkouts: its arithmetic and its calls. Speeds themselves are not tested."""

from pathlib import Path
from typing import Any

import pytest

from bench.paired import SESSIONS_AT_A_TIME, Side, interleaved, made_calls, order, started, summary, table
from bench.peers.client import Message
from bench.peers.contestant import NotThere
from bench.peers.steersman import Steersman
from bench.quartiles import Quartiles
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman_service.bundle.bundle import load_bundle

ROUNDS = ((100.0, 200.0), (400.0, 1200.0), (300.0, 300.0))
"""Session turns/s before and after."""


def runs(per_second: float, failed: int = 0) -> dict[str, dict[str, Any]]:
    run = {
        "per_second": per_second, "p50_ms": 1e3 / per_second, "p99_ms": 2e3 / per_second, "server_us": 1e6 / per_second,
        "client_us": 20.0, "answered": 10, "failed": failed, "rate": 70.0,
    }  # fmt: skip
    return dict.fromkeys(("session", "at_rate", "stateless", "single"), run)


def test_quartiles_lie_between_values() -> None:
    assert Quartiles.of([4.0, 1.0, 3.0, 2.0]) == (1.75, 2.5, 3.25)
    assert Quartiles.of([7.0]) == (7.0, 7.0, 7.0)


def test_a_ratio_is_of_the_same_round() -> None:
    rounds = [{"after": runs(after), "before": runs(before)} for before, after in ROUNDS]
    figures = summary(rounds)
    turns = figures["session turns/s"]
    assert turns["before"] == (200.0, 300.0, 350.0)
    assert turns["after"] == (250.0, 300.0, 750.0)
    # The median of 2, 3 and 1; of the medians it would be 1.
    assert turns["after/before"] == (1.5, 2.0, 2.5)
    assert figures["one at a time, ms"]["after/before"] == pytest.approx((5 / 12, 0.5, 0.75))
    lines = list(table(rounds))
    assert any("session turns/s" in line and line.endswith("2.000 (1.500 to 2.500)") for line in lines)
    assert not any("failed" in line for line in lines)


def test_calls_that_failed_are_told() -> None:
    lines = table([{"before": runs(1.0), "after": runs(1.0, failed=3)}])
    assert "failed: 3 calls of after, stateless, beside 10 answered" in list(lines)


def enter(sides: dict[str, Side], steersman: Steersman) -> None:
    with started(sides, steersman):
        pass


def test_sides_are_first_by_turns() -> None:
    assert [order(number)[0] for number in range(4)] == ["before", "after", "before", "after"]


def test_the_turns_of_a_session_stay_in_order_and_apart() -> None:
    visits = [[[Message(f"{user}", bytes([turn]))] for turn in range(3)] for user in range(SESSIONS_AT_A_TIME + 2)]
    sent = [turn[0] for turn in interleaved(visits)]
    assert len(sent) == 3 * len(visits)
    for user in ("0", str(SESSIONS_AT_A_TIME + 1)):
        assert [message.body[0] for message in sent if message.path == user] == [0, 1, 2]
    assert [message.path for message in sent[: SESSIONS_AT_A_TIME + 1]] == [
        *map(str, range(SESSIONS_AT_A_TIME)),
        "0",
    ]


def test_no_call_is_sent_twice(bundle_dir: Path) -> None:
    rounds = list(made_calls(Steersman(load_bundle(bundle_dir, "onnx"), Path()), 0.0, 2))
    turns = [turn for calls in rounds for visit in calls.visits for turn in visit]
    at_rate = [turn for calls in rounds for turn in calls.at_rate]
    sessions = [RecommendRequest.FromString(message.body) for [message] in [*turns, *at_rate]]
    assert all(len(request.new_events) == 1 for request in sessions)
    assert len({(request.session_id, request.new_events[0].event_id) for request in sessions}) == len(sessions)
    remembered = {f"u{session.user}" for calls in rounds for session in calls.sessions}
    assert {request.session_id for request in sessions} == remembered
    stateless = [turn for calls in rounds for visit in calls.stateless for turn in visit]
    stateless += [turn for calls in rounds for turn in calls.single]
    bodies = [turn[0].body for turn in stateless]
    assert len(set(bodies)) == len(bodies)


def test_a_server_runs_in_its_checkout_with_its_flags(bundle_dir: Path, tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    steersman = Steersman(load_bundle(bundle_dir, "onnx"), Path())
    side = Side(tmp_path, ["--workers", "2"])
    with pytest.raises(NotThere, match=r"before: there is no .*python"):
        enter({"before": side}, steersman)
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"; pwd; exit 1\n')
    python.chmod(0o755)
    with pytest.raises(NotThere, match=f"before does not start: .*--workers 2 / {tmp_path}$"):
        enter({"before": side}, steersman)
