"""Writes the graphs of a bundle as ONNX and TorchScript, and the golden rows that both must replay.

Dimensions: B batch, T time, P = T + 1 positions, D hidden, F features, E edits, C concepts, N items, K top-k.
"""

import copy
import io
import logging
import warnings
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from steersman_training.autoencoder.edit import Add, Edit
from steersman_training.bundle.graphs import (
    FixedConcepts,
    Lower,
    OnnxSearch,
    Search,
    SolvedConcepts,
    Upper,
)
from steersman_training.data.sequences import Batch
from steersman_training.recommender.kept import Append, Keep, Kept
from steersman_training.recommender.model import Recommender

OPSET = 20
TOLERANCE = 1e-4
"""Absolute and relative, for float32 on every backend."""
GOLDEN_ROWS = 8
GOLDEN_MARGIN = 1e-3
"""Distance of golden rows from ties between scores, and from the threshold of the autoencoder in units of the state's size."""
MOST_SCORES = 1 << 25
"""Computed to find golden rows: they and what the search makes of them take some 50 bytes each."""
GOLDEN_EVENTS = 32
"""Golden rows of `keep` and `append` hold keys and values of this many events at most: they are what makes the file large."""
TABLES = ("items_ND", "biases_N")

Array = npt.NDArray[np.float32]
Tensors = dict[str, Tensor]


class ExportError(RuntimeError):
    """A graph that was written does not give what the model gives."""


class GraphSpec(NamedTuple):
    """One graph: the module, and its tensors in order."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __call__(self, pool: Tensors) -> Tensors:
        """Feeds the graph from named tensors and names what it answers."""
        answer = self.module(*(pool[name] for name in self.inputs))
        return dict(zip(self.outputs, (answer,) if isinstance(answer, Tensor) else answer, strict=True))


@dataclass(frozen=True)
class Graphs:
    """All graphs of a bundle, in the order of a request, and the item table that they are fed."""

    specs: tuple[GraphSpec, ...]
    tables: Tensors

    @staticmethod
    def of(model: Recommender, edit: Edit, concepts: SolvedConcepts | FixedConcepts) -> "Graphs":
        """Copies everything to the CPU; the item table is an input of the graphs, not part of them."""
        tables = {
            "items_ND": model.items.weight.detach().cpu().float(),
            "biases_N": model.biases.detach().cpu().float(),
        }
        stripped = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        del stripped.items, stripped.biases
        below = model.config.hook_block < model.config.blocks
        context = ("context_BPD",) if below else ()
        return Graphs(
            (
                GraphSpec("lower", Lower(stripped), ("items_ND", "ids_BT", "lengths_B"), ("h_BD", *context)),
                GraphSpec("concept", copy.deepcopy(concepts).cpu(), concepts.INPUTS, _CONCEPT_EDITS),
                GraphSpec(
                    "edit",
                    copy.deepcopy(edit).cpu(),
                    ("h_BD", "features_BE", "gains_BE", "strengths_BE"),
                    ("edited_BD", "z_BF"),
                ),
                GraphSpec(
                    "upper", Upper(stripped), ("h_BD", *context, *(("lengths_B",) if below else ())), ("query_BD",)
                ),
                GraphSpec(
                    "search", Search(), ("query_BD", *TABLES, "eligible_BN", "tilts_BN", "k"), ("rows_BK", "scores_BK")
                ),
                GraphSpec("add", Add(edit).cpu(), ("h_BD", "features_BE", "strengths_BE"), ("added_BD",)),
                # Below the last block, what follows asks for the states of all positions: there is nothing to save.
                *(() if below else _keeping(stripped)),
            ),
            tables,
        )


def _keeping(model: Recommender) -> tuple[GraphSpec, GraphSpec]:
    """`keep` and `append`."""
    kept = [(name, block, dims) for block in range(model.config.blocks) for name, dims in _KEPT]
    names = tuple(f"{name}_{block}_{dims}" for name, block, dims in kept)
    append_inputs = ("items_ND", "new_ids_B", "kept_lengths_B", *names)
    return (
        GraphSpec("keep", Keep(model), ("items_ND", "ids_BT", "lengths_B"), ("h_BD", *names)),
        GraphSpec("append", Append(model), append_inputs, ("h_BD", "added_BLD")),
    )


_KEPT = [name.rsplit("_", 1) for name in Kept._fields]
_CONCEPT_EDITS = ("concept_features_BE", "concept_gains_BE", "concept_edits_BE")


def write_graphs(
    graphs: Graphs,
    golden: dict[str, Tensors],
    folder: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes every graph twice. `report` is called with the graphs that are done, and all.

    Raises ExportError if what was written does not replay the golden rows.
    """
    for done, spec in enumerate(graphs.specs, 1):
        example = {**graphs.tables, **golden[spec.name]}
        inputs = tuple(example[name] for name in spec.inputs)
        _write_onnx(spec, inputs, folder / f"{spec.name}.onnx")
        _write_torchscript(spec, inputs, folder / f"{spec.name}.ts")
        session = onnxruntime.InferenceSession(folder / f"{spec.name}.onnx", providers=["CPUExecutionProvider"])
        script = _load_torchscript(folder / f"{spec.name}.ts")
        for rows in (rows for rows in golden if rows.partition("/")[0] == spec.name):
            given = {**graphs.tables, **golden[rows]}
            wanted = [given[name] for name in spec.outputs]
            feeds = {node.name: given[node.name].numpy() for node in session.get_inputs()}
            got = [torch.from_numpy(np.asarray(got)) for got in session.run(spec.outputs, feeds)]
            _compare(f"{spec.name}.onnx", spec, got, wanted)
            answer = _run_torchscript(script, tuple(given[name] for name in spec.inputs))
            _compare(f"{spec.name}.ts", spec, [answer] if isinstance(answer, Tensor) else list(answer), wanted)
        report(done, len(graphs.specs))


