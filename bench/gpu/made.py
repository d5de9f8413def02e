"""A bundle of random weights: what it recommends is worth nothing, and costs what a trained one costs."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from steersman.v1 import bundle_pb2
from steersman_training.autoencoder.edit import Edit
from steersman_training.autoencoder.sae import Anchors, SparseAutoencoder
from steersman_training.bundle.bundle import write_bundle
from steersman_training.bundle.export import ExportedGraphs
from steersman_training.bundle.golden import golden_rows
from steersman_training.bundle.graphs import SolvedConcepts
from steersman_training.data.sequences import Batch
from steersman_training.recommender.model import Recommender, RecommenderConfig

CONCEPTS, CANDIDATES, ACTIVE = 4, 256, 32
HISTORIES = 64
"""From which golden rows are chosen."""


def made(out: Path, *, items: int, hidden: int, window: int, features: int) -> Path:
    """Writes it into `out`. Returns its folder."""
    torch.manual_seed(0)
    shape = RecommenderConfig(hidden=hidden, window_length=window, window_stride=max(1, window // 4))
    model = Recommender(shape, items).eval().requires_grad_(False)
    torch.nn.init.normal_(model.items.weight, std=hidden**-0.5)
    discovered, anchored_VD = features - CONCEPTS, torch.randn(CONCEPTS, hidden)
    sae = SparseAutoencoder(hidden, discovered, ACTIVE).with_anchors(
        Anchors(anchored_VD, torch.zeros(CONCEPTS), anchored_VD / hidden)
    )
    edit = Edit(sae.eval().requires_grad_(False), torch.ones(features))
    of_concepts = torch.arange(discovered, features)
    leans_XN = (torch.rand(CONCEPTS, items) < 0.2).float()
    concepts = SolvedConcepts(edit, of_concepts, leans_XN, torch.ones(CONCEPTS), CANDIDATES)
    graphs = ExportedGraphs.of(model, edit, concepts)
    rng = np.random.default_rng(0)
    batch = Batch(rng.integers(items, size=(HISTORIES, window)), rng.integers(1, window + 1, HISTORIES))
    manifest = bundle_pb2.Manifest(
        hook=bundle_pb2.Hook(block=shape.blocks, blocks=shape.blocks, positions="last"),
        window=bundle_pb2.Window(length=window, stride=shape.window_stride),
        shape=bundle_pb2.BundleShape(items=items, hidden=hidden, features=features, concepts=CONCEPTS),
    )
    tables = {
        "items": pl.DataFrame({"item_id": [f"{row:08}" for row in range(items)]}),
        "features": pl.DataFrame({"feature": np.arange(features, dtype=np.int32)}),
        "concepts": pl.DataFrame({"name": [f"concept {row}" for row in range(CONCEPTS)]}),
    }
    return write_bundle(out, manifest, graphs, golden_rows(graphs, batch, CONCEPTS), tables, {})
