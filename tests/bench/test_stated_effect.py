"""What the catalogue states of controls is what a client measures over gRPC."""

from pathlib import Path

import pytest

from bench.stated_effect import Told, measured, summary, table
from steersman_service.bundle.bundle import load_bundle
from steersman_training.data import load
from steersman_training.data.sequences import split_leave_one_out


def test_what_the_catalogue_states_is_what_a_client_measures(bundle_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    split = split_leave_one_out(load(str(data_dir), cache=tmp_path))
    told = measured(load_bundle(bundle_dir, "onnx"), split, every=1000)
    assert {each.kind for each in told} == {"concept", "feature"}
    found = summary(told)
    assert found["stated_share_error"] < 0.01  # of one list, or two, in which equal scores fell otherwise
    assert found["stated_push_error"] < 0.01
    assert found["stated_curve_error"] < 0.01
    assert {tuple(each.stated_curve) for each in told if each.share is not None} == {(-1.0, -0.5, 0.0, 0.5, 1.0)}
    assert all(each.share is not None for each in told if each.name.startswith("genres:"))


def test_the_summary_is_of_what_can_be_compared() -> None:
    told = [
        Told("genres:War", "concept", 0.5, 0.52, (0.2, 0.1), (0.2, 0.1)),
        Told("1997", "feature", None, None, (0.2, 0.2), (0.1, 0.3)),
        Told("genres:No", "concept", 0.0, 0.01, (0.2, 0.2), (0.3, 0.2)),
    ]
    found = summary(told)
    curved = Told("year", "concept", 0.5, 0.5, (0.2, 0.2), (0.2, 0.2), {-1.0: 0.1, 1.0: 0.5}, {-1.0: 0.125, 1.0: 0.49})
    assert summary([*told, curved])["stated_curve_error"] == pytest.approx(0.025)
    assert summary([*told, curved])["stated_curve_error_mean"] == pytest.approx(0.0175)
    assert found["stated_share_error"] == pytest.approx(0.02)
    assert found["stated_share_error_mean"] == pytest.approx(0.015)
    assert found["stated_push_error"] == pytest.approx(0.1)
    assert (found["stated_curve_error"], found["stated_curve_error_mean"]) == (0.0, 0.0)
    assert found["wire_push_cv"] == pytest.approx(0.40825, rel=1e-3)
    assert next(iter(table(told))) == "3 controls, 2 of them with a share"
