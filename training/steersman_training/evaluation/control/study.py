"""The study of control: every value of an attribute and every labelled feature, beside every baseline, and popularity beside PopSteer.

Dimensions: B users, D hidden, F features, U units, R resamples, N items.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import mean, median
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from steersman_training.autoencoder.edit import Edit
from steersman_training.catalogue.aims import Aim
from steersman_training.catalogue.concepts import target_share
from steersman_training.catalogue.labels import Labels
from steersman_training.catalogue.steering import Audience, Concepts, SteeredLists, fisher_information, pull
from steersman_training.evaluation.bootstrap import (
    LEVEL,
    RESAMPLES,
    Interval,
    bootstrap,
    bootstrap_quantile,
    weights,
)
from steersman_training.evaluation.control.baselines import (
    Steer,
    by_boost,
    by_concept,
    by_direction,
    by_feature,
    difference_of_means,
    feature_directions,
    fit_direction,
    in_units,
    lengths,
    neuron_directions,
    opposite,
    strongest,
)
from steersman_training.evaluation.control.control import (
    AtLoss,
    CoOccurrence,
    Curve,
    Matched,
    SteeringPath,
    at_loss,
    matched,
    measure_curve,
    reach,
)
from steersman_training.evaluation.control.popsteer import EffectSizes, popsteer
from steersman_training.evaluation.meaning.units import discovered

RISES = (0.30, 0.50)
"""Of the share, at which methods are compared."""
LOSS = 0.05
"""Of NDCG@10, at which shares and coverage are compared."""
FIRST = 0.25
"""The first strength tried, in nats of boosting and in Fisher lengths of a direction."""
FIRST_CONCEPT = 0.5
"""The same of concepts, which are made to reach the first rise at strength 1."""
FIRST_TAIL = 0.1
"""The same where popularity is lowered: every control in its own unit."""
NATURAL = 2.0
"""Largest strength of a feature that a concept should need."""
UPPER = 0.95
"""Quantile over users of the strengths of concepts."""
TAIL = 0.8
"""Part of the items, the least popular ones, that is the tail."""
TAIL_ATTRIBUTES = ("popularity", "exposure")
"""Numeric attributes whose concepts, turned down, are to bring the tail."""


@dataclass(frozen=True)
class StudyConfig:
    """How much is measured."""

    curve_users: int = 2000
    """Test users for curves and for the baselines other than score boosting (figures of concepts and features take all)."""
    choosers: int = 600
    """Validation users on whom the best feature and the best neuron are chosen."""
    candidates: int = 16
    """Discovered features tried for each value, the strongest to first order, and half as many neurons."""
    random: int = 4
    """Random discovered features for each value."""
    concept_strengths: tuple[float, ...] = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
    """Of the concepts' curves."""
    feature_strengths: tuple[float, ...] = (-1.0, -0.5, *(step / 10 for step in range(11)))
    """Of the features' curves."""
    seed: int = 0
    """Of users, draws and random features."""


class Subject(NamedTuple):
    """The subject of a study: a recommender's users, its features and its concepts."""

    edit: Edit
    concepts: Concepts
    aims: list[Aim]  # of the concepts, in their order
    units: list[tuple[float, float]]  # of the concepts, up and down
    learners: Audience  # validation users, on whom everything is chosen
    people: Audience  # test users
    popularity_N: np.ndarray[tuple[int], np.dtype[np.float64]]  # training events of each item


class Labelled(NamedTuple):
    """A feature, the items that its label covers, and its units, up and down."""

    feature: int
    aim: Aim
    units: tuple[float, float]


@dataclass(frozen=True)
class OneFeature:
    """The feature that multiplies a share most at a given loss, chosen on validation users, measured on test users."""

    feature: int
    effect: AtLoss


@dataclass(frozen=True)
class EditedFeature:
    """What a concept adds to a feature, mean over test users."""

    feature: int
    raised: float
    """Strengths above zero."""
    lowered: float
    """Those below, without their sign."""


@dataclass(frozen=True)
class ConceptEdits:
    """A concept's edits where it reaches the first rise on test users, or comes nearest to it."""

    concept_strength: float
    """In the concept's own unit, which is calibrated on validation users."""
    strength: float
    """Of each user's largest edit, mean over users."""
    strength_95: float
    """Its 0.95 quantile over users."""
    features: list[EditedFeature]


