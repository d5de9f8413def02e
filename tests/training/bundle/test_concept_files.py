"""The graph `concept` as it is written: standard operators alone, and the same from either backend, whatever it is asked."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_training.bundle.graphs import MOST_STRENGTH

CANDIDATES = 40


def test_it_is_made_of_standard_operators(bundle_dir: Path) -> None:
    model = onnx.load(bundle_dir / "concept.onnx")
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [opset.domain for opset in model.opset_import] == [""]


class Files:
    """Both files, loaded."""

    def __init__(self, folder: Path) -> None:
        self.onnx = onnxruntime.InferenceSession(folder / "concept.onnx", providers=["CPUExecutionProvider"])
        self.script = torch.jit.load(folder / "concept.ts")
        self.items_ND = np.load(folder / "items.npy")

    def both(self, given: dict[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        names = ("candidates_BK", "candidate_scores_BK", "items_ND", "concepts_BC", "concept_strengths_BC")
        feeds = given | {"items_ND": self.items_ND}
        with torch.no_grad():
            traced = self.script(*(torch.from_numpy(feeds[name]) for name in names))
        return self.onnx.run(None, feeds), [part.numpy() for part in traced]


@pytest.fixture(scope="module")
def files(bundle_dir: Path) -> Files:
    return Files(bundle_dir)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 5),
    concepts=st.integers(1, 3),
    left=st.sampled_from([0, 1, 2, 10, CANDIDATES]),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 30.0]),
)
@settings(deadline=None, max_examples=60)
def test_both_backends_give_the_same_bounded_edits(
    files: Files, seed: int, rows: int, concepts: int, left: int, spread: float
) -> None:
    """Also where fewer items may be returned than there are candidates, and where all scores are equal."""
    rng = np.random.default_rng(seed)
    scores_BK = -np.sort(-spread * rng.normal(size=(rows, CANDIDATES)).astype(np.float32))
    scores_BK[:, left:] = -math.inf
    given = {
        "candidates_BK": np.stack([rng.permutation(60)[:CANDIDATES] for _ in range(rows)]),
        "candidate_scores_BK": scores_BK,
        "concepts_BC": rng.integers(7, size=(rows, concepts)),
        "concept_strengths_BC": rng.choice([-10, -1, 0, 0.5, 1, 10], (rows, concepts)).astype(np.float32),
    }
    one, other = files.both(given)
    for from_onnx, from_torch in zip(one[:2], other[:2], strict=True):
        np.testing.assert_array_equal(from_onnx, from_torch)
    np.testing.assert_allclose(one[2], other[2], rtol=1e-5, atol=1e-5)
    assert one[2].shape == (rows, concepts)
    assert (np.abs(one[2]) <= MOST_STRENGTH).all()
    assert (one[2] * given["concept_strengths_BC"] >= 0).all()
    assert (one[2][given["concept_strengths_BC"] == 0] == 0).all()
    if left <= 1:
        assert (one[2] == 0).all()
