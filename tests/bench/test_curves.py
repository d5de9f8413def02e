"""The benchmark of cost curves: its exponents and knees, and a whole run on a tiny bundle. Costs themselves are not tested."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.curves.__main__ import main
from bench.curves.curve import Curve, Point
from bench.curves.held import MEAN_EVENTS, MEDIAN_EVENTS, Held, draw_lengths


def curve(*points: tuple[int, float]) -> Curve:
    return Curve("history", "whole", "microseconds", [Point(x, cost) for x, cost in points])


@given(st.floats(-2, 2), st.floats(0.1, 1e6))
def test_the_exponent_is_that_of_a_power(power: float, factor: float) -> None:
    assert curve(*((x, factor * x**power) for x in (1, 2, 7, 30, 200))).exponent == pytest.approx(power, abs=1e-6)


def test_the_exponent_is_of_the_upper_half_and_0_counts_for_nothing() -> None:
    bent = ((0, 5.0), (1, 10.0), (10, 10.0), (100, 10.0), (1000, 100.0), (10_000, 1000.0))
    assert curve(*bent).exponent == pytest.approx(1)
    assert curve((0, 7.0), (1, 10.0), (2, 20.0)).exponent == pytest.approx(1)


@pytest.mark.parametrize(
    ("costs", "flat", "knee"),
    [
        ((100, 50, 22, 20, 21), (4, 16), "from 4"),
        ((100, 50, 22, 20, 30), (4, 8), "from 4 up to 8"),
        ((20, 21, 40, 80, 160), (1, 2), "up to 2"),
        ((20, 40, 20.5, 80, 160), (1, 1), ""),
        ((20, 21, 20, 21, 20), (1, 16), "flat"),
        ((50, 40, 20, 40, 50), (4, 4), "at 4"),
        ((50, 40, 30, 20, 10), (16, 16), ""),
    ],
)
def test_a_knee_is_where_the_stretch_around_the_least_cost_ends(
    costs: tuple[float, ...], flat: tuple[int, int], knee: str
) -> None:
    drawn = curve(*zip((1, 2, 4, 8, 16), costs, strict=True))
    assert (drawn.flat, drawn.knee) == (flat, knee)


def test_lengths_are_like_those_of_movielens() -> None:
    lengths_S = draw_lengths(200_000, np.random.default_rng(0))
    assert np.median(lengths_S) == pytest.approx(MEDIAN_EVENTS, rel=0.02)
    assert lengths_S.mean() == pytest.approx(MEAN_EVENTS, rel=0.02)
    assert lengths_S.min() >= 1


def test_a_server_holds_no_more_than_its_settings_allow() -> None:
    held = Held(
        160,
        1000,
        50,
        {},
        0,
        {"kv_cache_mb": 10.0, "state_cache_mb": 10.0},
        {"kv_cache_mb": 95, "state_cache_mb": 1000},
    )
    assert held.server(10) == {"kv_cache_mb": 95, "state_cache_mb": 100}
    assert held.store(10) == 10_050


def test_a_run_writes_every_curve_and_the_memory(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--bundle", str(bundle_dir), "--out", str(tmp_path), "--rounds", "1", "--sessions", "20", "40"])
    told, page = json.loads((tmp_path / "curves.json").read_text()), (tmp_path / "curves.md").read_text()
    points = {(line["panel"], line["line"]): line["points"] for line in told["curves"]}
    assert len(points) == 15
    assert [x for x, _ in points["feature edits", "state kept"]] == [0, 1, 2, 4, 8, 16, 32]
    assert points["history length, events", "one event appended"][-1][0] == 20
    assert [x for x, _ in points["sessions held", "memory of the store"]] == [20, 40]
    assert all(cost > 0 for line in points.values() for _, cost in line)
    pictures = [name.partition(")")[0] for name in page.split("](")[1:]]
    assert len(pictures) == len({panel for panel, _ in points})
    assert all((tmp_path / name).stat().st_size > 5000 for name in pictures)
    assert all(told["memory"]["caches"].values())
    assert "100,000 sessions" in capsys.readouterr().out
    assert not any(str(folder) in page for folder in (bundle_dir, tmp_path, os.getcwd()))
