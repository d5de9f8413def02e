"""The model card of a bundle: README.md, as people and the Hugging Face hub read it, from the manifest and the tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from steersman.v1.bundle_pb2 import Manifest

CARD = "README.md"
SHOWN_CONCEPTS, SHOWN_FEATURES = 20, 15
METRICS = {"ndcg_at_10": "NDCG@10", "hr_at_10": "hit rate@10", "mrr": "MRR", "coverage_at_10": "coverage@10"}
EFFECT = ("share before", "share after", "NDCG kept")
RANKED = {
    "test": "this model",
    "test_unfiltered": "this model, items already seen not left out",
    "test_most_popular": "most popular items",
}
# Of data that is fetched by name or recognised: name and page of the licence.
MOVIELENS = (
    "MovieLens terms of use (research; no redistribution without permission)",
    "https://grouplens.org/datasets/movielens/",
)
LICENCES = {"movielens-": MOVIELENS, "ml-": MOVIELENS}
UNSTATED = "not stated: ask whoever holds the data before you pass this bundle on"


def model_card(manifest: Manifest, tables: Mapping[str, pl.DataFrame], licence: str | None = None) -> str:
    """`manifest` has its provenance, shape and figures; `tables` are those of the bundle; `licence` is that of the data, if it was told."""
    data = manifest.provenance.data
    parts = [
        _metadata(manifest, licence),
        f"# A steerable recommender, trained on {_plain(data)}",
        "",
        *_what(manifest),
        "",
    ]
    parts += ["## How good its lists are", "", *_figures(manifest), ""]
    parts += ["## What can be steered", "", *_features(tables["features"]), "", *_concepts(tables["concepts"]), ""]
    parts += ["## Data", "", *_data(manifest, tables, licence), "", "## Limits", "", *_limits(manifest), ""]
    return "\n".join([*parts, "## Serving it", "", *_serving()]) + "\n"


def _metadata(manifest: Manifest, licence: str | None) -> str:
    """YAML between two lines of dashes. JSON is YAML, and quotes what comes from data."""
    data = manifest.provenance.data
    name, link = _licence(data, licence)
    metrics = [
        {"type": metric, "name": f"test {title}", "value": round(manifest.figures[f"test.{metric}"], 4)}
        for metric, title in METRICS.items()
        if f"test.{metric}" in manifest.figures
    ]
    task = {"type": "recommendation", "name": "sequential recommendation"}
    result = {"task": task, "dataset": {"type": data, "name": data}, "metrics": metrics}
    document: dict[str, Any] = {
        "library_name": "steersman",
        "license": "other",
        "license_name": name,
        **({"license_link": link} if link else {}),
        "tags": ["recommender-system", "sequential-recommendation", "sparse-autoencoder", "interpretability", "onnx"],
        "model-index": [{"name": f"steersman-{data}", "results": [result]}],
    }
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items())
    return "\n".join(["---", *lines, "---", ""])


def _what(manifest: Manifest) -> Iterator[str]:
    shape, told = manifest.shape, f"{manifest.format_major}.{manifest.format_minor}"
    yield (
        f"A transformer of {manifest.hook.blocks} blocks reads the last {manifest.window.length} events of a user's history; a sparse"
        f" autoencoder opens its hidden state of {shape.hidden} numbers into {shape.features} named features; callers turn features and"
        f" {shape.concepts} concepts up and down, and get the best of {shape.items} items."
    )
    yield ""
    yield (
        f"This folder is a Steersman bundle, format {told}, written {manifest.created} by version {manifest.provenance.code_version}."
        " Its version is the hash of `manifest.json`, which has the hash of every file."
    )


def _figures(manifest: Manifest) -> Iterator[str]:
    figures = manifest.figures
    ranked = [(name, title) for name, title in RANKED.items() if f"{name}.ndcg_at_10" in figures]
    yield "Each user's held-out test event, ranked among all items:"
    yield ""
    yield from _table(
        ("lists of", *METRICS.values()),
        [(title, *(_number(figures, f"{name}.{metric}") for metric in METRICS)) for name, title in ranked],
    )
    if "sae.test_ndcg_kept" in figures:
        yield ""
        yield (
            f"From the autoencoder's reconstruction alone, lists keep {figures['sae.test_ndcg_kept']:.1%} of NDCG@10;"
            f" it explains {figures['sae.variance_explained']:.1%} of the variance of states."
        )


def _features(features: pl.DataFrame) -> Iterator[str]:
    clear = features.filter(features["description"].list.len() > 0)
    steerable = features.filter(features["steerable"])
    yield (
        f"{features.height} features: {clear.height} with a clear meaning, {steerable.height} whose effect is known to be what their"
        " label says. Those with the largest effects, at strength 1 of a control, which are shares of the top ten:"
    )
    yield ""
    effect = pl.col("share_after") - pl.col("share_before")
    best = steerable.sort(effect, descending=True, nulls_last=True).head(SHOWN_FEATURES).to_dicts()
    rows = [(str(row["feature"]), _plain(row["label"]), *_effect(row)) for row in best]
    yield from _table(("feature", "label", *EFFECT), rows)


def _concepts(concepts: pl.DataFrame) -> Iterator[str]:
    some = f"; the first {SHOWN_CONCEPTS}" if concepts.height > SHOWN_CONCEPTS else ""
    yield f"{concepts.height} concepts, each by an attribute value of items{some}:"
    yield ""
    shown = concepts.head(SHOWN_CONCEPTS).to_dicts()
    yield from _table(("concept", *EFFECT), [(_plain(row["name"]), *_effect(row)) for row in shown])


def _data(manifest: Manifest, tables: Mapping[str, pl.DataFrame], licence: str | None) -> Iterator[str]:
    told = manifest.provenance
    name, link = _licence(told.data, licence)
    yield f"- {_plain(told.data)}: {told.events:,} events of {told.users:,} users with {told.items:,} items"
    yield f"- SHA-256 of the cleaned events: `{told.data_sha256}`"
    yield f"- licence of the data: {_plain(name)}{f' (<{link}>)' if link else ''}"
    if "histories" in tables and (kept := tables["histories"].height):
        yield f"- `histories.parquet` keeps the last events of {kept} users, without names: they are events of real people"
    yield f"- seed {told.seed}; settings of the run are in `manifest.json`"


def _limits(manifest: Manifest) -> Iterator[str]:
    yield "- It knows the items and the tastes of its data, and nothing since; items without events are ranked by their attributes alone."
    yield "- Figures are of held-out events, not of people who were shown these lists. Popular items are favoured, as in the data."
    yield "- Labels are the attributes that go best with a feature's activations. A feature may mean less, or something else as well."
    yield "- Effects are means over validation users: one user's list may change more, or less."
    yield f"- Of a longer history the last {manifest.window.length} events count, or up to {manifest.window.stride - 1} fewer."
    yield "- The `.ts` files are TorchScript, which can run code: serve them only from whom you trust. The `.onnx` files cannot."


def _serving() -> Iterator[str]:
    yield "```sh"
    yield "pip install 'steersman[service,http,hub]'"
    yield "steersman serve --bundle FOLDER             # a copy of this folder"
    yield "steersman serve --bundle hf://OWNER/REPO    # straight from the hub"
    yield "```"


def _licence(data: str, told: str | None) -> tuple[str, str]:
    """Name, and a link or nothing."""
    if told:
        return told, ""
    return next((known for name, known in LICENCES.items() if data.lower().startswith(name)), (UNSTATED, ""))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        yield "(none)"
        return
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _effect(row: Mapping[str, Any]) -> tuple[str, str, str]:
    before, after, kept = (row[name] for name in ("share_before", "share_after", "ndcg_kept"))
    return tuple("" if share is None else f"{share:.0%}" for share in (before, after, kept))  # type: ignore[return-value]


def _number(figures: Mapping[str, float], name: str) -> str:
    return f"{figures[name]:.4f}" if name in figures else ""


def _plain(text: str) -> str:
    """Text from data: on one line, without what Markdown or HTML would read."""
    line = " ".join(text.split())
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in line if char.isprintable())