@dataclass(frozen=True)
class AttributeControl:
    """How well one attribute value can be controlled."""

    name: str
    value: str
    base_share: float
    feature: int | None
    """The best discovered feature at the first rise, chosen on validation users. None: none raises the attribute."""
    one_feature: OneFeature | None
    matched: list[Matched]
    edits: ConceptEdits
    curve: Curve
    """The concept's."""
    traces: dict[str, list[tuple[float, float]]]
    """Share and NDCG@10 kept at every strength that was tried, in the order of strengths, by method."""


@dataclass(frozen=True)
class FeatureControl:
    """The effect of a labelled feature on its label's share."""

    feature: int
    label: str
    curve: Curve


@dataclass(frozen=True)
class TailCoverage:
    """The tail in the lists where a control has cost LOSS of NDCG@10 (or as near below it as it gets)."""

    method: str
    strength: float
    kept: float
    coverage: float
    """Distinct tail items in any top ten, over all tail items."""
    log_popularity: float
    """Mean log popularity (1 + training events) of the items listed."""
    times_popsteer: Interval | None
    """Coverage as a multiple of that of PopSteer as published, users resampled in pairs. None of itself."""
    times_error_kept: Interval | None
    """The same of PopSteer with the reconstruction error kept."""
    best_concept: bool
    """Whether it is the concept that covers most on validation users."""


@dataclass(frozen=True)
class ControlReport:
    """All of it."""

    keys: dict[str, float | list[str]]
    intervals: dict[str, Interval]
    attributes: list[AttributeControl]
    features: list[FeatureControl]
    tail: list[TailCoverage] = field(default_factory=list)

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def study_controls(
    subject: Subject, attribute: str, features: list[Labelled], effects: EffectSizes, config: StudyConfig
) -> ControlReport:
    """Measures all aims of an attribute, the labelled features, and popularity if a concept is of it."""
    comparison = _Comparison.of(subject, config)
    chosen = [row for row, aim in enumerate(subject.aims) if aim.attribute == attribute]
    member_VN = _members(subject, chosen)
    drifts = {subject.aims[row].name: CoOccurrence.of(comparison.some, member_VN, at) for at, row in enumerate(chosen)}
    attributes, pairs = list[AttributeControl](), list[_Compared]()
    for row in chosen:
        measured, lists = comparison.attribute(row, drifts[subject.aims[row].name])
        attributes.append(measured)
        pairs.append(lists)
    for aim in (labelled.aim for labelled in features if labelled.aim.name not in drifts):
        own_N = aim.member_N.to(member_VN.device)
        drifts[aim.name] = CoOccurrence.of(comparison.some, torch.cat([member_VN, own_N[None]]), len(chosen))
    singles = [comparison.feature(labelled, drifts[labelled.aim.name]) for labelled in features]
    keys, intervals = _keys(attributes, singles, pairs)
    tail = study_tail(subject, effects)
    beside = {
        "tail_coverage_x_popsteer": [each.times_popsteer for each in tail if each.best_concept],
        "tail_coverage_x_popsteer_error_kept": [each.times_error_kept for each in tail if each.best_concept],
    }
    found_beside = {key: ratio for key, ratios in beside.items() for ratio in ratios if ratio is not None}
    keys |= {key: ratio.value for key, ratio in found_beside.items()}
    return ControlReport(keys, intervals | found_beside, attributes, singles, tail)


def labelled_features(features: pl.DataFrame, labels: Labels, count: int) -> list[Labelled]:
    """The steerable discovered features whose label describes items, the strongest first, by their effect on validation users."""
    found = pl.col("kind") == "discovered"
    rows = (
        features.filter(found & pl.col("steerable") & (pl.col("description").list.len() > 0))
        .sort(pl.col("share_after") - pl.col("share_before"), descending=True)
        .head(count)
    )
    columns = rows.select("feature", "unit_up", "unit_down").iter_rows()
    return [Labelled(feature, _said(labels, feature), (up, down)) for feature, up, down in columns]


def _said(labels: Labels, feature: int) -> Aim:
    """To raise the items that a label describes."""
    attribute, _, value = " & ".join(":".join(part) for part in labels.description[feature]).partition(":")
    member_N = labels.predicted_FN[feature]
    return Aim(attribute, value, member_N.float(), member_N)


