"""The report of an evaluation: every figure as JSON, and Markdown with plots beside it, which can be written again from the JSON."""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from steersman_training.data.titles import readable_title
from steersman_training.evaluation.evaluation import Evaluation
from steersman_training.evaluation.report.plots import draw
from steersman_training.evaluation.report.sections import markdown
from steersman_training.evaluation.sweep import CellFigures, Row

DIGITS = 6
"""Significant digits of a number in JSON."""
OTHERS = "measured_by_other_commands"
"""Key, in `Evaluation.took`, of the files whose figures were added, each with their keys."""


def write_report(evaluation: Evaluation, out: Path, sweeps: Iterable[Path] = ()) -> None:
    """Writes `out`.json, then `out`.md and the pictures that it shows, in the folder `out`.

    Raises ValueError if a file of `sweeps` is not one that `steersman sweep` writes.
    """
    save(evaluation, out)
    pictures = draw(evaluation, out)
    _beside(out, ".md").write_text(markdown(evaluation, pictures, {file.name: read_sweep(file) for file in sweeps}))


def save(evaluation: Evaluation, out: Path) -> None:
    """Writes `out`.json alone."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _beside(out, ".json").write_text(as_json(evaluation))


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(out.name + ending)


def read_report(out: Path) -> Evaluation:
    """What `save` wrote. Raises ValueError if `out`.json is something else."""
    path = _beside(out, ".json")
    try:
        evaluation = _decode(Evaluation, json.loads(path.read_text()))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a report of this version: {error!r}; run the evaluation again") from error
    assert isinstance(evaluation, Evaluation)
    return evaluation


def with_titles(evaluation: Evaluation, titles: list[str]) -> Evaluation:
    """Items by title, as people write them, where the catalogue has their rows."""
    titles = list(map(readable_title, titles))
    return replace(
        evaluation,
        runs=[
            replace(
                run, features=[{**row, "top_items": [titles[at] for at in row["top_items"]]} for row in run.features]
            )
            for run in evaluation.runs
        ],
    )


def check_inputs(merged: Iterable[str], sweeps: Iterable[Path]) -> None:
    """Raises ValueError or OSError if a file that the report is to show cannot be read, or is something else."""
    for given in merged:
        _numbers(_suffix(given)[1])
    for file in sweeps:
        read_sweep(file)


def merge(evaluation: Evaluation, files: Iterable[str]) -> Evaluation:
    """Adds measurements of other commands: numbers of JSON files, at their top level or, in another report, under `figures`.

    `SUFFIX=FILE` adds `_SUFFIX` to each key, so that a report of other data can be added. Raises ValueError if a file is no such
    file, or measures again what this evaluation did.
    """
    figures, others = dict(evaluation.figures), dict(evaluation.took.get(OTHERS, {}))
    own = figures.keys() - {key for keys in others.values() for key in keys}
    for given in files:
        suffix, path = _suffix(given)
        added = {f"{key}{suffix}": value for key, value in _numbers(path).items()}
        if again := sorted(own & added.keys()):
            raise ValueError(
                f"{path}: this evaluation has {', '.join(again)} itself; as SUFFIX={path} it gets keys of its own"
            )
        figures |= added
        others[path.name] = sorted(added)
    took = {**evaluation.took, OTHERS: others} if others else evaluation.took
    return replace(evaluation, figures=figures, took=took)


def _suffix(given: str) -> tuple[str, Path]:
    parts = re.fullmatch(r"(\w+)=(.+)", given)
    return (f"_{parts[1]}", Path(parts[2])) if parts else ("", Path(given))


def _numbers(path: Path) -> dict[str, float]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("figures", {}), dict):
        raise ValueError(f"{path}: not an object of figures by name")
    found = content.get("figures", content)
    return {
        key: value for key, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def as_json(evaluation: Evaluation) -> str:
    """Every figure, the intervals of each run, time and machine, the settings, and each run. NaN and infinity are null."""
    runs = evaluation.runs
    intervals = {
        key: [{"seed": run.seed, **asdict(run.control.intervals[key])} for run in runs if key in run.control.intervals]
        for key in dict.fromkeys(key for run in runs for key in run.control.intervals)
    }
    content: dict[str, Any] = {
        "data": evaluation.data,
        "figures": evaluation.figures,
        "intervals": intervals,
        "took": evaluation.took,
        "settings": evaluation.settings,
    }
    parts = [
        f"{json.dumps(key)}: {json.dumps(plain(part), indent=1, ensure_ascii=False)}" for key, part in content.items()
    ]
    lines = [json.dumps(plain(asdict(run)), ensure_ascii=False, allow_nan=False) for run in runs]
    return "{\n" + ",\n".join([*parts, '"runs": [\n' + ",\n".join(lines) + "\n]"]) + "\n}\n"


def plain(value: Any) -> Any:
    """The same with what JSON can hold."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def _decode(kind: Any, value: Any) -> Any:
    """The value of a type, dataclasses above all, that `plain` made `value` of. Raises KeyError or TypeError if it is of another."""
    origin, arguments = get_origin(kind), get_args(kind)
    if value is None:
        return math.nan if kind is float else None
    if origin is UnionType:
        # Of all unions here, those with None have one other part, and the rest are plain values.
        parts = [part for part in arguments if part is not type(None)]
        return _decode(parts[0], value) if len(parts) == 1 else value
    if is_dataclass(kind):
        assert isinstance(kind, type)
        hints = get_type_hints(kind)
        return kind(**{part.name: _decode(hints[part.name], value[part.name]) for part in fields(kind)})
    if origin is list:
        return [_decode(arguments[0], part) for part in value]
    if origin is tuple:
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        return tuple(_decode(part_kind, part) for part_kind, part in zip(kinds, value, strict=True))
    if origin is dict:
        return {key: _decode(arguments[1], part) for key, part in value.items()}
    return value


def read_sweep(file: Path) -> list[Row]:
    """The finished cells. Raises ValueError if it is not a file that `steersman sweep` writes."""
    try:
        lines = file.read_text().splitlines(keepends=True)
        entries = [
            json.loads(line) for line in lines if line.endswith("\n")
        ]  # an interruption may have cut the last one short
        return [Row(entry["cell"], CellFigures(**entry["figures"])) for entry in entries]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: not a sweep of this version: {error!r}") from error