def _write_onnx(spec: GraphSpec, inputs: tuple[Tensor, ...], path: Path) -> None:
    module = OnnxSearch() if isinstance(spec.module, Search) else spec.module
    shapes: tuple[Any, ...] = tuple(_dynamic(name) for name in spec.inputs)
    if isinstance(module, Append):  # what is kept comes as *kept
        fixed = len(shapes) - len(_KEPT) * module.model.config.blocks
        shapes = (*shapes[:fixed], shapes[fixed:])
    for chatty in (
        "torch.onnx",
        "onnxscript",
    ):  # they warn of every domain that is not installed, and of what they do not simplify
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), inputs, str(path), input_names=list(spec.inputs), output_names=list(spec.outputs), dynamic_shapes=shapes,
            opset_version=OPSET, dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip


def _write_torchscript(spec: GraphSpec, inputs: tuple[Tensor, ...], path: Path) -> None:
    """TorchScript, deprecated upstream, is known here, in `_load_torchscript` and in `_run_torchscript` alone.

    A traced `int(k)` would be a constant, so search is scripted.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = spec.module.eval()
        script = (
            torch.jit.script(module)
            if isinstance(module, Search)
            else torch.jit.trace(module, inputs, check_trace=False)
        )
        content = io.BytesIO()  # a file of torch does not say why writing failed
        torch.jit.save(script, content)
        path.write_bytes(content.getbuffer())


def _load_torchscript(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load: Any = torch.jit.load
        return load(path)


def _run_torchscript(script: Any, inputs: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    # Shapes differ between sets of golden rows: to compile the graph for each takes longer than to run it.
    with torch.no_grad(), cast(Any, torch.jit).optimized_execution(False):
        answer: Tensor | tuple[Tensor, ...] = script(*inputs)
    return answer


def _dynamic(name: str) -> dict[int, Any]:
    """Which dimensions of a tensor vary, by the letters that its name ends in. D and F are the model's own."""
    letters = name.rpartition("_")[2] if "_" in name else ""
    return {axis: torch.export.Dim.DYNAMIC for axis, letter in enumerate(letters) if letter in "BTPECNK"}


def _compare(file: str, spec: GraphSpec, got: list[Tensor], wanted: list[Tensor]) -> None:
    for name, one, other in zip(spec.outputs, got, wanted, strict=True):
        same = (
            torch.equal(one, other)
            if one.dtype == torch.int64
            else torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)
        )
        if one.shape != other.shape or not same:
            raise ExportError(f"{file}: {name} does not replay the golden rows")


