"""Goals, compare and sweeps as a person types them, against a real server."""

import json
from typing import Any

import pytest

from steersman.v1.control_pb2 import Control
from steersman_service.bundle.items import Items
from steersman_service.cli.goals import read_goal
from tests.service.cli.test_cli import steersman
from tests.serving import Running


@pytest.fixture
def asked(server: Running, items: Items) -> tuple[str, ...]:
    return "--address", f"127.0.0.1:{server.ports.grpc}", "--history", ",".join(items.ids[:5])


class Concepts:
    """In place of a server."""

    class info:  # noqa: N801
        attributes = ("genres", "year")

    def has_concept(self, name: str) -> bool:
        return name in ("genres:Horror", "a>b:overlap")


@pytest.mark.parametrize(
    ("text", "target", "goal", "strength"),
    [
        ("genres:Horror>=0.4", "concept", {"share": {"at_least": 0.4}}, 0),
        ("genres:Western<=0.1", "attribute", {"share": {"at_most": 0.1}}, 0),
        ("genres:Horror:overlap>=0.7", "concept", {"least_overlap": 0.7}, 0),
        ("genres:War:divergence<=0.1@-2", "attribute", {"most_divergence": 0.1}, -2),
        ("genres:Horror>=1@1.5", "concept", {"share": {"at_least": 1}}, 1.5),
    ],
)
def test_what_is_typed(text: str, target: str, goal: dict[str, Any], strength: float) -> None:
    client: Any = Concepts()
    control = read_goal(text, client)
    assert control.WhichOneof("target") == target
    assert control.strength == strength
    assert control.goal == Control(goal=goal).goal


def test_a_goal_prints_its_receipt(asked: tuple[str, ...]) -> None:
    done = steersman("recommend", *asked, "--goal", "genres:Horror>=0.4")
    assert done.exit_code == 0, done.output
    assert "genres:Horror: share" in done.stdout
    assert "beside the list without controls: overlap" in done.stdout
    answer = json.loads(steersman("recommend", *asked, "--goal", "genres:Horror>=0.4", "--json").stdout)
    assert answer["receipt"]["controls"][0]["share_after"] >= 0.4
    missed = steersman("recommend", *asked, "--goal", "genres:Horror>=1@0.000001")
    assert "not reachable: best was" in missed.stderr
    both = steersman("recommend", *asked, "--goal", "genres:War:overlap>=0.5", "--compare")
    assert "with controls" in both.stdout
    assert "overlap" in both.stdout


def test_compare_shows_both_lists(asked: tuple[str, ...]) -> None:
    done = steersman("compare", *asked, "--control", "genres:Horror=1", "--tilt", "genres:War=0.5", "-k", "4")
    assert done.exit_code == 0, done.output
    assert "without controls" in done.stdout
    assert "genres:Horror: share" in done.stdout
    told = json.loads(steersman("compare", *asked, "--control", "genres:Horror=1", "--json").stdout)
    before, after = ([item["item_id"] for item in told[side]["items"]] for side in ("plain", "steered"))
    assert told["overlap"] == len({*before} & {*after}) / len(before)
    assert {*told["entered"]} == {*after} - {*before}


def test_a_sweep_shows_five_strengths(asked: tuple[str, ...]) -> None:
    done = steersman("compare", *asked, "--sweep", "genres:Horror=-1..1", "-k", "3")
    assert done.exit_code == 0, done.output
    assert all(title in done.stdout for title in ("without controls", "at -1", "at -0.5", "at 0", "at 0.5", "at 1"))
    for sweep, target in (("f0:add=0..2", "feature"), ("year=0..1", "concept")):
        told = json.loads(steersman("compare", *asked, "--sweep", sweep, "--json").stdout)
        controls = [result["response"]["applied_controls"][0]["control"] for result in told["results"][1:]]
        assert all(target in control for control in controls)
        top = 2 if target == "feature" else 1
        assert [control.get("strength", 0) for control in controls] == [top * step / 4 for step in range(5)]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("compare",), 2, "nothing to compare"),
        (("compare", "--sweep", "genres:Horror=1"), 2, "is no range"),
        (("compare", "--sweep", "genres:Horror=a..b"), 2, "is no range"),
        (("compare", "--goal", "genres:Horror=0.4"), 2, "is no goal"),
        (("recommend", "--goal", "genres:Horror>=much"), 2, "is no number"),
        (("recommend", "--goal", "genres:Horror:overlap<=0.5"), 1, "no item has"),
        (("compare", "--goal", "genres:Horror>=1.5"), 1, "controls[0].goal.share.at_least: 1.5 is not between 0 and 1"),
        (("compare", "--session", "one", "--control", "genres:Horror=1"), 1, "is ambiguous beside --session"),
    ],
)
def test_what_is_wrong_is_said(asked: tuple[str, ...], arguments: tuple[str, ...], code: int, said: str) -> None:
    done = steersman(*arguments, *asked)
    assert done.exit_code == code, done.output
    assert said in done.stderr
