"""Golden rows (proto/README.md): inputs and outputs of every graph; with further sets of made-up inputs they read every weight.

Dimensions: B batch, T time, D hidden, F features, E edits of a row, X concepts in all, C concepts of a row, N items, K candidates.
"""

from collections.abc import Container, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman_training.autoencoder.edit import Edit
from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.bundle.export import TABLES, TOLERANCE, Array, ExportedGraphs, ExportError, GraphSpec, Tensors
from steersman_training.bundle.graphs import FixedConcepts, SolvedConcepts
from steersman_training.data.sequences import Batch

GOLDEN_ROWS = 8
GOLDEN_MARGIN = 1e-3  # from ties between scores, and from the autoencoder's threshold in units of the state's size
GOLDEN_EVENTS = 32  # at most, in golden rows of `keep` and `append`: their keys and values make the file large
MOST_SCORES = 1 << 25  # computed to find golden rows: each takes some 50 bytes
FEATURES_A_ROW = 16
STRONG = 4.0  # change of the state by each edited feature, in units of what features usually change
LENGTHS = (1.0, 1.3, 0.8, 1.7)  # of states tried for the same features, until one is away from the threshold
MOST_ALONE = 512  # features tried one by one, if no row of several makes them active
CONCEPTS_A_ROW = 4
SOLVED_A_SET = 128  # solutions of concepts in one set, which is replayed at once
MOST_SOLVED = 256  # in all sets, unless there are more concepts; a large catalogue is sampled evenly
ITEM_GAP = 2e-3  # between the scores of the items when all of them are searched
MOST_ITEMS = 1 << 20  # up to which all of them are searched: 16 bytes each
SIGNS = 8.0  # size of each number of the query then; a 20th of a usual number of an item is far above the gap
ROUNDING = 1e-6  # relative noise in inputs that may change outputs by half the tolerance, no more

NamedInputs = Iterator[tuple[str, Tensors]]


