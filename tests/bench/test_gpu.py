"""The benchmark of a GPU, on the CPU: that it runs to its end, checks what it measures, and says what it lacks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.gpu.__main__ import main
from bench.gpu.made import made
from bench.gpu.ways import agreement, mixed, wanted
from steersman_service.bundle.bundle import load_bundle


def test_it_checks_and_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--device", "cpu", "--small", "--items", "5000", "--rounds", "2", "--seconds", "0.01"]
    monkeypatch.setattr(sys, "argv", ["gpu", *flags, "--out", str(tmp_path)])
    assert main() == 0
    report = json.loads((tmp_path / "gpu.json").read_text())
    torch_ways = ["torch, float32", "torch, bfloat16", "torch, float16"]
    ways = [*torch_ways, "onnx", *(f"{way}, CUDA graphs" for way in torch_ways)]
    assert [(row["items"], row["way"]) for row in report["rows"]] == [(n, way) for n in (300, 5000) for way in ways]
    for row in report["rows"]:
        assert row["within"]
        assert row["recall"] > 0.99
        assert row["plain"]["p50_ms"] > 0
        assert len(row["batches"]) == 7
        assert (row["concept"] is None) == (row["items"] == 5000)
    assert report["about"]["left_out"] == report["about"]["failed"] == []
    page = (tmp_path / "gpu.md").read_text()
    assert "| 5,000 | torch, bfloat16 | yes |" in page
    assert "- 5,000 items, torch, bfloat16, CUDA graphs, as against without: one request is " in page


def test_it_sees_a_wrong_answer(tmp_path: Path) -> None:
    bundle = load_bundle(made(tmp_path, items=300, hidden=16, window=20, features=64), "torch")
    works = mixed(bundle, np.random.default_rng(0))
    answers = wanted(bundle, works)
    assert agreement(answers, answers, bundle).within
    raised = [answer._replace(scores_K=answer.scores_K + 0.01) for answer in answers]
    assert not agreement(raised, answers, bundle).within
    turned = [answer._replace(rows_K=answer.rows_K[::-1]) for answer in answers]
    assert not agreement(turned, answers, bundle).within
    short = [answer._replace(rows_K=answer.rows_K[1:], scores_K=answer.scores_K[1:]) for answer in answers]
    assert not agreement(short, answers, bundle).within


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["bench-gpu: torch sees no GPU; `--device cpu` runs the same on the CPU"]