def _members(subject: Subject, rows: list[int]) -> Tensor:
    """Items of some aims; of no aims none, where there are no attributes. (V, N)"""
    none_VN = torch.zeros(0, len(subject.popularity_N), dtype=torch.bool, device=subject.people.h_BD.device)
    return torch.cat([none_VN, *(subject.aims[row].member_N[None].to(none_VN.device) for row in rows)])


class _Compared(NamedTuple):
    """Lists of all test users at the same goals, by method; absent where a goal is not reached."""

    by_goal: dict[tuple[str, float], SteeredLists]
    strengths_B: Tensor
    """Of the concept's largest edit, as in ConceptEdits, without sign."""


@dataclass(frozen=True)
class _Comparison:
    """Shared by all attributes."""

    subject: Subject
    config: StudyConfig
    some: Audience  # test users
    choosers: Audience  # validation users
    directions_UD: Tensor  # features, then neurons turned up, then neurons turned down
    fisher_DD: Tensor
    log_popularity_N: Tensor

    @staticmethod
    def of(subject: Subject, config: StudyConfig) -> "_Comparison":
        some, choosers = (
            _sample(people, count, config.seed)
            for people, count in ((subject.people, config.curve_users), (subject.learners, config.choosers))
        )
        features_FD = feature_directions(subject.edit)
        neurons_UD = neuron_directions(features_FD.shape[1]).to(features_FD)
        popularity_N = torch.from_numpy(np.log1p(subject.popularity_N)).to(features_FD.device)
        return _Comparison(
            subject,
            config,
            some,
            choosers,
            torch.cat([features_FD, neurons_UD]),
            fisher_information(choosers, config.seed),
            popularity_N,
        )

    def attribute(self, row: int, co_occurrence: CoOccurrence) -> tuple[AttributeControl, _Compared]:
        subject, aim = self.subject, self.subject.aims[row]
        people, member_N = subject.people, self._member(aim)
        share = people.plain.share(member_N)
        goals = [target_share(share, rise) for rise in RISES]
        best, lift = self._choose(aim)
        concept = by_concept(subject.edit, subject.concepts, row)
        headline = {"boost": (by_boost(aim.lean_N.to(member_N.device)), FIRST), "concept": (concept, FIRST_CONCEPT)}
        if best is not None:
            headline["feature"] = self._single(best)
        measured, found, traces, paths = _match(people, headline, member_N, goals)
        edits, strengths_B = self._edits(row, paths["concept"], member_N, goals[0])
        one = None
        if lift is not None:
            steer, first = self._single(lift)
            path = paths["feature"] if lift == best else SteeringPath(people, steer)
            one = OneFeature(lift, at_loss(path, member_N, first, LOSS))
        others = {"boost": headline["boost"]} | self._others(aim, row)
        beside, _, more, _ = _match(self.some, others, member_N, goals)
        measured += [result for result in beside if result.method != "boost"]
        curve = measure_curve(
            aim.name,
            SteeringPath(self.some, in_units(concept, *subject.units[row])),
            list(self.config.concept_strengths),
            co_occurrence,
            self.log_popularity_N,
        )
        control = AttributeControl(aim.name, aim.value, share, best, one, measured, edits, curve, more | traces)
        return control, _Compared(found, strengths_B)

    def _edits(self, row: int, path: SteeringPath, member_N: Tensor, goal: float) -> tuple[ConceptEdits, Tensor]:
        """What the concept of an aim does to its feature where it reaches a goal, and the strength for each user, (B,)."""
        shares = {at: lists.share(member_N) for at, lists in path.cache.items() if at >= 0}
        reached = [at for at, share in shares.items() if share >= goal]
        strength = min(reached) if reached else max(shares, key=lambda at: shares[at])
        subject = self.subject
        edit_B = subject.people.concept_strengths(subject.edit, subject.concepts, row, strength)
        size_B, feature = edit_B.abs().double(), int(subject.concepts.features_X[row])
        edited = EditedFeature(feature, float(edit_B.clamp_min(0).mean()), float((-edit_B).clamp_min(0).mean()))
        upper = bootstrap_quantile([size_B], UPPER).value
        return ConceptEdits(strength, float(size_B.mean()), upper, [edited]), size_B

    def feature(self, labelled: Labelled, co_occurrence: CoOccurrence) -> FeatureControl:
        steer = in_units(by_feature(self.subject.edit, labelled.feature), *labelled.units)
        path = SteeringPath(self.some, steer)
        strengths = list(self.config.feature_strengths)
        curve = measure_curve(labelled.aim.name, path, strengths, co_occurrence, self.log_popularity_N)
        return FeatureControl(labelled.feature, labelled.aim.name, curve)

    def _member(self, aim: Aim) -> Tensor:
        return aim.member_N.to(self.some.h_BD.device)

    def _single(self, unit: int) -> tuple[Steer, float]:
        """A unit as a control, and the first strength to try: FIRST in Fisher length."""
        length = float(lengths(self.directions_UD[unit][None], self.fisher_DD)[0])
        steer = (
            by_feature(self.subject.edit, unit)
            if unit < len(self.subject.edit.scale_F)
            else by_direction(self.directions_UD[unit])
        )
        return steer, FIRST / max(length, 1e-9)

    def _choose(self, aim: Aim) -> tuple[int | None, int | None]:
        """The features that keep most at the first rise, and that raise the share most at LOSS, on validation users."""
        features = range(self.subject.edit.sae.discovered)
        paths, member_N = self._candidates(aim, features, self.config.candidates), self._member(aim)
        goal = target_share(self.choosers.plain.share(member_N), RISES[0])
        kept = {unit: _worth(path, member_N, goal, first) for unit, (path, first) in paths.items()}
        lifted = {unit: at_loss(path, member_N, first, LOSS).share for unit, (path, first) in paths.items()}
        return max(kept, key=lambda unit: kept[unit], default=None), max(
            lifted, key=lambda unit: lifted[unit], default=None
        )

    def _candidates(self, aim: Aim, units: range, count: int) -> dict[int, tuple[SteeringPath, float]]:
        pull_D = pull(self.choosers, self._member(aim))
        directions_UD = self.directions_UD[units.start : units.stop]
        found = strongest(directions_UD, pull_D, self.fisher_DD, count)
        steers = {unit + units.start: self._single(unit + units.start) for unit, _ in found}
        return {unit: (SteeringPath(self.choosers, steer), first) for unit, (steer, first) in steers.items()}

    def _others(self, aim: Aim, row: int) -> dict[str, tuple[Steer, float]]:
        """The baselines other than score boosting, each with the first strength to try."""
        learners, member_N, count = self.subject.learners, self._member(aim), len(self.subject.edit.scale_F)
        boost = SteeringPath(self.choosers, by_boost(aim.lean_N.to(member_N.device)))
        tilt = reach(
            lambda at: boost.at(at).share(member_N), target_share(boost.at(0).share(member_N), RISES[0]), FIRST
        )
        fitted_D = fit_direction(self.choosers, aim.lean_N.to(member_N.device), FIRST * 8 if tilt is None else tilt)
        means_D = difference_of_means(learners.h_BD, member_N[learners.targets_B])
        others = {"direction": self._along(fitted_D), "means": self._along(means_D)}
        neurons = self._candidates(aim, range(count, len(self.directions_UD)), self.config.candidates // 2)
        goal = target_share(self.choosers.plain.share(member_N), RISES[0])
        if neurons:
            best = max(neurons, key=lambda unit: _worth(neurons[unit][0], member_N, goal, neurons[unit][1]))
            others["neuron"] = self._single(best)
        living = (self.subject.edit.scale_F[: self.subject.edit.sae.discovered] > 0).nonzero()[:, 0].tolist()
        drawn = np.random.default_rng([self.config.seed, row]).permutation(living)[: self.config.random]
        return others | {f"random {at + 1}": self._single(int(unit)) for at, unit in enumerate(drawn)}

    def _along(self, direction_D: Tensor) -> tuple[Steer, float]:
        length = float(lengths(direction_D[None], self.fisher_DD)[0])
        return by_direction(direction_D), FIRST / max(length, 1e-9)


def _sample(people: Audience, count: int, seed: int) -> Audience:
    if count >= len(people.h_BD):
        return people
    drawn = torch.randperm(len(people.h_BD), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    return people.take(drawn.to(people.h_BD.device))


def _worth(path: SteeringPath, member_N: Tensor, goal: float, first: float) -> float:
    """NDCG@10 kept at a goal; below zero where it is not reached, less so the nearer."""
    strength = reach(lambda at: path.at(at).share(member_N), goal, first)
    if strength is None:
        return max(lists.share(member_N) for lists in path.cache.values()) - 1
    return path.kept(strength)


def _match(people: Audience, methods: dict[str, tuple[Steer, float]], member_N: Tensor, goals: list[float]) -> "_Match":
    """All methods at all goals ("boost" comes first)."""
    results: list[Matched] = []
    found: dict[tuple[str, float], SteeredLists] = {}
    traces: dict[str, list[tuple[float, float]]] = {}
    paths = {method: SteeringPath(people, steer) for method, (steer, _) in methods.items()}
    for method, (_, first) in methods.items():
        path = paths[method]
        for rise, goal in zip(RISES, goals, strict=True):
            boosted = None if method == "boost" else found.get(("boost", rise))
            result, lists = matched(method, path, member_N, goal, first, boosted)
            results.append(result)
            if result.strength is not None:
                found[method, rise] = lists
        traces[method] = [(path.at(at).share(member_N), path.kept(at)) for at in sorted(path.cache)]
    return _Match(results, found, traces, paths)


class _Match(NamedTuple):
    results: list[Matched]
    found: dict[tuple[str, float], SteeredLists]
    """The lists of those methods that reach a goal."""
    traces: dict[str, list[tuple[float, float]]]
    """The points on the way."""
    paths: dict[str, SteeringPath]


def _strength_keys(
    attributes: list[AttributeControl], compared: list[_Compared]
) -> tuple[dict[str, float | list[str]], dict[str, Interval]]:
    """How strong the edits of concepts are where they reach the first rise."""
    if not compared:
        return {}, {}
    columns = [each.strengths_B for each in compared]
    within = f"concepts_within_{NATURAL:g}"
    intervals = {
        "concept_strength": bootstrap(columns, lambda means: means.mean(-1)),
        "concept_strength_95": bootstrap_quantile(columns, UPPER),
        within: bootstrap(columns, lambda means: (means <= NATURAL).double().mean(-1)),
    }
    beyond = [each.name for each in attributes if each.edits.strength > NATURAL]
    keys: dict[str, float | list[str]] = {key: interval.value for key, interval in intervals.items()}
    return keys | {f"concepts_beyond_{NATURAL:g}": beyond}, intervals


def _keys(
    attributes: list[AttributeControl], singles: list[FeatureControl], compared: list[_Compared]
) -> tuple[dict[str, float | list[str]], dict[str, Interval]]:
    """The figures of the whole. Attributes that even score boosting cannot raise so far are left out, and named."""
    keys, intervals = _strength_keys(attributes, compared)
    for key, method, rise in (
        ("concept_to_boost", "concept", RISES[0]),
        ("concept_to_boost_50", "concept", RISES[1]),
        ("feature_to_boost", "feature", RISES[0]),
    ):
        possible = [at for at, each in enumerate(compared) if ("boost", rise) in each.by_goal]
        reached = [at for at in possible if (method, rise) in compared[at].by_goal]
        if not reached:
            continue
        columns = [compared[at].by_goal[m, rise].ndcg_B for m in (method, "boost") for at in reached]
        # A goal that a concept does not reach counts as nothing kept; features are averaged over the values that reach it.
        over = len(possible) if method == "concept" else len(reached)
        intervals[key] = bootstrap(columns, _mean_of_ratios(len(reached), over))
        keys[key] = intervals[key].value
        keys[f"{key}_unreached"] = [attributes[at].name for at in possible if at not in reached]
        keys[f"{key}_impossible"] = [each.name for at, each in enumerate(attributes) if at not in possible]
    lifts = [each.one_feature.effect.multiplied for each in attributes if each.one_feature is not None]
    if lifts:
        keys["one_feature_share_x"] = median(lifts)
        keys["one_feature_base_share"] = median(each.base_share for each in attributes if each.one_feature is not None)
    if singles:
        keys["monotone"] = mean(each.curve.rises for each in singles)
        keys["monotone_features"] = len(singles)
    return keys, intervals


def _mean_of_ratios(columns: int, over: int) -> Callable[[Tensor], Tensor]:
    """The statistic of two sets of columns: the sum of ratios of the first to the second, over a number."""

    def statistic(means: Tensor) -> Tensor:
        return (means[..., :columns] / means[..., columns:]).sum(-1) / over

    return statistic


def study_tail(subject: Subject, effects: EffectSizes) -> list[TailCoverage]:
    """Coverage of the tail at LOSS: concepts turned down, PopSteer and tilts. Nothing where no concept is of TAIL_ATTRIBUTES.

    PopSteer is there as published and with the error kept, each time in the variant that covers most on validation users.
    """
    aims = {aim.attribute: (row, aim) for row, aim in enumerate(subject.aims) if aim.attribute in TAIL_ATTRIBUTES}
    if not aims:
        return []
    popularity_N = torch.from_numpy(subject.popularity_N).to(subject.people.h_BD.device)
    log_popularity_N = popularity_N.log1p()
    tail_N = torch.zeros(len(popularity_N), dtype=torch.bool, device=popularity_N.device)
    tail_N[popularity_N.argsort(stable=True)[: round(TAIL * len(popularity_N))]] = True
    sae = discovered(subject.edit.sae)
    count = sae.discovered
    sizes = tuple(dict.fromkeys((max(count // 16, 1), max(count // 4, 1), count)))
    concepts, published, error_kept = (
        {
            f"concept {name}": opposite(by_concept(subject.edit, subject.concepts, row))
            for name, (row, _) in aims.items()
        },
        *(
            {
                f"popsteer, {size} features{', error kept' if keep_error else ''}": popsteer(
                    sae, effects, size, keep_error=keep_error
                )
                for size in sizes
            }
            for keep_error in (False, True)
        ),
    )
    best_concept, best_published, best_kept = (
        _covers_most(subject.learners, variants, tail_N) for variants in (concepts, published, error_kept)
    )
    methods = {
        **concepts,
        best_published: published[best_published],
        best_kept: error_kept[best_kept],
        "log-popularity penalty": by_boost(-log_popularity_N),
        **{f"{name} tilt": by_boost(-aim.lean_N) for name, (_, aim) in aims.items() if name != "popularity"},
    }
    found = {name: _tail_path(subject.people, steer) for name, steer in methods.items()}
    lists = {name: path.at(strength) for name, (path, strength) in found.items()} | {"none": subject.people.plain}
    return [
        TailCoverage(
            name,
            found[name][1] if name in found else 0.0,
            each.ndcg / max(subject.people.plain.ndcg, 1e-9),
            _coverage(each, tail_N),
            float(log_popularity_N[each.rows_BK].mean()),
            None if name == best_published else _coverage_ratio(each, lists[best_published], tail_N),
            None if name == best_kept else _coverage_ratio(each, lists[best_kept], tail_N),
            name == best_concept,
        )
        for name, each in lists.items()
    ]


def _covers_most(people: Audience, variants: dict[str, Steer], tail_N: Tensor) -> str:
    """The variant that covers most of the tail at LOSS, of those that cost no more at strength 0."""
    found = {name: _tail_path(people, steer) for name, steer in variants.items()}
    affordable = {name: each for name, each in found.items() if each[0].kept(0.0) > 1 - LOSS} or found
    return max(affordable, key=lambda name: _coverage(affordable[name][0].at(affordable[name][1]), tail_N))


def _tail_path(people: Audience, steer: Steer) -> tuple[SteeringPath, float]:
    """Where a control has cost LOSS: the largest strength found below it."""
    path = SteeringPath(people, steer)
    reach(lambda at: 1 - path.kept(at), LOSS, FIRST_TAIL, tolerance=0.0)
    crossed = min((at for at in path.cache if path.kept(at) < 1 - LOSS), default=float("inf"))
    return path, max((at for at in path.cache if at < crossed), default=0.0)


def _coverage(lists: SteeredLists, tail_N: Tensor) -> float:
    return int(tail_N[lists.rows_BK.unique()].sum()) / int(tail_N.sum())


def _coverage_ratio(one: SteeredLists, other: SteeredLists, tail_N: Tensor) -> Interval:
    """Of what two methods cover of the tail. A resample has fewer distinct users and so covers less, but both methods alike."""
    drawn_RB = (weights(len(one.rows_BK), RESAMPLES) > 0).float().to(tail_N.device)
    covered_R, other_R = (
        ((drawn_RB @ _listed(lists, tail_N)) > 0).sum(1).double().clamp_min(1) for lists in (one, other)
    )
    edges = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64, device=tail_N.device)
    low, high = (covered_R / other_R).quantile(edges).tolist()
    return Interval(_coverage(one, tail_N) / max(_coverage(other, tail_N), 1e-9), low, high)


def _listed(lists: SteeredLists, tail_N: Tensor) -> Tensor:
    """Which tail items each user is shown. (B, tail items)"""
    listed_BN = torch.zeros(len(lists.rows_BK), len(tail_N), device=tail_N.device).scatter_(1, lists.rows_BK, 1.0)
    return listed_BN[:, tail_N]
