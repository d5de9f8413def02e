"""More golden rows (proto/README.md): together they read every weight of every graph. States, candidates and tilts are made up for that.

Dimensions: B batch, T time, D hidden, F features, E edits of a row, X concepts in all, C concepts of a row, N items, K candidates.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from steersman_training.autoencoder.edit import Edit
from steersman_training.bundle.export import GOLDEN_MARGIN, TABLES, TOLERANCE, Graphs, GraphSpec, Tensors, apart
from steersman_training.bundle.graphs import FixedConcepts, SolvedConcepts

FEATURES_A_ROW = 16
STRONG = 4.0
"""Change of the state by each edited feature, in units of a usual scale of features."""
LENGTHS = (1.0, 1.3, 0.8, 1.7)
"""Of states that are tried for the same features, until one lies away from the threshold."""
MOST_ALONE = 512
"""Features that no row of several makes active are tried one by one: so many at most."""
CONCEPTS_A_ROW = 4
SOLVED_A_SET = 128
"""Solutions of concepts in one set, which is replayed at once."""
MOST_SOLVED = 256
"""In all sets of a graph, some milliseconds each, unless there are more concepts. Of a large catalogue, items are left out, evenly."""
ITEM_GAP = 2e-3
"""Between the scores of the items when all of them are found."""
MOST_ITEMS = 1 << 20
"""Items up to which all of them are found: 16 bytes each."""
SIGNS = 8.0
"""Size of each number of the query then. A 20th of a usual number of an item is far above the gap."""
ROUNDING = 1e-6
"""Relative. Rows whose outputs such noise in the inputs changes by half the tolerance are no golden rows: backends may differ as much."""


@torch.no_grad()
def golden_sets(graphs: Graphs, golden: dict[str, Tensors]) -> dict[str, Tensors]:
    """Sets by name ("edit/features") -> tensor -> value, given the golden rows of each graph, whose histories and states they use."""
    specs = {spec.name: spec for spec in graphs.specs}
    feeds = [*_features(specs, golden), *_concepts(graphs, specs, golden), *_long(graphs, specs), *_items(graphs)]
    sets: dict[str, Tensors] = {}
    for name, given in feeds:
        spec = specs[name.partition("/")[0]]
        steady = _steady(spec, graphs.tables, given)
        if steady is not None:
            sets[name] = {key: steady[key] for key in spec.inputs if key not in TABLES} | spec(graphs.tables | steady)
    return sets


Feeds = Iterator[tuple[str, Tensors]]


def _features(specs: dict[str, GraphSpec], golden: dict[str, Tensors]) -> Feeds:
    """Every feature is edited, and active somewhere."""
    edit = specs["edit"].module
    assert isinstance(edit, Edit)
    plain_BD = golden["edit"]["h_BD"]
    rows, active_F = [], torch.zeros(len(edit.scale_F), dtype=torch.bool)
    width = min(FEATURES_A_ROW, edit.sae.active)
    for group_E in torch.arange(len(edit.scale_F)).split(width):
        h_D = _active_state(edit, group_E)
        rows.append(_edited(edit, plain_BD[0] if h_D is None else h_D, group_E, width))
        if h_D is not None:
            active_F |= edit.sae.encode(h_D[None])[0] > 0
    for feature_1 in (~active_F).nonzero()[:MOST_ALONE]:
        if not active_F[feature_1] and (h_D := _active_state(edit, feature_1)) is not None:
            rows.append(_edited(edit, h_D, feature_1, width))
            active_F |= edit.sae.encode(h_D[None])[0] > 0
    given = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    yield "edit/features", given
    yield "add/features", given


def _active_state(edit: Edit, group_E: Tensor) -> Tensor | None:
    """A state at which the features are active, as far as they can be, and none is about to be switched. (D)"""
    sae, usual = edit.sae, _usual(edit)
    directions_ED = F.normalize(sae.encoder_FD[group_E], dim=1) / sae.encoder_FD[group_E].norm(dim=1, keepdim=True)
    wanted_E = STRONG * usual - sae.encoder_bias_F[group_E].clamp_max(0) + sae.threshold_F[group_E]
    direction_D = (directions_ED.nan_to_num(0.0, 0.0, 0.0) * wanted_E.unsqueeze(1)).sum(0)
    tried_BD = sae.decoder_bias_D + direction_D * torch.tensor(LENGTHS).unsqueeze(1)
    margin_B = sae.margin(tried_BD)
    best = int(margin_B.argmax())
    return tried_BD[best] if margin_B[best] > GOLDEN_MARGIN * (1 + tried_BD[best].square().mean().sqrt()) else None


def _usual(edit: Edit) -> float:
    alive = edit.scale_F[edit.scale_F > 0]
    return float(alive.median()) if len(alive) else 1.0


def _edited(edit: Edit, h_D: Tensor, group_E: Tensor, width: int) -> Tensors:
    """Doubled, and raised by as much of the state whatever their scale."""
    strengths_E = STRONG * _usual(edit) / edit.scale_F[group_E]
    padding = (0, width - len(group_E))
    return {
        "h_BD": h_D,
        "features_BE": F.pad(group_E, padding),
        "gains_BE": F.pad(torch.full((len(group_E),), 2.0), padding, value=1.0),
        "strengths_BE": F.pad(strengths_E.nan_to_num(0.0, 0.0, 0.0), padding),
    }


def _concepts(graphs: Graphs, specs: dict[str, GraphSpec], golden: dict[str, Tensors]) -> Feeds:
    """Every concept, on every item."""
    concepts = specs["concept"].module
    assert isinstance(concepts, SolvedConcepts | FixedConcepts)
    count, items = len(concepts.features_XM), len(graphs.tables["items_ND"])
    rows_BC = [torch.arange(start, start + CONCEPTS_A_ROW) % count for start in range(0, count, CONCEPTS_A_ROW)]
    if isinstance(concepts, FixedConcepts):
        yield "concept/concepts", _of_concepts(torch.stack(rows_BC))
        return
    candidates = golden["concept"]["candidates_BK"].shape[1]
    # The last candidate may count for nothing, so it is another item in each.
    parts = [torch.arange(start, start + candidates) % items for start in range(0, items, max(1, candidates - 1))]
    most = max(1, MOST_SOLVED // (len(rows_BC) * CONCEPTS_A_ROW))
    parts = parts[:: -(-len(parts) // most)]
    pairs = [(concepts_C, rows_K) for concepts_C in rows_BC for rows_K in parts]
    scores_K = torch.linspace(2.0, 1.5, candidates).index_fill(0, torch.tensor([candidates - 1]), 0.0)
    in_a_set = SOLVED_A_SET // CONCEPTS_A_ROW
    for place in range(0, len(pairs), in_a_set):
        concepts_BC, rows_BK = (torch.stack(part) for part in zip(*pairs[place : place + in_a_set], strict=True))
        given = _of_concepts(concepts_BC)
        yield (
            f"concept/concepts-{place // in_a_set}",
            given | {"candidates_BK": rows_BK, "candidate_scores_BK": scores_K.repeat(len(rows_BK), 1)},
        )


def _of_concepts(concepts_BC: Tensor) -> Tensors:
    return {"concepts_BC": concepts_BC, "concept_strengths_BC": torch.ones(concepts_BC.shape)}


def _long(graphs: Graphs, specs: dict[str, GraphSpec]) -> Feeds:
    """A history as long as the window, of any items."""
    model, items = specs["lower"].module.model, len(graphs.tables["items_ND"])
    length = int(model.config.window_length)  # type: ignore[union-attr,arg-type]
    ids_BT = torch.randint(items, (1, length), generator=torch.Generator().manual_seed(0))
    history = {"ids_BT": ids_BT, "lengths_B": torch.tensor([length])}
    yield "lower/long", history
    if "keep" in specs:
        yield "keep/long", history
        before = history | {"lengths_B": torch.tensor([length - 1])}
        kept = specs["keep"](graphs.tables | before)
        yield "append/long", kept | {"new_ids_B": ids_BT[:, -1], "kept_lengths_B": before["lengths_B"]}


def _items(graphs: Graphs) -> Feeds:
    """All of them are found, the last row first."""
    items_ND, biases_N = graphs.tables["items_ND"], graphs.tables["biases_N"]
    if len(items_ND) > MOST_ITEMS:
        return
    signs_D = torch.randint(2, (items_ND.shape[1],), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    query_BD = SIGNS * signs_D.unsqueeze(0)
    tilts_BN = torch.arange(len(items_ND)) * ITEM_GAP - F.linear(query_BD, items_ND, biases_N)
    yield (
        "search/items",
        {
            "query_BD": query_BD,
            "eligible_BN": torch.ones(1, 1, dtype=torch.bool),
            "tilts_BN": tilts_BN,
            "k": torch.tensor(len(items_ND)),
        },
    )


def _steady(spec: GraphSpec, tables: Tensors, given: Tensors) -> Tensors | None:
    """Those rows whose outputs do not hang on rounding; None if there are none."""
    rows = next(len(value) for name, value in given.items() if name in spec.inputs and _by_row(name))
    if rows == 1:  # made so that they are
        return given
    generator = torch.Generator().manual_seed(0)
    outputs = spec(tables | given)
    steady_B = apart(outputs["scores_BK"]) if "scores_BK" in outputs else torch.ones(rows, dtype=torch.bool)
    for _ in range(2):
        noisy = {name: _with_noise(value, generator) for name, value in (tables | given).items()}
        for name, value in spec(noisy).items():
            allowed = TOLERANCE / 2 * (1 + outputs[name].abs()) if value.is_floating_point() else 0
            same = ((value - outputs[name]).abs() <= allowed) | (value == outputs[name])
            steady_B &= same.flatten(1).all(1)
    chosen = steady_B.nonzero().flatten()
    return (
        {name: value[chosen] if _by_row(name) and len(value) == rows else value for name, value in given.items()}
        if len(chosen)
        else None
    )


def _by_row(name: str) -> bool:
    return name.rpartition("_")[2].startswith("B")


def _with_noise(value: Tensor, generator: torch.Generator) -> Tensor:
    if not value.is_floating_point():
        return value
    return value * (1 + ROUNDING * torch.randn(value.shape, generator=generator))
