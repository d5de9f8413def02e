"""From data to bundle, top to bottom: split, recommender, states, autoencoder, anchored features, catalogue, concepts, units, bundle."""

import json
import shlex
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import polars as pl
import torch
from torch import Tensor

from steersman.v1 import bundle_pb2
from steersman_training.autoencoder.edit import Edit, natural_scale
from steersman_training.autoencoder.moments import collect_moments
from steersman_training.autoencoder.sae import SaeConfig, SparseAutoencoder, measure_sae, train_sae
from steersman_training.autoencoder.states import collect_states, some_users
from steersman_training.bundle.bundle import Publication, write_bundle
from steersman_training.bundle.export import ExportedGraphs
from steersman_training.bundle.golden import golden_rows, sample_queries
from steersman_training.bundle.histories import sample_histories
from steersman_training.catalogue.aims import Aim, all_aims, described, with_exposure, with_popularity
from steersman_training.catalogue.anchors import fit_anchors
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.catalogue import Evidence, build_catalogue
from steersman_training.catalogue.choice import DescribedItems
from steersman_training.catalogue.concepts import ConceptConfig, fit_concepts
from steersman_training.catalogue.labels import Labels
from steersman_training.catalogue.pushes import Tables, with_units
from steersman_training.catalogue.steering import Concepts, audience
from steersman_training.catalogue.vocabulary import Vocabulary
from steersman_training.data import Dataset
from steersman_training.data.sequences import (
    Batch,
    Split,
    Targets,
    check_enough,
    hold_out_users,
    pad,
    split_global_time,
    split_leave_one_out,
    window_start,
)
from steersman_training.data.titles import with_readable_titles
from steersman_training.recommender import checkpoint as checkpoints
from steersman_training.recommender.fit import Fit, FitConfig, FittedRecommender, Progress
from steersman_training.recommender.model import Recommender, RecommenderConfig
from steersman_training.recommender.ranking import MOST_USERS, evaluate, evaluate_most_popular
from steersman_training.recommender.workers import Workers

MEASURED_USERS = 500  # on whom features and concepts are measured, and as many to fit concepts on
MEASURED_STATES = 20_000  # from which labels are chosen, and as many held-out ones on which they are measured
EXPOSED_USERS = 10_000  # validation users from whose lists the exposure of items is counted
EXPOSED = 50  # items of such a list
GOLDEN_USERS = 64  # validation users among whose histories golden rows are chosen
QUERY_USERS = 256  # the same where queries are needed, too, to choose how an index is searched
RANDOM_HISTORIES, RANDOM_EVENTS = 32, 8  # added to them, since small data may have too few away from ties


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run."""

    recommender: RecommenderConfig = field(default_factory=RecommenderConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    sae: SaeConfig = field(default_factory=SaeConfig)
    concepts: ConceptConfig = field(default_factory=ConceptConfig)
    split: Literal["leave-one-out", "global-time"] = "leave-one-out"
    """How held-out events are chosen."""
    min_concept_items: int = 10
    """Items that an attribute value needs to become a concept and a label."""
    held_out_users: float = 0.1
    """Share of users whose states the autoencoder does not see, so that features are measured on them."""
    histories: int = 200
    """Histories of users that the bundle keeps, without names, to try controls on."""
    index_from: int = 50_000
    """Items from which the bundle has an index; fewer are scanned in a millisecond or two."""

    def seeded(self, seed: int) -> "TrainConfig":
        """With this seed for everything random."""
        fit, sae = replace(self.fit, seed=seed), replace(self.sae, seed=seed)
        return replace(self, fit=fit, sae=sae)


class Display(Protocol):
    """Shows the progress of a run."""

    def stage(self, name: str) -> None: ...
    def say(self, line: str) -> None: ...
    def recommender(self, progress: Progress) -> None: ...
    def sae(self, epoch: int, epochs: int, variance_explained: float) -> None: ...
    def step(self, done: int, total: int) -> None: ...


class Trained(NamedTuple):
    """The results of a run."""

    folder: Path
    figures: dict[str, float]
    model: Recommender
    edit: Edit
    split: Split
    items: pl.DataFrame
    values: AttributeValues
    features: pl.DataFrame
    labels: Labels
    aims: list[Aim]
    graph: Concepts
    concepts: pl.DataFrame


class Knowledge(NamedTuple):
    """What is known of the items before any training."""

    described: DescribedItems
    items: pl.DataFrame  # with clusters and popularity as attributes
    aims: list[Aim]

    @staticmethod
    def of(data: Dataset, split: Split, min_items: int) -> "Knowledge":
        described, events_N = DescribedItems.of(data.items, split, min_items), split.popularity()
        items = with_popularity(described.items, events_N)
        return Knowledge(described, items, all_aims(described.values, items, events_N))

    @property
    def values(self) -> AttributeValues:
        """The values that become concepts."""
        return self.described.values

    @property
    def attributes_NV(self) -> Tensor:
        """What items' vectors are made of beside their own part."""
        none_NV = torch.zeros(self.items.height, 0)
        return torch.stack([aim.lean_N for aim in self.aims], dim=1) if self.aims else none_NV

    def identity(self, split: Split, config: TrainConfig) -> checkpoints.Identity:
        """Of a checkpoint of the recommender."""
        return checkpoints.identity(split, config.recommender, asdict(config.fit), self.attributes_NV)


