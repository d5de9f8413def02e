"""The graphs of a bundle, written as ONNX and TorchScript, both checked on golden rows.

Dimensions: B batch, T time, P = T + 1 positions, D hidden, F features, E edits, C concepts, N items, K top-k.
"""

import copy
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from steersman_training.autoencoder.edit import Add, Edit
from steersman_training.bundle.graphs import (
    ConceptEdits,
    FixedConcepts,
    Lower,
    OnnxSearch,
    Search,
    SolvedConcepts,
    Upper,
)
from steersman_training.recommender.kept import Append, Keep, Kept
from steersman_training.recommender.model import Recommender

OPSET = 20
TOLERANCE = 1e-4  # absolute and relative, for float32 on every backend
TABLES = ("items_ND", "biases_N")

Array = npt.NDArray[np.float32]
Tensors = dict[str, Tensor]


class ExportError(ValueError):
    """A written graph does not give the model's outputs, or no golden rows are found."""


class GraphSpec(NamedTuple):
    """One graph: the module, and its tensors in order."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __call__(self, pool: Tensors) -> Tensors:
        """Runs the module on named tensors. Its outputs by name."""
        answer = self.module(*(pool[name] for name in self.inputs))
        return dict(zip(self.outputs, (answer,) if isinstance(answer, Tensor) else answer, strict=True))


@dataclass(frozen=True)
class ExportedGraphs:
    """All graphs of a bundle, in the order of a request, and the item table that they are fed."""

    specs: tuple[GraphSpec, ...]
    tables: Tensors

    def __getitem__(self, name: str) -> GraphSpec:
        return next(spec for spec in self.specs if spec.name == name)

    def __contains__(self, name: str) -> bool:
        return any(spec.name == name for spec in self.specs)

    @staticmethod
    def of(model: Recommender, edit: Edit, concepts: SolvedConcepts | FixedConcepts) -> "ExportedGraphs":
        """Copies everything to the CPU; the item table is an input of the graphs, not part of them."""
        weights = (model.items.weight, model.biases)
        tables = dict(zip(TABLES, (table.detach().cpu().float() for table in weights), strict=True))
        stripped = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        del stripped.items, stripped.biases
        edit, concepts = copy.deepcopy(edit).cpu(), copy.deepcopy(concepts).cpu()
        below = model.config.hook_block < model.config.blocks
        context = ("context_BPD",) if below else ()
        history, edits = ("items_ND", "ids_BT", "lengths_B"), ("h_BD", "features_BE", "gains_BE", "strengths_BE")
        search = ("query_BD", *TABLES, "eligible_BN", "tilts_BN", "k")
        specs = [
            GraphSpec("lower", Lower(stripped), history, ("h_BD", *context)),
            GraphSpec("concept", concepts, concepts.INPUTS, ConceptEdits._fields),
            GraphSpec("edit", edit, edits, ("edited_BD", "z_BF")),
            GraphSpec("upper", Upper(stripped), ("h_BD", *context, *history[2:] * below), ("query_BD",)),
            GraphSpec("search", Search(), search, ("rows_BK", "scores_BK")),
            GraphSpec("add", Add(edit), ("h_BD", "features_BE", "strengths_BE"), ("added_BD",)),
        ]
        if not below:  # below the last block, what follows needs the states of all positions: there is nothing to save
            names = (name.rsplit("_", 1) for name in Kept._fields * model.config.blocks)
            kept = tuple(f"{name}_{at // len(Kept._fields)}_{dims}" for at, (name, dims) in enumerate(names))
            append = ("items_ND", "new_ids_B", "kept_lengths_B", *kept)
            specs.append(GraphSpec("keep", Keep(stripped), history, ("h_BD", *kept)))
            specs.append(GraphSpec("append", Append(stripped), append, ("h_BD", "added_BLD")))
        return ExportedGraphs(tuple(specs), tables)


def write_graphs(
    graphs: ExportedGraphs,
    golden: dict[str, Tensors],
    folder: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes every graph twice. `report` is called with the number of graphs done, and of all.

    Raises ExportError if a written graph does not replay the golden rows.
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
    """By tracing: a tenth of the time that `torch.export` takes, for graphs as fast.

    The exporter guesses shapes of some inner values wrongly, which ONNX Runtime warns of at every run: it infers them by itself.
    """
    module = OnnxSearch() if isinstance(spec.module, Search) else spec.module
    names = (*spec.inputs, *spec.outputs)
    axes = {name: {axis: f"{name}_{axis}" for axis in _dynamic(name)} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), inputs, str(path), input_names=list(spec.inputs), output_names=list(spec.outputs),
            dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load(path)
    del model.graph.value_info[:]
    onnx.save(model, path)


def _write_torchscript(spec: GraphSpec, inputs: tuple[Tensor, ...], path: Path) -> None:
    """TorchScript, and ONNX by tracing, are deprecated upstream: only these functions and the two below use them.

    A traced `int(k)` would be a constant, so search is scripted.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = spec.module.eval()
        scripted = isinstance(module, Search)
        script = torch.jit.script(module) if scripted else torch.jit.trace(module, inputs, check_trace=False)
        content = io.BytesIO()  # a file of torch does not say why writing failed
        torch.jit.save(script, content)
        path.write_bytes(content.getbuffer())


def _load_torchscript(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load: Any = torch.jit.load
        return load(path)


def _run_torchscript(script: Any, inputs: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    # Shapes differ between sets of golden rows: compiling the graph for each takes longer than running it.
    with torch.no_grad(), cast(Any, torch.jit).optimized_execution(False):
        answer: Tensor | tuple[Tensor, ...] = script(*inputs)
    return answer


def _dynamic(name: str) -> list[int]:
    """Which dimensions of a tensor vary, by the letters that its name ends in. D and F are the model's own."""
    letters = name.rpartition("_")[2] if "_" in name else ""
    return [axis for axis, letter in enumerate(letters) if letter in "BTPECNK"]


def _compare(file: str, spec: GraphSpec, got: list[Tensor], wanted: list[Tensor]) -> None:
    for name, one, other in zip(spec.outputs, got, wanted, strict=True):
        tolerance = 0 if one.dtype == torch.int64 else TOLERANCE
        if one.shape != other.shape or not torch.allclose(one, other, rtol=tolerance, atol=tolerance):
            raise ExportError(f"{file}: {name} does not replay the golden rows")
