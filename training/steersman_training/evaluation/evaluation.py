"""The evaluation: a training run for each seed, and its measurements: accuracy, the autoencoder, meaning, control."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl
import torch
from torch import Tensor

from steersman_training.autoencoder.moments import Moments, collect_moments
from steersman_training.autoencoder.sae import train_sae
from steersman_training.autoencoder.states import collect_states, some_users
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.clusters import ATTRIBUTE, cluster_items
from steersman_training.catalogue.labels import Labels
from steersman_training.catalogue.pushes import Tables
from steersman_training.catalogue.steering import Audience, audience
from steersman_training.catalogue.units import ItemMeans, mean_by_item
from steersman_training.data import Dataset
from steersman_training.data.sequences import check_enough, hold_out_users
from steersman_training.evaluation.control.evenness import push_figures
from steersman_training.evaluation.control.popsteer import EffectSizes, effect_sizes, head_and_tail, synthetic_states
from steersman_training.evaluation.control.study import (
    ControlReport,
    StudyConfig,
    Subject,
    labelled_features,
    study_controls,
)
from steersman_training.evaluation.meaning.anchors import (
    AnchorFit,
    Weight,
    measure_agreement,
    measure_anchors,
)
from steersman_training.evaluation.meaning.labels import catalogue_figures
from steersman_training.evaluation.meaning.meaning import Meaning, detection, measure_meaning
from steersman_training.evaluation.meaning.monosemanticity import Monosemanticity, facets_of, measure_monosemanticity
from steersman_training.evaluation.meaning.probes import Probes, measure_probes
from steersman_training.evaluation.meaning.stability import Stability, measure_stability
from steersman_training.evaluation.meaning.units import discovered, features
from steersman_training.evaluation.overlap import rbo
from steersman_training.pipeline import Display, Knowledge, TrainConfig, Trained, split_by, train
from steersman_training.recommender import checkpoint as checkpoints
from steersman_training.recommender.fit import Fit
from steersman_training.recommender.ranking import evaluate

MOMENTS = 40_000
"""Events on which units are chosen, and as many of held-out users on which they are measured."""
LABELLED = 100
"""Labelled steerable features whose control is measured, the strongest."""
RESOLVED = 100
"""Test users for whom the features that concepts edit are counted."""
SYNTHETIC_USERS = 1_000
"""Users of the head alone, and of the tail alone, for PopSteer."""


@dataclass(frozen=True)
class RunResult:
    """The measurements of one run."""

    seed: int
    figures: dict[str, Any]
    """Numbers by name. Those that `docs/results` compares with published ones have the short names."""
    meaning: Meaning
    """Of discovered features, as are probes and stability."""
    anchors: tuple[AnchorFit, ...]
    probes: Probes
    monosemanticity: Monosemanticity
    stability: Stability
    control: ControlReport
    features: list[dict[str, Any]]
    """The catalogue, with each label's detection score."""
    seconds: dict[str, float]
    """Seconds of each part."""


@dataclass(frozen=True)
class Evaluation:
    """Means over seeds, and each run."""

    data: str
    figures: dict[str, Any]
    took: dict[str, Any]
    """Machine, threads, seeds, seconds, code version."""
    settings: dict[str, Any]
    runs: list[RunResult] = field(default_factory=list)


def run_evaluation(
    data: Dataset,
    config: TrainConfig,
    seeds: int,
    device: torch.device,
    display: Display,
    work: Path,
) -> Evaluation:
    """Trains with seeds 0, 1, ... in the folder `work` and measures on the test events. Recommenders there are not trained again.

    Raises DataError if the data is not enough, CheckpointError if a recommender there is of another run: of any seed, before the first.
    """
    began, split = time.monotonic(), split_by(config.split, data)
    known = Knowledge.of(data, split, config.min_concept_items)
    for seed in range(seeds):
        check_enough(split, config.held_out_users, seed)
        checkpoints.check(_recommender(work, seed), known.identity(split, config.seeded(seed)))
    runs = [_measure(data, config.seeded(seed), device, display, work) for seed in range(seeds)]
    figures = _means([run.figures for run in runs])
    took = {
        "machine": f"{platform.machine()}, {_processor()}",
        "capability": torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "seeds": seeds,
        "seconds": time.monotonic() - began,
        "code_version": version("steersman"),
        "torch": torch.__version__,
    }
    return Evaluation(data.name, figures, took, asdict(config), runs)