@torch.no_grad()
def golden_rows(graphs: Graphs, batch: Batch, concept_count: int, seed: int = 0) -> dict[str, Tensors]:
    """Inputs and outputs of every graph on some of the histories of `batch`, away from ties and thresholds. graph -> tensor -> value.

    Raises ExportError if too few histories are far enough from both.
    """
    # Of many items, fewer histories: every one of them scores all items.
    most = max(GOLDEN_ROWS, MOST_SCORES // len(graphs.tables["items_ND"]))
    batch = Batch(batch.ids_BT[:most], batch.lengths_B[:most])
    pool = {**graphs.tables, **_inputs(graphs, batch, concept_count, np.random.default_rng(seed))}
    _run(graphs, pool, ("lower", "edit", "upper", "search"))
    chosen = _far_from_edges(graphs, pool)[:GOLDEN_ROWS]
    if len(chosen) < 2:
        raise ExportError(
            f"golden rows: fewer than two of {len(batch.lengths_B)} histories lie away from ties; try another --seed"
        )
    pool = _of_histories({name: value for name, value in pool.items() if name in _GIVEN}, chosen)
    return _run(graphs, pool)


@torch.no_grad()
def sample_queries(graphs: Graphs, batch: Batch, seed: int = 0) -> dict[str, Array]:
    """Queries of some histories, without controls and with edits of a few random features each, by kind. (B, D)"""
    rng = np.random.default_rng(seed)
    lower, edit, upper = (
        next(spec for spec in graphs.specs if spec.name == name) for name in ("lower", "edit", "upper")
    )
    pool = {**graphs.tables, **_histories(batch), **_edits(graphs, len(batch.lengths_B), rng)}
    pool |= lower(pool)
    edited = {**pool, "h_BD": edit(pool)["edited_BD"]}
    return {kind: upper(given)["query_BD"].numpy() for kind, given in (("plain", pool), ("steered", edited))}


_GIVEN = {
    *TABLES, "ids_BT", "lengths_B", "concepts_BC", "concept_strengths_BC", "features_BE", "gains_BE", "strengths_BE", "eligible_BN",
    "tilts_BN", "k",
}  # fmt: skip


def _inputs(graphs: Graphs, batch: Batch, concept_count: int, rng: np.random.Generator) -> Tensors:
    rows, items = len(batch.lengths_B), len(graphs.tables["items_ND"])
    k = max(1, min(10, items // 2))
    eligible_BN = torch.from_numpy(rng.random((rows, items)) < 0.8)
    eligible_BN[eligible_BN.sum(1) <= k] = (
        True  # one more than is asked for: none of the answer is a tie at minus infinity
    )
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


def _edits(graphs: Graphs, rows: int, rng: np.random.Generator) -> Tensors:
    """Four for each row, of features that are not dead."""
    features = next(spec.module.scale_F for spec in graphs.specs if isinstance(spec.module, Edit))
    alive = features.nonzero().flatten()
    return {
        "features_BE": alive[torch.from_numpy(rng.integers(len(alive), size=(rows, 4)))],
        "gains_BE": torch.from_numpy(rng.choice([1.0, 1.0, 0.0, 2.0], (rows, 4)).astype(np.float32)),
        "strengths_BE": torch.from_numpy(rng.uniform(-1, 1, (rows, 4)).astype(np.float32)),
    }


def _run(graphs: Graphs, pool: Tensors, names: Container[str] | None = None) -> dict[str, Tensors]:
    """Runs the graphs one after the other, as a request does (those of `names`; None: all); adds what they answer to the pool."""
    golden: dict[str, Tensors] = {}
    for spec in graphs.specs:
        if names is not None and spec.name not in names:
            continue
        if isinstance(spec.module, SolvedConcepts):
            best = _candidates(graphs, pool, spec.module.candidates)
            pool |= {"candidates_BK": best["rows_BK"], "candidate_scores_BK": best["scores_BK"]}
        if spec.name == "upper":
            given = {**pool, "h_BD": pool["edited_BD"]}
        elif spec.name in ("keep", "append"):
            given = pool | _golden_history(graphs, pool)
        else:
            given = pool
        answers = spec(given)
        golden[spec.name] = {name: given[name] for name in spec.inputs if name not in TABLES} | answers
        pool |= answers
    return golden


def _golden_history(graphs: Graphs, pool: Tensors) -> Tensors:
    """The begin of each history; and what is kept of it before its last event, and that. To an empty one any item is appended."""
    begin = {"ids_BT": pool["ids_BT"][:, :GOLDEN_EVENTS], "lengths_B": pool["lengths_B"].clamp_max(GOLDEN_EVENTS)}
    before_B = (begin["lengths_B"] - 1).clamp_min(0)
    kept = _spec(graphs, "keep")(pool | begin | {"lengths_B": before_B})
    new_ids_B = begin["ids_BT"].gather(1, before_B.unsqueeze(1)).squeeze(1)
    return {**kept, **begin, "new_ids_B": new_ids_B, "kept_lengths_B": before_B}


def _candidates(graphs: Graphs, pool: Tensors, count: int) -> Tensors:
    """The best items without any control, and their scores."""
    upper, search = _spec(graphs, "upper"), _spec(graphs, "search")
    plain = {**pool, **upper(pool), "tilts_BN": torch.zeros_like(pool["tilts_BN"])}
    return search(plain | {"k": torch.tensor(min(count, pool["eligible_BN"].shape[1]))})


def _spec(graphs: Graphs, name: str) -> GraphSpec:
    return next(spec for spec in graphs.specs if spec.name == name)


def _far_from_edges(graphs: Graphs, pool: Tensors) -> Tensor:
    """Some rows whose best k + 1 scores are apart, and none of whose features is about to be switched on or off. (rows)"""
    sae = next(spec.module.sae for spec in graphs.specs if isinstance(spec.module, Edit))
    more = {**pool, "k": (pool["k"] + 1).clamp_max(pool["eligible_BN"].shape[1])}
    clear_B = sae.margin(pool["h_BD"]) > GOLDEN_MARGIN * pool["h_BD"].square().mean(1).sqrt()
    far_B = clear_B & apart(_spec(graphs, "search")(more)["scores_BK"])
    return far_B.nonzero().flatten()


def apart(scores_BK: Tensor) -> Tensor:
    """Whether the scores of each row are further from each other than rounding could bring them. (B)"""
    return (scores_BK[:, :-1] - scores_BK[:, 1:]).min(1).values > GOLDEN_MARGIN


def _of_histories(pool: Tensors, rows: Tensor) -> Tensors:
    """The same of some histories."""
    return {name: value if name in TABLES or name == "k" else value[rows].clone() for name, value in pool.items()}
