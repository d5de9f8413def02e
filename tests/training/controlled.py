"""A tiny recommender with features and concepts, to steer."""

from pathlib import Path
from typing import NamedTuple

from steersman_training.autoencoder.edit import Edit
from steersman_training.catalogue.aims import Aim
from steersman_training.catalogue.steering import Audience, Concepts
from steersman_training.data.sequences import Split


class Controlled(NamedTuple):
    """What a training run leaves, with its validation users and its test users."""

    edit: Edit
    graph: Concepts
    aims: list[Aim]
    split: Split
    learners: Audience
    people: Audience


def train_controlled(data_dir: Path, out: Path) -> Controlled:
    """Trains on the synthetic data; a few seconds."""
    import torch

    from steersman_training.autoencoder.edit import natural_scale
    from steersman_training.autoencoder.moments import collect_moments
    from steersman_training.autoencoder.sae import SaeConfig, train_sae
    from steersman_training.autoencoder.states import collect_states
    from steersman_training.catalogue.aims import all_aims, with_exposure
    from steersman_training.catalogue.anchors import fit_anchors
    from steersman_training.catalogue.concepts import ConceptConfig, fit_concepts
    from steersman_training.catalogue.steering import audience
    from steersman_training.data import load
    from steersman_training.data.sequences import split_leave_one_out
    from steersman_training.pipeline import Knowledge
    from steersman_training.recommender.fit import Fit, FitConfig
    from steersman_training.recommender.model import RecommenderConfig

    data = load(str(data_dir), cache=out)
    split = split_leave_one_out(data)
    shape = RecommenderConfig(hidden=16, window_length=20, window_stride=5, dropout=0.1)
    fit = FitConfig(epochs=12, events_per_batch=400, learning_rate=1e-2, evaluate_every=4, precision="float32")
    known, users = Knowledge.of(data, split, min_items=5), list(range(split.users))
    fitted = Fit(split, shape, fit, torch.device("cpu"), known.attributes_NV).run(lambda _: None)
    model = fitted.model.requires_grad_(False)
    h_SD = collect_states(model, split, users).h_SD
    config = SaeConfig(features=64, active=8, epochs=20, batch_size=128, dead_after=4000)
    learners, people = audience(model, split, split.valid), audience(model, split, split.test)
    items = with_exposure(known.items, learners.candidates_BK[:, :10].numpy())
    aims = all_aims(known.values, items, split.popularity())
    moments = collect_moments(model, split, users, count=2000, seed=0)
    sae = train_sae(h_SD, config, lambda *_: None).with_anchors(fit_anchors(aims, moments, learners))
    edit = Edit(sae, natural_scale(sae, h_SD))
    graph, _ = fit_concepts(edit, aims, learners, ConceptConfig())
    return Controlled(edit, graph, aims, split, learners, people)