@torch.no_grad()
def golden_rows(graphs: ExportedGraphs, batch: Batch, concept_count: int, seed: int = 0) -> dict[str, Tensors]:
    """Inputs and outputs of every graph on some of the histories of `batch`, away from ties and thresholds. graph -> tensor -> value.

    Raises ExportError if too few histories are.
    """
    most = max(GOLDEN_ROWS, MOST_SCORES // len(graphs.tables["items_ND"]))  # each history scores all items
    batch = Batch(batch.ids_BT[:most], batch.lengths_B[:most])
    given = {**graphs.tables, **_inputs(graphs, batch, concept_count, np.random.default_rng(seed))}
    pool = dict(given)
    _run(graphs, pool, ("lower", "edit", "upper", "search"))
    more = {**pool, "k": (pool["k"] + 1).clamp_max(pool["eligible_BN"].shape[1])}
    clear_B = _edit(graphs).sae.margin(pool["h_BD"]) > GOLDEN_MARGIN * pool["h_BD"].square().mean(1).sqrt()
    chosen = (clear_B & _apart(graphs["search"](more)["scores_BK"])).nonzero().flatten()[:GOLDEN_ROWS]
    if len(chosen) < 2:
        raise ExportError(
            f"golden rows: of {len(batch.lengths_B)} histories fewer than two lie away from ties; try another --seed"
        )
    whole = (*TABLES, "k")
    return _run(graphs, {name: value if name in whole else value[chosen].clone() for name, value in given.items()})


@torch.no_grad()
def sample_queries(graphs: ExportedGraphs, batch: Batch, seed: int = 0) -> dict[str, Array]:
    """Queries of some histories, without controls and with edits of a few random features each, by kind. (B, D)"""
    edits = _edits(graphs, len(batch.lengths_B), np.random.default_rng(seed))
    pool = {**graphs.tables, **_histories(batch), **edits}
    pool |= graphs["lower"](pool)
    edited = {**pool, "h_BD": graphs["edit"](pool)["edited_BD"]}
    upper = graphs["upper"]
    return {kind: upper(given)["query_BD"].numpy() for kind, given in (("plain", pool), ("steered", edited))}


def _edit(graphs: ExportedGraphs) -> Edit:
    edit = graphs["edit"].module
    assert isinstance(edit, Edit)
    return edit


def _inputs(graphs: ExportedGraphs, batch: Batch, concept_count: int, rng: np.random.Generator) -> Tensors:
    rows, items = len(batch.lengths_B), len(graphs.tables["items_ND"])
    k = max(1, min(10, items // 2))
    eligible_BN = torch.from_numpy(rng.random((rows, items)) < 0.8)
    eligible_BN[eligible_BN.sum(1) <= k] = True  # at least k + 1: no row ends with ties at minus infinity
    return {
        **_histories(batch),
        "concepts_BC": torch.from_numpy(rng.integers(max(1, concept_count), size=(rows, 2))),
        "concept_strengths_BC": torch.from_numpy(rng.uniform(-1, 1, (rows, 2)).astype(np.float32)),
        **_edits(graphs, rows, rng),
        "eligible_BN": eligible_BN,
        "tilts_BN": torch.from_numpy(rng.choice([0.0, 0.5], (rows, items)).astype(np.float32)),
        "k": torch.tensor(k),
    }


def _histories(batch: Batch) -> Tensors:
    return {"ids_BT": torch.from_numpy(batch.ids_BT), "lengths_B": torch.from_numpy(batch.lengths_B)}


def _edits(graphs: ExportedGraphs, rows: int, rng: np.random.Generator) -> Tensors:
    """Four for each row, of features that are not dead."""
    alive = _edit(graphs).scale_F.nonzero().flatten()
    return {
        "features_BE": alive[torch.from_numpy(rng.integers(len(alive), size=(rows, 4)))],
        "gains_BE": torch.from_numpy(rng.choice([1.0, 1.0, 0.0, 2.0], (rows, 4)).astype(np.float32)),
        "strengths_BE": torch.from_numpy(rng.uniform(-1, 1, (rows, 4)).astype(np.float32)),
    }


def _run(graphs: ExportedGraphs, pool: Tensors, names: Container[str] | None = None) -> dict[str, Tensors]:
    """Runs the graphs in the order of a request (those of `names`; None: all); adds their outputs to the pool."""
    golden: dict[str, Tensors] = {}
    for spec in graphs.specs:
        if names is not None and spec.name not in names:
            continue
        if isinstance(spec.module, SolvedConcepts):  # the best items without any control are its candidates
            plain = {**pool, **graphs["upper"](pool), "tilts_BN": torch.zeros_like(pool["tilts_BN"])}
            count = min(spec.module.candidates, pool["eligible_BN"].shape[1])
            best = graphs["search"](plain | {"k": torch.tensor(count)})
            pool |= {"candidates_BK": best["rows_BK"], "candidate_scores_BK": best["scores_BK"]}
        given = pool
        if spec.name == "upper":
            given = {**pool, "h_BD": pool["edited_BD"]}
        elif spec.name in ("keep", "append"):
            given = pool | _first_events(graphs, pool)
        answers = spec(given)
        golden[spec.name] = {name: given[name] for name in spec.inputs if name not in TABLES} | answers
        pool |= answers
    return golden


def _first_events(graphs: ExportedGraphs, pool: Tensors) -> Tensors:
    """The first events of each history, and the kept tensors before the last of them. An empty history is appended any item."""
    begin = {"ids_BT": pool["ids_BT"][:, :GOLDEN_EVENTS], "lengths_B": pool["lengths_B"].clamp_max(GOLDEN_EVENTS)}
    before_B = (begin["lengths_B"] - 1).clamp_min(0)
    kept = graphs["keep"](pool | begin | {"lengths_B": before_B})
    new_ids_B = begin["ids_BT"].gather(1, before_B.unsqueeze(1)).squeeze(1)
    return {**kept, **begin, "new_ids_B": new_ids_B, "kept_lengths_B": before_B}


def _apart(scores_BK: Tensor) -> Tensor:
    """Whether the scores of each row differ by more than rounding can. (B)"""
    return (scores_BK[:, :-1] - scores_BK[:, 1:]).min(1).values > GOLDEN_MARGIN


@torch.no_grad()
def golden_sets(graphs: ExportedGraphs, golden: dict[str, Tensors]) -> dict[str, Tensors]:
    """Further sets by name ("edit/features") -> tensor -> value, given the golden rows of each graph, whose states they use."""
    sets: dict[str, Tensors] = {}
    for name, given in (*_features(graphs, golden), *_concepts(graphs, golden), *_lengths(graphs), *_items(graphs)):
        spec = graphs[name.partition("/")[0]]
        steady = _steady(spec, graphs.tables, given)
        if steady is not None:
            sets[name] = {key: steady[key] for key in spec.inputs if key not in TABLES} | spec(graphs.tables | steady)
    return sets


def _features(graphs: ExportedGraphs, golden: dict[str, Tensors]) -> NamedInputs:
    """Every feature is edited, and active in some row."""
    edit, plain_D = _edit(graphs), golden["edit"]["h_BD"][0]
    rows, active_F = [], torch.zeros(len(edit.scale_F), dtype=torch.bool)
    width = min(FEATURES_A_ROW, edit.sae.active)
    for group_E in torch.arange(len(edit.scale_F)).split(width):
        h_D = _active_state(edit, group_E)
        rows.append(_edited(edit, plain_D if h_D is None else h_D, group_E, width))
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
    """A state in which the features are active, as far as they can be, and none is near its threshold. (D)"""
    sae = edit.sae
    directions_ED = _towards(sae, group_E)
    wanted_E = _sizes(edit)[group_E] - sae.encoder_bias_F[group_E].clamp_max(0)
    wanted_E += F.pad(sae.threshold_F, (0, len(sae.encoder_bias_F) - sae.discovered))[group_E]
    direction_D = (directions_ED * wanted_E.unsqueeze(1)).sum(0)
    tried_BD = sae.decoder_bias_D + direction_D * torch.tensor(LENGTHS).unsqueeze(1)
    margin_B = sae.margin(tried_BD)
    best = int(margin_B.argmax())
    return tried_BD[best] if margin_B[best] > GOLDEN_MARGIN * (1 + tried_BD[best].square().mean().sqrt()) else None


def _towards(sae: SparseAutoencoder, group_E: Tensor) -> Tensor:
    """Changes of a state that raise each pre-activation by 1, (E, D): of discovered features along decoders, where others rise less."""
    encoders_ED, decoders_ED = sae.encoder_FD[group_E], sae.decoder_FD[group_E]
    along_E1 = (encoders_ED * decoders_ED).sum(1, keepdim=True)
    alone_E1 = (group_E >= sae.discovered).unsqueeze(1) | (along_E1 <= 0)  # anchored ones compete with no other
    along_ED = torch.where(alone_E1, encoders_ED, decoders_ED)
    return (along_ED / (encoders_ED * along_ED).sum(1, keepdim=True)).nan_to_num(0.0, 0.0, 0.0)


def _sizes(edit: Edit) -> Tensor:
    """Activations by which all features change a state as far: decoders of anchored ones are longer than those of discovered ones. (F)"""
    lengths_F = edit.sae.decoder_FD.norm(dim=1)
    changes_F = edit.scale_F * lengths_F
    alive_A = changes_F[changes_F > 0]
    usual = float(alive_A.median()) if len(alive_A) else 1.0
    return STRONG * usual / torch.where(lengths_F > 0, lengths_F, 1.0)


def _edited(edit: Edit, h_D: Tensor, group_E: Tensor, width: int) -> Tensors:
    """Doubles the features, and raises each by the same change of the state."""
    strengths_E = (_sizes(edit) / edit.scale_F)[group_E]
    padding = (0, width - len(group_E))
    return {
        "h_BD": h_D,
        "features_BE": F.pad(group_E, padding),
        "gains_BE": F.pad(torch.full((len(group_E),), 2.0), padding, value=1.0),
        "strengths_BE": F.pad(strengths_E.nan_to_num(0.0, 0.0, 0.0), padding),
    }


def _concepts(graphs: ExportedGraphs, golden: dict[str, Tensors]) -> NamedInputs:
    """Every concept, solved on every item."""
    concepts = graphs["concept"].module
    assert isinstance(concepts, SolvedConcepts | FixedConcepts)
    count, items = len(concepts.features_X), len(graphs.tables["items_ND"])
    rows_BC = [torch.arange(start, start + CONCEPTS_A_ROW) % count for start in range(0, count, CONCEPTS_A_ROW)]
    if isinstance(concepts, FixedConcepts):
        yield "concept/concepts", _of_concepts(torch.stack(rows_BC))
        return
    candidates = golden["concept"]["candidates_BK"].shape[1]
    # The last candidate may count for nothing, so it is another item in each part.
    parts = [torch.arange(start, start + candidates) % items for start in range(0, items, max(1, candidates - 1))]
    most = max(1, MOST_SOLVED // (len(rows_BC) * CONCEPTS_A_ROW))
    parts = parts[:: -(-len(parts) // most)]
    pairs = [(concepts_C, rows_K) for concepts_C in rows_BC for rows_K in parts]
    scores_K = torch.linspace(2.0, 1.5, candidates).index_fill(0, torch.tensor([candidates - 1]), 0.0)
    in_a_set = SOLVED_A_SET // CONCEPTS_A_ROW
    for place in range(0, len(pairs), in_a_set):
        concepts_BC, rows_BK = (torch.stack(part) for part in zip(*pairs[place : place + in_a_set], strict=True))
        solved_on = {"candidates_BK": rows_BK, "candidate_scores_BK": scores_K.repeat(len(rows_BK), 1)}
        yield f"concept/concepts-{place // in_a_set}", _of_concepts(concepts_BC) | solved_on


def _of_concepts(concepts_BC: Tensor) -> Tensors:
    return {"concepts_BC": concepts_BC, "concept_strengths_BC": torch.ones(concepts_BC.shape)}


def _lengths(graphs: ExportedGraphs) -> NamedInputs:
    """A history as long as the window, of random items, and its first event alone."""
    longest = int(graphs["lower"].module.model.config.window_length)  # type: ignore[union-attr,arg-type]
    ids_BT = torch.randint(len(graphs.tables["items_ND"]), (1, longest), generator=torch.Generator().manual_seed(0))
    for name, length in (("long", longest), ("short", 1)):
        history = {"ids_BT": ids_BT[:, :length], "lengths_B": torch.tensor([length])}
        yield f"lower/{name}", history
        if "keep" in graphs:
            yield f"keep/{name}", history
            before = history | {"lengths_B": torch.tensor([length - 1])}
            kept = graphs["keep"](graphs.tables | before)
            yield f"append/{name}", kept | {"new_ids_B": ids_BT[:, length - 1], "kept_lengths_B": before["lengths_B"]}


def _items(graphs: ExportedGraphs) -> NamedInputs:
    """All items are found, the last row first."""
    items_ND, biases_N = graphs.tables["items_ND"], graphs.tables["biases_N"]
    if len(items_ND) > MOST_ITEMS:
        return
    signs_D = torch.randint(2, (items_ND.shape[1],), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    query_BD = SIGNS * signs_D.unsqueeze(0)
    tilts_BN = torch.arange(len(items_ND)) * ITEM_GAP - F.linear(query_BD, items_ND, biases_N)
    everything = {"eligible_BN": torch.ones(1, 1, dtype=torch.bool), "k": torch.tensor(len(items_ND))}
    yield "search/items", {"query_BD": query_BD, "tilts_BN": tilts_BN, **everything}


def _steady(spec: GraphSpec, tables: Tensors, given: Tensors) -> Tensors | None:
    """The rows whose outputs do not depend on rounding; None if there are none."""
    rows = next(len(value) for name, value in given.items() if name in spec.inputs and _by_row(name))
    if rows == 1:  # made so that it does not
        return given
    generator = torch.Generator().manual_seed(0)
    outputs = spec(tables | given)
    steady_B = _apart(outputs["scores_BK"]) if "scores_BK" in outputs else torch.ones(rows, dtype=torch.bool)
    for _ in range(2):
        noisy = {
            name: value * (1 + ROUNDING * torch.randn(value.shape, generator=generator))
            if value.is_floating_point()
            else value
            for name, value in (tables | given).items()
        }
        for name, value in spec(noisy).items():
            allowed = TOLERANCE / 2 * (1 + outputs[name].abs()) if value.is_floating_point() else 0
            same = ((value - outputs[name]).abs() <= allowed) | (value == outputs[name])
            steady_B &= same.flatten(1).all(1)
    kept = steady_B.nonzero().flatten()
    some = {name: value[kept] if _by_row(name) and len(value) == rows else value for name, value in given.items()}
    return some if len(kept) else None


def _by_row(name: str) -> bool:
    return name.rpartition("_")[2].startswith("B")
