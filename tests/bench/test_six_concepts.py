"""The benchmark of six concepts: its arithmetic, and one short run. Speeds themselves are not tested."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.peers.contestant import NotThere
from bench.peers.steersman import Steersman
from bench.six_concepts import Answer, Round, made_pairs, measured, summary, table
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman_service.bundle.bundle import load_bundle
from steersman_training.evaluation.report.report import check_inputs

ROUNDS = [
    Round(Answer(1.0, 700), Answer(2.0, 1100)),
    Round(Answer(4.0, 720), Answer(4.0, 1120)),
    Round(Answer(2.0, 710), Answer(6.0, 1130)),
]


def test_the_ratio_is_of_the_same_round(tmp_path: Path) -> None:
    found = summary(ROUNDS)
    # The median of 2, 1 and 3; of the medians it would be 2 as well, so the quartiles tell.
    assert found["quartiles"]["six_concepts_x_plain"] == {"low": 1.5, "median": 2.0, "high": 2.5}
    assert (found["six_concepts_bytes"], found["plain_bytes"]) == (1120, 710)
    assert list(table(ROUNDS))[-1] == "six concepts / plain: 2.000 (quartiles 1.500 to 2.500)"
    file = tmp_path / "six.json"
    file.write_text(json.dumps(found))
    check_inputs([str(file)], [])
    assert {"six_concepts_x_plain", "six_concepts_bytes"} <= {
        key for key, value in found.items() if isinstance(value, int | float)
    }


def test_the_requests_of_a_pair_differ_in_their_controls_and_no_history_is_sent_twice(bundle_dir: Path) -> None:
    pairs = list(itertools.islice(made_pairs(Steersman(load_bundle(bundle_dir, "onnx"), Path())), 20))
    requests = [[RecommendRequest.FromString(message.body) for message in pair] for pair in pairs]
    for plain, six in requests:
        assert not plain.controls
        assert len({control.concept for control in six.controls}) == 6
        assert {control.strength for control in six.controls} == {1.0}
        assert plain.history.item_ids[1:] == six.history.item_ids[1:]
    sent = [tuple(request.history.item_ids) for pair in requests for request in pair]
    assert len(set(sent)) == len(sent)


def test_a_server_answers_both_and_with_six_concepts_says_more(bundle_dir: Path) -> None:
    (only,) = measured(load_bundle(bundle_dir, "onnx"), rounds=1, pairs=3)
    assert min(only.plain.ms, only.six.ms) > 0
    assert only.six.size_bytes > only.plain.size_bytes + 6 * 10


def test_a_bundle_with_too_few_concepts_is_refused(bundle_dir: Path) -> None:
    bundle = load_bundle(bundle_dir, "onnx")
    few = Steersman(replace(bundle, concepts=bundle.concepts.slice(0, 5)), Path())
    with pytest.raises(NotThere, match="5 concepts, not 6"):
        next(made_pairs(few))
