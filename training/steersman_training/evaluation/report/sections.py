"""The Markdown of a report: sections of a few tables each, with a line on how to read them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from steersman_training.evaluation.evaluation import Evaluation, RunResult
from steersman_training.evaluation.report.control_section import control_section, monotone_section, popularity_section
from steersman_training.evaluation.report.headlines import HEADLINES, MOVIELENS_1M
from steersman_training.evaluation.report.markdown import mean_of, table_text, value_text
from steersman_training.evaluation.report.meaning_section import meaning_section
from steersman_training.evaluation.sweep import Row, table

SHOWN_FEATURES = 30
"""Features on the page of the best, and on that of the worst."""
SHOWN_ITEMS = 5
"""Items that a feature is shown by."""


class Pictures(NamedTuple):
    """Paths of the pictures from where the report is; None where there is nothing to show."""

    pareto: str | None
    separation: str | None
    strengths: str | None
    popularity: str | None


def markdown(evaluation: Evaluation, pictures: Pictures, sweeps: dict[str, list[Row]]) -> str:
    """The whole report."""
    runs = evaluation.runs
    parts = [
        _head(evaluation),
        _headlines(evaluation),
        _accuracy(evaluation),
        _autoencoder(evaluation),
        meaning_section(runs, pictures.separation),
        control_section(runs, pictures.pareto, pictures.strengths),
        popularity_section(runs, pictures.popularity),
        monotone_section(runs),
        _sweeps(sweeps),
        _features(runs),
    ]
    return "\n\n".join(part for lines in parts for part in lines) + "\n"


def _head(evaluation: Evaluation) -> Iterator[str]:
    took, settings = evaluation.took, evaluation.settings
    yield f"# Evaluation on {evaluation.data}"
    yield (
        f"Means over {took['seeds']} {'seed' if took['seeds'] == 1 else 'seeds'}, on the test events of the split "
        f"{settings['split']}, the whole catalogue ranked. Brackets hold 95% intervals over users, by bootstrap. "
        "What is chosen (features, labels, directions) is chosen on training and validation events, or on other users."
    )
    if "command" in took:
        yield f"    {took['command']}"
    yield table_text(
        ["it took", ""],
        [
            (name.replace("_", " "), f"{value:,.0f}" if name == "seconds" else str(value))
            for name, value in took.items()
            if name != "command" and not isinstance(value, dict)
        ],
    )
    others = {name: value for name, value in took.items() if isinstance(value, dict)}
    for name, files in others.items():
        listed = "; ".join(f"{', '.join(keys)} ({file})" for file, keys in files.items())
        yield f"{name.replace('_', ' ').capitalize()}: {listed}."


def headline_rows(evaluation: Evaluation) -> Iterator[tuple[str, str, str, str]]:
    """Key, value (with its interval if there is one run), explanation, and the published figure on these data."""
    for headline in HEADLINES:
        if headline.key in evaluation.figures:
            published = headline.published if evaluation.data == MOVIELENS_1M else ""
            yield headline.key, _with_interval(evaluation, headline.key), headline.says, published


def _with_interval(evaluation: Evaluation, key: str) -> str:
    text = value_text(evaluation.figures[key])
    if len(evaluation.runs) != 1 or key not in evaluation.runs[0].control.intervals:
        return text
    interval = evaluation.runs[0].control.intervals[key]
    return f"{text} [{value_text(interval.low)}, {value_text(interval.high)}]"


def _headlines(evaluation: Evaluation) -> Iterator[str]:
    yield "## Headline figures"
    rows = list(headline_rows(evaluation))
    if evaluation.data == MOVIELENS_1M:
        yield table_text(
            ["figure", "value", "published or prototype", "what it is"],
            [(f"`{key}`", value, published, says) for key, value, says, published in rows],
        )
    else:
        yield table_text(["figure", "value", "what it is"], [(f"`{key}`", value, says) for key, value, says, _ in rows])
    left_out = [
        f"`{name}`: {', '.join(joined)}."
        for name, joined in evaluation.figures.items()
        if joined and isinstance(joined, list) and isinstance(joined[0], str)
    ]
    if left_out:
        yield (
            "Values whose concept needs a mean strength beyond 2 at +0.30 share, values that a control does not raise so far (unreached; "
            "with a concept they count as nothing kept), and those that score boosting does not either (impossible; left out):"
        )
        yield "\n".join(f"- {line}" for line in left_out)


def _accuracy(evaluation: Evaluation) -> Iterator[str]:
    yield "## Accuracy"
    figures = evaluation.figures
    measures = ("ndcg_at_10", "hr_at_10", "mrr", "coverage_at_10")
    shown = {
        "test events": "test",
        "the same, seen items not left out": "test_unfiltered",
        "the same, most popular items": "test_most_popular",
        "validation events": "valid",
    }
    yield table_text(
        ["", "NDCG@10", "HR@10", "MRR", "coverage@10"],
        [(says, *(figures.get(f"{name}.{measure}") for measure in measures)) for says, name in shown.items()],
    )
    if "recommender.epochs" in figures:
        yield (
            f"A recommender was trained for {figures['recommender.epochs']:g} epochs in "
            f"{figures['recommender.seconds']:,.0f} seconds."
        )
    timed = [(f"`{key}`", value) for key, value in figures.items() if key.startswith("minutes_to_")]
    if timed:
        yield "The shortest schedule that reaches a quality, in minutes of training:"
        yield table_text(["figure", "value"], timed)


def _autoencoder(evaluation: Evaluation) -> Iterator[str]:
    yield "## Autoencoder"
    sae, figures, runs = evaluation.settings["sae"], evaluation.figures, evaluation.runs
    hook, blocks = (evaluation.settings["recommender"][name] for name in ("hook", "blocks"))
    yield (
        f"{sae['kind']}, {sae['features']:,} discovered features, {sae['active']} of them active at a time, on the state after block "
        f"{blocks if hook is None else hook} of {blocks}. "
        "Anchored features stand beside them and take no part in the reconstruction. Stability is that of live discovered features "
        "beside another seed's on the same recommender: by decoder, and by means at items. Both begin at the same centroids of the states, "
        "which no seed decides, and differ in the order of training alone: what is found again shows that the order matters little, not "
        "that features which began elsewhere would end there too. It does not compare with figures of autoencoders that begin at random."
    )
    rows: list[tuple[str, Any]] = [
        ("variance explained, held-out users", figures.get("sae.variance_explained")),
        ("features active at a time", figures.get("sae.active")),
        ("share of discovered features that are dead", figures.get("sae.dead")),
        ("NDCG@10 kept when the reconstruction replaces the state, test", figures.get("kept_reconstructed")),
        ("the same, validation", figures.get("sae.valid_ndcg_kept")),
        ("agreement of the lists (RBO, p = 0.9)", figures.get("rbo_reconstructed")),
    ]
    stability: dict[str, Callable[[RunResult], float]] = {
        "live features": lambda run: run.stability.live,
        "found again: decoder cosine of at least 0.7": lambda run: run.stability.stable,
        "found again, each the best match of its match": lambda run: run.stability.stable_one_to_one,
        "mean cosine of the best match": lambda run: run.stability.cosine,
        "the same against random directions": lambda run: run.stability.cosine_by_chance,
        "found again: means at items correlate by at least 0.7": lambda run: run.stability.stable_by_items,
        "mean of that correlation": lambda run: run.stability.item_correlation,
        "mean Jaccard index of the ten top items": lambda run: run.stability.item_jaccard,
    }
    yield table_text(
        ["", "value"], [*rows, *((says, mean_of(of(run) for run in runs)) for says, of in stability.items() if runs)]
    )


def _sweeps(sweeps: dict[str, list[Row]]) -> Iterator[str]:
    if sweeps:
        yield "## Sweeps"
        yield "Validation users; what a column is stands in `training/steersman_training/evaluation/sweep.py`."
    for name, rows in sweeps.items():
        lines = list(table(rows))
        if lines:
            yield f"### {name}"
            yield table_text(list(lines[0]), [list(line.values()) for line in lines])


def _features(runs: list[RunResult]) -> Iterator[str]:
    if not runs:
        return
    anchored = [row for row in runs[0].features if row["kind"] == "anchored"]
    live = [row for row in runs[0].features if row["scale"] > 0 and row["kind"] == "discovered"]
    tested = sorted((row for row in live if row["detection"] is not None), key=_worth, reverse=True)
    if anchored:
        yield "## The anchored features"
        yield f"All of seed {runs[0].seed}. Columns as below."
        yield _feature_table(anchored)
    yield "## The best features"
    yield (
        f"Of seed {runs[0].seed}: {len(tested)} of {len(live)} live discovered features, those whose label covers some unseen item, by the "
        "lesser of two figures: confidence (share of the states where the feature fires whose item the label covers) and detection. Share "
        "of the label's items in the top ten and NDCG@10 kept, at strength 1, on validation users."
    )
    yield _feature_table(tested[:SHOWN_FEATURES])
    yield "## The worst features"
    yield "From the other end: no label fits them, or it does not tell where they fire."
    yield _feature_table(tested[::-1][:SHOWN_FEATURES])


def _worth(row: dict[str, Any]) -> float:
    return min(float(row["confidence"]), float(row["detection"]))


def _feature_table(rows: list[dict[str, Any]]) -> str:
    return table_text(
        ["feature", "label", "confidence", "detection", "top items", "share before", "share after", "NDCG@10 kept"],
        [
            (
                str(row["feature"]),
                row["label"],
                row["confidence"],
                row["detection"],
                "; ".join(str(item) for item in row["top_items"][:SHOWN_ITEMS]),
                row["share_before"],
                row["share_after"],
                row["ndcg_kept"],
            )
            for row in rows
        ],
    )