def _recommender(work: Path, seed: int) -> Path:
    return work / f"recommender-{seed}.pt"


def time_to_quality(data: Dataset, config: TrainConfig, quality: float, device: torch.device) -> dict[str, Any]:
    """Minutes of training of a short schedule whose test NDCG@10 is at least `quality`: of a fifth of the epochs, or one more, or one more.

    Empty where even the whole schedule falls short.
    """
    split = split_by(config.split, data)
    attributes_NV = Knowledge.of(data, split, config.min_concept_items).attributes_NV
    for epochs in range(max(1, config.fit.epochs // 5), config.fit.epochs + 1):
        # A schedule is validated at its end alone: only training is timed.
        fit = replace(config.fit, epochs=epochs, evaluate_every=epochs)
        fitted = Fit(split, config.recommender, fit, device, attributes_NV).run(lambda progress: None)
        ndcg = evaluate(fitted.model, split, split.test).ndcg
        if ndcg >= quality:
            key = f"minutes_to_{quality:g}".replace("0.", "0")
            capability = {} if device.type == "cuda" else {f"{key}_capability": torch.backends.cpu.get_cpu_capability()}
            return {key: fitted.seconds / 60, f"{key}_epochs": epochs, f"{key}_ndcg": ndcg, **capability}
    return {}


def _measure(data: Dataset, config: TrainConfig, device: torch.device, display: Display, work: Path) -> RunResult:
    seed, seconds = config.fit.seed, dict[str, float]()

    @contextmanager
    def part(name: str) -> Iterator[None]:
        display.stage(f"measuring {name}")
        began = time.monotonic()
        try:
            yield
        except BaseException as error:
            error.add_note(f"the recommenders so far are kept in {work}: the same command goes on from there")
            raise
        seconds[name] = time.monotonic() - began

    trained = train(data, config, work / "bundles", device, display, _recommender(work, seed))
    model, split, sae = trained.model, trained.split, trained.edit.sae
    alone, values = discovered(sae), of_one_attribute(trained.values)
    learners, held_out = hold_out_users(split, config.held_out_users, seed)
    with part("meaning"):
        chosen, measured = (collect_moments(model, split, users, MOMENTS, seed) for users in (learners, held_out))
        meaning = measure_meaning(alone, chosen, measured, values)
        anchors = measure_anchors(sae, trained.aims, measured, values)
        probes = measure_probes(alone, chosen, measured, values)
        clusters = cluster_items(split, config.min_concept_items)
        facets = facets_of(trained.items, trained.values, clusters.cluster_N)
        monosemanticity = measure_monosemanticity(sae, measured, split.item_count, facets)
        scores_F = _detection(trained, measured)
    with part("stability"):
        states = collect_states(model, split, some_users(split, learners, seed))
        other = train_sae(states.h_SD, replace(config.sae, seed=seed + 1), display.sae)
        stability = measure_stability(alone, other, measured, split.item_count)
    with part("control"):
        choosers, people = (audience(model, split, targets) for targets in (split.valid, split.test))
        units = trained.concepts.select("unit_up", "unit_down").rows()
        subject = Subject(trained.edit, trained.graph, trained.aims, units, choosers, people, split.popularity())
        control = study_controls(
            subject,
            values.names[0][0] if values.names else "",
            labelled_features(trained.features, trained.labels, LABELLED),
            _popularity_effects(trained, seed),
            StudyConfig(seed=seed),
        )
    figures = {
        **trained.figures,
        "ndcg": trained.figures["test.ndcg_at_10"],
        "hr": trained.figures["test.hr_at_10"],
        "kept_reconstructed": trained.figures["sae.test_ndcg_kept"],
        "rbo_reconstructed": _agreement(people, sae.reconstruct(people.h_BD)),
        **meaning.figures(),
        **_anchor_figures(anchors),
        "stable": stability.stable,
        "detection": float(scores_F[: sae.discovered].nanmean()),
        "anchor_detection": float(scores_F[sae.discovered :].nanmean()),
        **catalogue_figures(trained.features, trained.concepts, trained.labels),
        **control.keys,
        **push_figures(trained.edit, trained.graph, Tables(trained.features, trained.concepts), people),
        **_concept_figures(trained, people, control, measured, values),
    }
    catalogue = _with_detection(trained.features, scores_F)
    return RunResult(seed, figures, meaning, anchors, probes, monosemanticity, stability, control, catalogue, seconds)


def _with_detection(features: pl.DataFrame, scores_F: Tensor) -> list[dict[str, Any]]:
    """The catalogue, with each label's detection score; none where there is nothing to detect."""
    rows = zip(features.iter_rows(named=True), scores_F.tolist(), strict=True)
    return [{**row, "detection": None if score != score else score} for row, score in rows]


def of_one_attribute(values: AttributeValues) -> AttributeValues:
    """The values of the first attribute that people gave the items; of co-consumption clusters where there is none."""
    attributes = list(dict.fromkeys(attribute for attribute, _ in values.names))
    named = [attribute for attribute in attributes if attribute != ATTRIBUTE] or attributes
    rows = [row for row, (attribute, _) in enumerate(values.names) if attribute == named[0]] if named else []
    return AttributeValues([values.names[row] for row in rows], values.member_VN[rows])


def _anchor_figures(anchors: tuple[AnchorFit, ...]) -> dict[str, float]:
    if not anchors:
        return {}
    return {
        "anchor_corr_item": mean(each.correlation_item for each in anchors),
        "anchor_corr_list": mean(each.correlation_list for each in anchors),
    }


def _concept_figures(
    trained: Trained, people: Audience, control: ControlReport, measured: Moments, values: AttributeValues
) -> dict[str, float]:
    """Of the edits that concepts come down to."""
    some = people.take(torch.arange(min(RESOLVED, len(people.h_BD)), device=people.h_BD.device))
    most = max((_features_edited(trained, some, row) for row in range(len(trained.aims))), default=0)
    edits = [
        (each.value, [Weight(edited.feature, edited.raised, edited.lowered) for edited in each.edits.features])
        for each in control.attributes
    ]
    agreement = measure_agreement(trained.edit.sae, edits, measured, values)
    figures: dict[str, float] = {"concept_features": most}
    return figures | (
        {} if agreement is None else {"sign_agreement": agreement.sign, "label_agreement": agreement.label}
    )


def _features_edited(trained: Trained, people: Audience, concept: int) -> int:
    """Most features that a concept edits for a user, at strength 1."""
    edits = people.resolve(trained.graph, concept, 1.0)
    rows = zip(edits.concept_features_BE.tolist(), edits.concept_edits_BE.tolist(), strict=True)
    return max(
        (len({feature for feature, edit in zip(*row, strict=True) if edit}) for row in rows),
        default=0,
    )


def _agreement(people: Audience, reconstructed_BD: Tensor) -> float:
    """Mean rank-biased overlap of the lists before and after reconstruction."""
    return float(rbo(people.plain.rows_BK, people.lists(reconstructed_BD).rows_BK).mean())


def _detection(trained: Trained, measured: Moments) -> Tensor:
    """Of each feature's label, on items that it was not chosen on. (F,)"""
    means: ItemMeans = mean_by_item(
        features(trained.edit.sae, measured.h_SD), measured.items_S, trained.split.item_count
    )
    labels: Labels = trained.labels
    excluded_FN = (labels.chosen_N | ~means.known_N).expand_as(labels.predicted_FN)
    return detection(means.means_UN, labels.predicted_FN, excluded_FN)


def _popularity_effects(trained: Trained, seed: int) -> EffectSizes:
    """How features separate users of head items only from users of tail items only."""
    split = trained.split
    lengths_S = split.train_ends_U[:SYNTHETIC_USERS]
    head_SD, tail_SD = (
        synthetic_states(trained.model, pool, lengths_S, seed + at)
        for at, pool in enumerate(head_and_tail(split.popularity()))
    )
    return effect_sizes(discovered(trained.edit.sae), head_SD, tail_SD)


def _means(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Numbers, and lists of them, are averaged over the runs that have them; names (of methods that did not reach a goal) are joined."""
    found = {name: [run[name] for run in figures if name in run] for name in dict.fromkeys(chain(*figures))}
    return {name: _mean(values) for name, values in found.items()}


def _mean(values: list[Any]) -> Any:
    if not isinstance(values[0], list):
        return mean(values)
    if any(isinstance(text, str) for texts in values for text in texts):
        return sorted({text for texts in values for text in texts})
    return [mean(column) for column in zip(*values, strict=False)]


def _processor() -> str:
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or 'unknown processor'}, {os.cpu_count()} cores"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
