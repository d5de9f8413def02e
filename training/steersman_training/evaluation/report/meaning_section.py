"""The section of a report on the meaning of features, discovered and anchored, beside neurons."""

from collections.abc import Callable, Iterator
from typing import Any

from steersman_training.evaluation.evaluation import RunResult
from steersman_training.evaluation.meaning.meaning import Association, UnitFit
from steersman_training.evaluation.meaning.monosemanticity import Spread
from steersman_training.evaluation.report.markdown import mean_of, picture_text, table_text


def meaning_section(runs: list[RunResult], picture: str | None) -> Iterator[str]:
    """Single units, probes, top items, and the detection scores of labels."""
    yield "## Meaning"
    yield (
        "For each attribute value, the discovered feature and the neuron (of either sign) that correlate best with it on some users, "
        "measured on others. Of AUC and average precision (AP), those of the unit chosen by that measure; a unit that says nothing has "
        "AUC 0.5 and the base rate as its AP."
    )
    yield from picture_text(picture, "AUC of the best feature beside the best neuron, by attribute value")
    yield "### Of the item just read"
    yield _association([run.meaning.item for run in runs])
    yield "### Of the ten items to come"
    yield "Correlation with the value's share of the unsteered list; for AUC and AP, whether that share is above its mean."
    yield _association([run.meaning.lists for run in runs])
    yield "### Anchored features"
    yield (
        "Each was fitted to its value on other users. Correlation with the item just read and with the ten items to come, beside the best "
        "discovered feature's; and the value whose share of the list it goes best with."
    )
    yield table_text(
        ["value", "item: anchored", "item: discovered", "list: anchored", "list: discovered", "goes best with"],
        _anchor_rows(runs),
    )
    yield "### Probes"
    yield "Logistic regressions on the best k discovered features or neurons, means over values."
    yield table_text(
        [
            "k",
            *(
                f"{of}: {unit} {told}"
                for of in ("item", "list")
                for told in ("AUC", "AP")
                for unit in ("features", "neurons")
            ),
        ],
        _probe_rows(runs),
    )
    yield "### Monosemanticity"
    yield (
        "How alike a unit's ten top items are: the share that has the most frequent value (purity), that as a multiple of the value's "
        "share of all items (lift), and the entropy of values over that among all items (0: all alike)."
    )
    kinds = {"features": "discovered", "anchored": "anchored", "neurons": "neurons", "random": "random"}
    yield table_text(
        ["facet", *(f"{kind}: {told}" for told in ("purity", "lift", "entropy") for kind in kinds.values())],
        _spread_rows(runs, tuple(kinds)),
    )
    yield "### Labels"
    yield (
        "Detection: whether a label tells, of items that it was not chosen on, where its feature is strong (ROC AUC). Contradicting: "
        "labels that cover less than half of the items that their feature is shown by."
    )
    yield table_text(["", "discovered", "anchored"], _label_rows(runs))


def _anchor_rows(runs: list[RunResult]) -> Iterator[tuple[Any, ...]]:
    for same in zip(
        *(zip(run.anchors, run.meaning.item.values, run.meaning.lists.values, strict=True) for run in runs), strict=True
    ):
        anchors, items, lists = zip(*same, strict=True)
        yield (
            f"{anchors[0].attribute}: {anchors[0].value}",
            mean_of(each.correlation_item for each in anchors),
            mean_of(each.feature.correlation for each in items),
            mean_of(each.correlation_list for each in anchors),
            mean_of(each.feature.correlation for each in lists),
            ", ".join(dict.fromkeys(each.best_value for each in anchors)),
        )


def _label_rows(runs: list[RunResult]) -> Iterator[tuple[Any, ...]]:
    kinds = ("discovered", "anchored")
    yield ("features", *(mean_of(sum(row["kind"] == kind for row in run.features) for run in runs) for kind in kinds))
    for key, says in (
        ("labelled", "share with a clear label"),
        ("labelled_listed", "the same of those active in 0.5% of the states or more"),
        ("contradicting", "contradicting"),
    ):
        yield says, mean_of(run.figures.get(key) for run in runs), "-"
    yield (
        "share that are steerable",
        *(
            mean_of(float(row["steerable"]) for run in runs for row in run.features if row["kind"] == kind)
            for kind in kinds
        ),
    )
    yield "detection", *(mean_of(_detections(runs, kind)) for kind in kinds)
    yield "detection of 0.7 or more", *(_share_above(runs, kind, 0.7) for kind in kinds)


def _detections(runs: list[RunResult], kind: str) -> list[float]:
    return [
        row["detection"] for run in runs for row in run.features if row["detection"] is not None and row["kind"] == kind
    ]


def _share_above(runs: list[RunResult], kind: str, least: float) -> str:
    found = _detections(runs, kind)
    return f"{sum(score >= least for score in found) / max(len(found), 1):.0%}"


MEASURES: dict[str, Callable[[UnitFit], float]] = {
    "correlation": lambda unit: unit.correlation,
    "AUC": lambda unit: unit.best_roc_auc,
    "AP": lambda unit: unit.best_average_precision,
}


def _association(runs: list[Association]) -> str:
    """A row a value, means over runs, below their mean."""
    rows = [
        (
            f"{values[0].attribute}: {values[0].value}",
            mean_of(value.base_rate for value in values),
            *(
                mean_of(of(unit) for unit in units)
                for of in MEASURES.values()
                for units in ([value.feature for value in values], [value.neuron for value in values])
            ),
        )
        for values in zip(*(run.values for run in runs), strict=True)
    ]
    total = (
        ("mean", *(mean_of(column) for column in list(zip(*rows, strict=True))[1:]))
        if rows
        else ("mean",) + (None,) * 7
    )
    head = ["value", "base rate", *(f"{unit}'s {name}" for name in MEASURES for unit in ("feature", "neuron"))]
    return table_text(head, [total, *rows])


def _probe_rows(runs: list[RunResult]) -> Iterator[tuple[Any, ...]]:
    measures = [f"{unit}_{told}" for told in ("roc_auc", "average_precision") for unit in ("feature", "neuron")]
    for at, probe in enumerate(runs[0].probes.item if runs else ()):
        both = [[run.probes.item[at] for run in runs], [run.probes.lists[at] for run in runs]]
        yield (
            probe.size,
            *(mean_of(getattr(each, measure) for each in probes) for probes in both for measure in measures),
        )


def _spread_rows(runs: list[RunResult], kinds: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    measures: list[Callable[[Spread], float]] = [
        lambda spread: spread.purity,
        lambda spread: spread.lift,
        lambda spread: spread.entropy,
    ]
    for facets in zip(*(run.monosemanticity.facets for run in runs), strict=True):
        yield (
            facets[0].facet,
            *(mean_of(of(getattr(facet, kind)) for facet in facets) for of in measures for kind in kinds),
        )