def train(
    data: Dataset,
    config: TrainConfig,
    out: Path,
    device: torch.device,
    display: Display,
    checkpoint: Path | None = None,
    publication: Publication = Publication(),  # noqa: B008  # immutable
) -> Trained:
    """Trains on `data` and writes a bundle into the folder `out`. Resumes the recommender from `checkpoint`.

    Several workers train the recommender together; the first one does what follows. If that fails, the recommender is kept, and a
    note of the error says where. Raises DataError if the data is not enough, CheckpointError if the checkpoint is of another run.
    """
    split = split_by(config.split, data)
    check_enough(split, config.held_out_users, config.fit.seed)
    known = Knowledge.of(data, split, config.min_concept_items)
    if checkpoint is not None and Workers.join(device).rank == 0:  # the others take its attributes, once there is a Fit
        checkpoints.check(checkpoint, known.identity(split, config))
    display.stage("attributes")
    for line in known.described.lines():
        display.say(line)
    display.stage("recommender")
    try:
        fit = Fit(split, config.recommender, config.fit, device, known.attributes_NV)
        fitted = fit.run(display.recommender, checkpoint)
    except KeyboardInterrupt as error:
        error.add_note(so_far(checkpoint))
        raise
    fit.workers.part()
    try:
        return _explain(data, config, out, split, known, fitted, display, publication)
    except BaseException as error:
        error.add_note(_kept(fit, checkpoint, out))
        raise


def so_far(checkpoint: Path | None) -> str:
    """A note of what is kept if a run ends before its recommender is trained."""
    if checkpoint is None:
        return "nothing is kept; with --checkpoint FILE a run can go on where it was"
    if not checkpoint.exists():
        return f"nothing is kept yet: {checkpoint} is written at each validation"
    return f"the recommender at its last validation is kept in {checkpoint}: the same command goes on from there"


def _kept(fit: Fit, checkpoint: Path | None, out: Path) -> str:
    """Keeps a finished recommender that has no checkpoint, in `out` or else in the temporary folder; says where."""
    if checkpoint is not None:
        return f"the recommender is kept in {checkpoint}: the same command goes on from there"
    for folder in (out, Path(tempfile.gettempdir())):
        file = folder / f"recommender-{fit.identity['split'][:12]}.pt"
        with suppress(checkpoints.CheckpointError):
            fit.save(file)
            return f"the recommender is kept: the same command with --checkpoint {shlex.quote(str(file))} goes on from there"
    return "the recommender is lost: it could not be written either"


def _explain(
    data: Dataset,
    config: TrainConfig,
    out: Path,
    split: Split,
    known: Knowledge,
    fitted: FittedRecommender,
    display: Display,
    publication: Publication,
) -> Trained:
    """Everything after the recommender: its features, their meaning and effects, and the bundle."""
    model, seed = fitted.model.requires_grad_(False), config.fit.seed
    display.stage("sparse autoencoder")
    learners, held_out = hold_out_users(split, config.held_out_users, seed)
    states = collect_states(model, split, some_users(split, learners, seed))
    sae = train_sae(states.h_SD, config.sae, display.sae)
    display.stage("anchored features")
    chosen, measured = (collect_moments(model, split, users, MEASURED_STATES, seed) for users in (learners, held_out))
    pupils = audience(model, split, _random_targets(split, learners, seed))
    values, events_N = known.values, split.popularity()
    items = with_exposure(known.items, _best_items(model, split, seed))
    aims = all_aims(values, items, events_N)
    sae = sae.with_anchors(fit_anchors(aims, chosen, pupils, display.step))
    edit = Edit(sae, natural_scale(sae, states.h_SD))
    display.stage("catalogue")
    vocabulary = Vocabulary.of(items, values, known.described.clusters, events_N, config.min_concept_items)
    evidence = Evidence(chosen, measured, values, vocabulary, items["title"].to_list(), aims)
    people = audience(model, split, split.valid.sample(MEASURED_USERS, seed))
    features, labels = build_catalogue(edit, evidence, people, display.step)
    display.stage("concepts")
    graph, concepts = fit_concepts(edit, aims, people, config.concepts, display.step)
    display.stage("comparable strengths")
    features, concepts = with_units(edit, graph, aims, labels, Tables(features, concepts), people, display.step)
    display.stage("bundle")
    figures = _figures(model, split, sae, states.h_SD, measured.h_SD)
    figures |= {"recommender.epochs": fitted.epochs, "recommender.seconds": fitted.seconds}
    manifest = _manifest(replace(data, items=items), config, figures, concepts.height)
    manifest.shape.features = len(sae.decoder_FD)
    graphs, queries, indexed = ExportedGraphs.of(model, edit, graph), None, items.height >= config.index_from
    histories = _histories(split, config.recommender, QUERY_USERS if indexed else GOLDEN_USERS)
    if indexed:
        queries = sample_queries(graphs, Batch(*(part[:-RANDOM_HISTORIES] for part in histories)))
    golden = golden_rows(graphs, histories, concepts.height)
    tables = {"items": with_readable_titles(items), "features": features, "concepts": concepts}
    tables["attributes"] = described(known.aims, items)
    tables["histories"] = sample_histories(split, config.recommender.window_length, config.histories, seed)
    arrays = {"attributes": fitted.attributes_VD.cpu().numpy(), "decoder": edit.sae.decoder_FD.detach().cpu().numpy()}
    folder = write_bundle(out, manifest, graphs, golden, tables, arrays, queries, display.step, publication)
    return Trained(folder, figures, model, edit, split, items, values, features, labels, aims, graph, concepts)


