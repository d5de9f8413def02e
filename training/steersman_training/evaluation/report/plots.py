"""The pictures of a report. Colours are those of Okabe and Ito, distinct with any colour vision."""

from math import ceil
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steersman_training.evaluation.control.control import Curve
from steersman_training.evaluation.control.study import AttributeControl, TailCoverage
from steersman_training.evaluation.evaluation import Evaluation, RunResult
from steersman_training.evaluation.meaning.meaning import Association
from steersman_training.evaluation.report.sections import Pictures

BLACK, ORANGE, BLUE, GREEN, GREY = "#000000", "#E69F00", "#0072B2", "#009E73", "#999999"
LINES = {
    "boost": ("score boosting", BLACK, "--"),
    "concept": ("concept", BLUE, "-"),
    "feature": ("best discovered feature", ORANGE, "-"),
    "direction": ("best direction", GREEN, ":"),
}
"""Ways of control in the picture of shares against NDCG kept: name, colour, line."""
COLUMNS = 5
"""Small pictures in a row."""
LEAST_KEPT = 0.5
"""Of NDCG@10, below which nothing is shown."""
NAMED = 2
"""Attribute values named where features gain most, and least, on neurons."""
DPI = 90


def draw(evaluation: Evaluation, folder: Path) -> Pictures:
    """Draws the first run into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if not evaluation.runs:
        return Pictures(None, None, None, None)
    run = evaluation.runs[0]
    attributes, tail = run.control.attributes, run.control.tail
    return Pictures(
        _saved(_pareto(attributes), folder, "pareto.png") if attributes else None,
        _saved(_separation(run), folder, "separation.png") if run.meaning.item.values else None,
        _saved(_strengths([each.curve for each in attributes]), folder, "strengths.png") if attributes else None,
        _saved(_popularity(tail), folder, "popularity.png") if tail else None,
    )


def _saved(picture: Figure, folder: Path, name: str) -> str:
    picture.savefig(folder / name, dpi=DPI)
    return f"{folder.name}/{name}"


def _plainly(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return axes


def _pareto(attributes: list[AttributeControl]) -> Figure:
    columns = min(COLUMNS, len(attributes))
    rows = ceil(len(attributes) / columns)
    picture = Figure(figsize=(2.3 * columns + 0.4, 1.9 * rows + 0.8), layout="constrained")
    grid = picture.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, attribute in zip(grid.flat, attributes, strict=False):
        _plainly(axes).set_title(attribute.name.partition(":")[2] or attribute.name, fontsize=9)
        for method, (label, colour, line) in LINES.items():
            shown = _rising(attribute.traces.get(method, []))
            axes.plot(*zip(*shown, strict=True), line, color=colour, label=label, linewidth=1.5) if shown else None
        axes.set(xlim=(0, 1), ylim=(LEAST_KEPT, 1.05))
    for axes in list(grid.flat)[len(attributes) :]:
        axes.set_visible(False)
    picture.supxlabel("share of the attribute in the top ten", fontsize=10)
    picture.supylabel("NDCG@10 kept", fontsize=10)
    handles = {label: line for axes in grid.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    picture.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(LINES), frameon=False)
    return picture


def _rising(trace: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Up to the largest share: beyond it, strength costs and brings nothing."""
    shares = [share for share, _ in trace]
    return trace[: shares.index(max(shares)) + 1] if trace else []


def _separation(run: RunResult) -> Figure:
    picture = Figure(figsize=(8, 4.2), layout="constrained")
    for axes, association, title in zip(
        picture.subplots(1, 2),
        (run.meaning.item, run.meaning.lists),
        ("the item just read", "the ten items to come"),
        strict=True,
    ):
        _scatter(_plainly(axes), association)
        axes.set(title=title, xlabel="AUC of the best neuron", ylabel="AUC of the best feature")
    return picture


def _scatter(axes: Axes, association: Association) -> None:
    points = [(value.neuron.best_roc_auc, value.feature.best_roc_auc, value.value) for value in association.values]
    ends = min(min(x, y) for x, y, _ in points) - 0.05, 1.02
    axes.plot(ends, ends, color=GREY, linewidth=1)
    axes.scatter([x for x, _, _ in points], [y for _, y, _ in points], color=BLUE, s=18)
    by_gain = sorted(points, key=lambda point: point[1] - point[0])
    for x, y, name in dict.fromkeys(by_gain[:NAMED] + by_gain[-NAMED:]):
        axes.annotate(name, (x, y), xytext=(4, -3), textcoords="offset points", fontsize=8)
    axes.set(xlim=ends, ylim=ends, aspect="equal")


def _strengths(curves: list[Curve]) -> Figure:
    """Each attribute a thin line, their mean a thick one."""
    picture = Figure(figsize=(8, 3.6), layout="constrained")
    shares, kept = picture.subplots(1, 2)
    strengths = [point.strength for point in curves[0].points]
    _bundle(_plainly(shares), strengths, [_changes(curve) for curve in curves], BLUE)
    _bundle(_plainly(kept), strengths, [[point.kept.value for point in curve.points] for curve in curves], BLUE)
    takers = [[point.kept_takers.value for point in curve.points if point.kept_takers is not None] for curve in curves]
    whole = [line for line in takers if len(line) == len(strengths)]
    if whole:
        kept.plot(strengths, _means(whole), color=ORANGE, linewidth=2.5, label="users whose held-out item has it")
        kept.legend(frameon=False, fontsize=8, loc="upper left")
    shares.set(xlabel="strength of the concept", ylabel="change of the share in the top ten")
    kept.set(xlabel="strength of the concept", ylabel="NDCG@10 kept")
    return picture


def _changes(curve: Curve) -> list[float]:
    before = min(curve.points, key=lambda point: abs(point.strength)).share.value
    return [point.share.value - before for point in curve.points]


def _bundle(axes: Axes, x: list[float], lines: list[list[float]], colour: str) -> None:
    for line in lines:
        axes.plot(x, line, color=GREY, linewidth=0.6, alpha=0.7)
    axes.plot(x, _means(lines), color=colour, linewidth=2.5, label="all users")


def _means(lines: list[list[float]]) -> list[float]:
    return [mean(column) for column in zip(*lines, strict=True)]


def _popularity(tail: list[TailCoverage]) -> Figure:
    picture = Figure(figsize=(7, 0.5 * len(tail) + 1), layout="constrained")
    axes = _plainly(picture.subplots())
    ordered = sorted(tail, key=lambda each: each.coverage)
    bars = axes.barh(
        [each.method for each in ordered],
        [each.coverage for each in ordered],
        color=[BLUE if each.method.startswith("concept") else GREY for each in ordered],
        height=0.6,
    )
    axes.bar_label(
        bars, [f"{each.coverage:.2f}, NDCG@10 kept {each.kept:.2f}" for each in ordered], padding=4, fontsize=8
    )
    widest = max(max(each.coverage for each in tail), 0.01)
    axes.set(xlabel="coverage@10 of the least popular 80% of items", xlim=(0, 1.6 * widest))
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 1])
    axes.grid(visible=False, axis="y")
    return picture
