"""The sections of a report on control: of attributes, of popularity, and by single labelled features."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from steersman_training.evaluation.control.control import Matched, Point
from steersman_training.evaluation.control.study import LOSS, NATURAL, RISES, AttributeControl
from steersman_training.evaluation.evaluation import RunResult
from steersman_training.evaluation.report.markdown import mean_of, picture_text, table_text, value_text

METHODS = ("boost", "concept", "feature", "direction", "means", "neuron", "random")
"""Ways to control an attribute, in the order of the tables."""


def control_section(runs: list[RunResult], pareto: str | None, strengths: str | None) -> Iterator[str]:
    """Of attributes, at shares that every way of control is brought to, and over strengths."""
    yield "## Control"
    yield (
        "Every way to control an attribute value is brought to the same share of the top ten, and NDCG@10 is what it keeps of it there. "
        "Score boosting adds a constant to the scores of the attribute's items: the optimum where it is known. In brackets, the largest "
        "share met where a goal is not reached. `concept`: the value's anchored feature, as strong as each user needs it. `feature`: the "
        "best discovered feature. `random`: the mean of random discovered features, and how many reach the goal. Boosting, concepts and "
        "the best feature steer all test users, the others a sample of them."
    )
    yield from picture_text(pareto, "NDCG@10 kept against the share of an attribute, by way of control")
    by_attribute = list(zip(*(run.control.attributes for run in runs), strict=True))
    yield from _matched_text(runs, by_attribute)
    yield f"### One discovered feature, at {LOSS:.0%} of NDCG@10 lost"
    yield "The feature that multiplies the share most, chosen on validation users. Where it never costs as much, what it does at most."
    feature = f"feature of seed {runs[0].seed}" if runs else ""
    columns = ["attribute", "share before", "share", "multiplied by", "NDCG@10 kept", feature]
    yield table_text(columns, _lift_rows(runs, by_attribute))
    yield from _curves_text(runs, by_attribute, strengths)


def _matched_text(runs: list[RunResult], by_attribute: list[tuple[AttributeControl, ...]]) -> Iterator[str]:
    """What is kept at the goals, and the edits that concepts come down to there."""
    for rise in range(len(RISES)):
        yield f"### NDCG@10 kept at +{RISES[rise]:.2f} share"
        yield table_text(
            ["attribute", "share before", *METHODS],
            [
                (
                    same[0].name,
                    mean_of(each.base_share for each in same),
                    *(_kept(same, name, rise) for name in METHODS),
                )
                for same in by_attribute
            ],
        )
    yield f"### Edits of concepts at +{RISES[0]:.2f} share"
    yield (
        "Concept strength: in its own unit, which is calibrated on validation users. Strength: of the concept's edit, in units of the "
        f"feature's natural maximum, at most {NATURAL:g} if it is to be natural. Where the goal is not reached, at the largest share met."
    )
    yield table_text(
        [
            "attribute",
            f"feature of seed {runs[0].seed}" if runs else "",
            "concept strength",
            "strength",
            "0.95 quantile over users",
        ],
        [
            (
                same[0].name,
                ", ".join(str(edited.feature) for edited in same[0].edits.features),
                mean_of(each.edits.concept_strength for each in same),
                mean_of(each.edits.strength for each in same),
                mean_of(each.edits.strength_95 for each in same),
            )
            for same in by_attribute
        ],
    )


def _curves_text(
    runs: list[RunResult], by_attribute: list[tuple[AttributeControl, ...]], strengths: str | None
) -> Iterator[str]:
    """What concepts do over strengths."""
    yield "### Concepts, turned up and down"
    yield (
        "Strength 1 is a caller's: concepts and features have units with which it is a comparable push (decision 0019). Takers: users "
        "whose held-out item has the attribute. Drift: how far the other attributes' shares are from where boosting takes them, summed. "
        "Popularity: change of the mean log popularity. Means over attributes; the curve of each attribute is in the JSON."
    )
    yield from picture_text(strengths, "Share and NDCG@10 kept by strength of concepts")
    yield table_text(
        ["strength", "share", "NDCG@10 kept", "kept for takers", "overlap@10", "RBO", "drift", "popularity"],
        _strength_rows(runs),
    )
    yield table_text(
        [
            "attribute",
            *(
                f"{what} at {at}"
                for what in ("share", "kept", "kept for takers", "drift", "popularity")
                for at in ("-1", "1")
            ),
            "Spearman",
            "by user",
        ],
        [_curve_row(same) for same in by_attribute],
    )


def _kept(same: Sequence[AttributeControl], method: str, rise: int) -> str:
    """Mean over runs of NDCG kept by a method at a rise, over the values for which it reaches the rise."""
    found = [result for each in same for result in _results(each, method, rise)]
    reached = [result.kept.value for result in found if result.reached]
    share = f"[{value_text(mean_of(result.share for result in found))}]" if found else "-"
    if method == "random" and reached:
        return f"{value_text(mean_of(reached))} ({len(reached)} of {len(found)})"
    return value_text(mean_of(reached)) if reached else share


def _results(control: AttributeControl, method: str, rise: int) -> list[Matched]:
    """At one rise. A method has a result for each rise, in their order; of random features there are several."""
    by_name: dict[str, list[Matched]] = {}
    for result in control.matched:
        if result.method.split(" ")[0] == method:
            by_name.setdefault(result.method, []).append(result)
    return [results[rise] for results in by_name.values()]


def _lift_rows(runs: list[RunResult], by_attribute: list[tuple[AttributeControl, ...]]) -> Iterator[tuple[Any, ...]]:
    for same in by_attribute:
        effects = [each.one_feature.effect for each in same if each.one_feature is not None]
        first = same[0].one_feature
        yield (
            same[0].name,
            mean_of(each.base_share for each in same),
            mean_of(effect.share for effect in effects),
            mean_of(effect.multiplied for effect in effects),
            mean_of(effect.kept for effect in effects),
            "-" if first is None else f"{first.feature}: {_label(runs[0], first.feature)}",
        )


def _label(run: RunResult, feature: int) -> str:
    return next((str(row["label"]) for row in run.features if row["feature"] == feature), "-")


POINT: tuple[Callable[[Point], float | None], ...] = (
    lambda point: point.share.value,
    lambda point: point.kept.value,
    lambda point: None if point.kept_takers is None else point.kept_takers.value,
    lambda point: point.overlap,
    lambda point: point.rbo,
    lambda point: point.drift,
    lambda point: point.log_popularity,
)


def _strength_rows(runs: list[RunResult]) -> Iterator[tuple[Any, ...]]:
    curves = [control.curve for run in runs for control in run.control.attributes]
    for points in zip(*(curve.points for curve in curves), strict=True):
        yield (f"{points[0].strength:+g}", *(mean_of(of(point) for point in points) for of in POINT))


def _curve_row(same: Sequence[AttributeControl]) -> tuple[Any, ...]:
    ends = [[each.curve.points[at] for each in same] for at in (0, -1)]
    share, kept, takers, _, _, drift, popularity = POINT
    return (
        same[0].name,
        *(mean_of(of(point) for point in points) for of in (share, kept, takers, drift, popularity) for points in ends),
        mean_of(each.curve.monotonicity for each in same),
        mean_of(each.curve.monotonicity_users for each in same),
    )


def popularity_section(runs: list[RunResult], picture: str | None) -> Iterator[str]:
    """Of the tail, beside PopSteer; nothing where there is no concept of popularity."""
    rows = [
        (
            str(run.seed),
            each.method,
            each.strength,
            each.kept,
            each.coverage,
            *("-" if times is None else str(times) for times in (each.times_popsteer, each.times_error_kept)),
            each.log_popularity,
        )
        for run in runs
        for each in run.control.tail
    ]
    if not rows:
        return
    yield "## Popularity"
    yield (
        f"The least popular 80% of items, where a control has cost {LOSS:.0%} of NDCG@10 or comes nearest to it from below. PopSteer "
        "(Ahmadov & Mansoury, arXiv 2601.15122) is run on the same recommender and autoencoder: as published, where the reconstruction "
        "takes the state's place, and with what the autoencoder cannot reconstruct kept; each in the variant that covers most on "
        "validation users. Tilts are exact: a bias on scores by the attribute, which a concept can only come close to."
    )
    yield from picture_text(picture, "Coverage of the tail by way of control")
    yield table_text(
        [
            "seed",
            "control",
            "strength",
            "NDCG@10 kept",
            "coverage@10 of the tail",
            "as a multiple of PopSteer's as published",
            "of PopSteer's, error kept",
            "mean log popularity",
        ],
        rows,
    )


def monotone_section(runs: list[RunResult]) -> Iterator[str]:
    """By single features; nothing where none has a label."""
    features = [(run, control) for run in runs for control in run.control.features]
    if not features:
        return
    yield "## Monotone features"
    curves = [control.curve for _, control in features]
    together, by_user = (
        mean_of(getattr(curve, name) for curve in curves) for name in ("monotonicity", "monotonicity_users")
    )
    yield (
        f"Of {len(curves)} labelled steerable discovered features, chosen on validation users, {sum(curve.rises for curve in curves)} "
        "raise the share of their label's items on test users from strength 0 to 1 without a step down. Spearman correlation of share and "
        f"strength: mean {value_text(together)}, user by user {value_text(by_user)}."
    )
    falling = [(run, control) for run, control in features if not control.curve.rises]
    if falling:
        yield "Those that do not:"
        yield table_text(
            ["seed", "feature", "label", "share at 0", "largest share", "share at 1", "Spearman"],
            [
                (
                    str(run.seed),
                    str(control.feature),
                    control.label,
                    next(point.share.value for point in control.curve.points if point.strength == 0),
                    max(point.share.value for point in control.curve.points),
                    control.curve.points[-1].share.value,
                    control.curve.monotonicity,
                )
                for run, control in falling
            ],
        )
