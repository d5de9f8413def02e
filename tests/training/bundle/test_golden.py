"""Golden rows edit every feature, whatever its directions are like."""

import torch

from steersman_training.autoencoder.edit import Edit
from steersman_training.autoencoder.sae import Anchors, SparseAutoencoder
from steersman_training.bundle.export import ExportedGraphs
from steersman_training.bundle.golden import golden_sets
from steersman_training.bundle.graphs import FixedConcepts
from steersman_training.recommender.model import Recommender, RecommenderConfig

HIDDEN, DISCOVERED, ANCHORED = 32, 40, 24


def exported() -> ExportedGraphs:
    """With anchored features whose decoders are up to 20 long, and whose encoders are alike, as those of real concepts are."""
    torch.manual_seed(0)
    encoder_VD = torch.nn.functional.normalize(torch.randn(ANCHORED, HIDDEN) + torch.randn(HIDDEN), dim=1)
    decoder_VD = torch.nn.functional.normalize(torch.randn(ANCHORED, HIDDEN), dim=1)
    decoder_VD *= torch.linspace(3, 20, ANCHORED).unsqueeze(1)
    sae = SparseAutoencoder(HIDDEN, DISCOVERED, 8).with_anchors(Anchors(encoder_VD, torch.ones(ANCHORED), decoder_VD))
    scales_F = torch.cat([torch.rand(DISCOVERED) + 3, torch.rand(ANCHORED) + 0.5])
    model = Recommender(RecommenderConfig(hidden=HIDDEN, window_length=8, window_stride=2), 50)
    return ExportedGraphs.of(model, Edit(sae, scales_F), FixedConcepts(torch.tensor([DISCOVERED]), torch.ones(1)))


def test_every_feature_is_edited_far_enough_to_tell_its_direction() -> None:
    graphs = exported()
    sets = golden_sets(graphs, {"edit": {"h_BD": torch.randn(2, HIDDEN)}})
    for name in ("edit", "add"):
        given = sets[f"{name}/features"]
        spec, output = graphs[name], graphs[name].outputs[0]
        weights = dict(spec.module.state_dict())["directions_FD" if name == "add" else "sae.decoder_FD"]
        for feature in range(DISCOVERED + ANCHORED):
            weights[feature] *= -1  # in place, of the module
            changed = spec(given)[output] - given[output]
            weights[feature] *= -1
            assert changed.abs().max() > 0.1, (name, feature)