def split_by(name: str, data: Dataset) -> Split:
    return split_leave_one_out(data) if name == "leave-one-out" else split_global_time(data)


def _best_items(model: Recommender, split: Split, seed: int) -> np.ndarray:
    """The best item rows of validation users. (users, EXPOSED)"""
    targets = split.valid.sample(EXPOSED_USERS, seed)
    parts = targets.parts(MEASURED_USERS)
    return torch.cat([audience(model, split, part).candidates_BK[:, :EXPOSED] for part in parts]).cpu().numpy()


def _random_targets(split: Split, users: list[int], seed: int) -> Targets:
    """A random training event of each of some users, to be predicted from the events before it."""
    rng = np.random.default_rng(seed)
    trained = np.array([user for user in users if split.train_ends_U[user] > 0])
    chosen = np.sort(rng.permutation(trained)[:MEASURED_USERS])
    return Targets(chosen, rng.integers(split.train_ends_U[chosen]))


def _histories(split: Split, shape: RecommenderConfig, users: int) -> Batch:
    """Histories to choose golden rows from: windows of validation users, the first of them empty, and random ones."""
    windows = []
    for user, end in zip(*split.valid.sample(users, seed=0), strict=True):
        history = split.history(int(user), int(end))
        windows.append(history[window_start(len(history), shape.window_length, shape.window_stride) :])
    windows[0] = windows[0][:0]
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, min(shape.window_length, RANDOM_EVENTS) + 1, RANDOM_HISTORIES)
    return pad(windows + [rng.integers(split.item_count, size=length) for length in lengths])


@torch.no_grad()
def _figures(
    model: Recommender, split: Split, sae: SparseAutoencoder, h_SD: Tensor, new_SD: Tensor
) -> dict[str, float]:
    """The figures of the manifest: ranking, and the autoencoder's variance explained, dead features and NDCG kept.

    Of at most MOST_USERS.
    """
    figures: dict[str, float] = {}
    for name, targets in (("valid", split.valid), ("test", split.test)):
        targets = targets.sample(MOST_USERS, seed=0)
        figures |= evaluate(model, split, targets).named(name)
        figures |= evaluate(model, split, targets, filter_seen=False).named(f"{name}_unfiltered")
        figures |= evaluate_most_popular(split, targets).named(f"{name}_most_popular")
        figures[f"sae.{name}_ndcg_kept"] = _ndcg_kept(model, split, sae, targets)
    figures["sae.variance_explained"] = measure_sae(sae, new_SD)["variance_explained"]
    trained = measure_sae(sae, h_SD)
    return figures | {"sae.active": trained["active"], "sae.dead": trained["dead"]}


def _ndcg_kept(model: Recommender, split: Split, sae: SparseAutoencoder, targets: Targets) -> float:
    """By lists of the autoencoder's reconstructions."""
    plain = kept = 0.0
    for part in targets.parts(MEASURED_USERS):
        people = audience(model, split, part)
        plain += people.plain.ndcg * len(part.users)
        kept += people.lists(sae.reconstruct(people.h_BD)).ndcg * len(part.users)
    return kept / max(plain, 1e-9)


def _manifest(data: Dataset, config: TrainConfig, figures: dict[str, float], concepts: int) -> bundle_pb2.Manifest:
    shape, items = config.recommender, data.items.height
    return bundle_pb2.Manifest(
        hook=bundle_pb2.Hook(block=shape.hook_block, blocks=shape.blocks, positions="last"),
        window=bundle_pb2.Window(length=shape.window_length, stride=shape.window_stride),
        shape=bundle_pb2.BundleShape(items=items, hidden=shape.hidden, concepts=concepts),
        autoencoder=bundle_pb2.Autoencoder(kind=config.sae.kind, active=config.sae.active),
        provenance=bundle_pb2.Provenance(
            data=data.name,
            data_sha256=data.sha256,
            users=data.events["user"].n_unique(),
            items=items,
            events=data.events.height,
            code_version=version("steersman"),
            seed=config.fit.seed,
            settings_json=json.dumps(asdict(config), sort_keys=True),
        ),
        figures=figures,
    )
