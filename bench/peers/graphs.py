"""One ONNX graph of a bundle's lower, edit and search, for peers: the item table, k and what no request asks for are baked in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import compose, numpy_helper

from steersman_service.bundle.bundle import Bundle

K = 20


def write_graphs(bundle: Bundle, folder: Path) -> None:
    """Writes `plain.onnx`, `steered.onnx` and `facts.json` of a bundle whose hook lies after the last block."""
    hook = bundle.manifest.hook
    if hook.block != hook.blocks:
        raise SystemExit("the benchmark needs a bundle whose hook lies after the last block")
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"items_ND": np.asarray(bundle.items_ND), "biases_N": np.asarray(bundle.biases_N)}
    items = len(tables["items_ND"])
    lower = _graph(bundle, "lower", tables)
    search = _graph(bundle, "search", tables | {"tilts_BN": np.zeros((1, items), np.float32), "k": np.array(K)})
    plain = compose.merge_models(lower, search, io_map=[("h_BD", "query_BD")])
    lowered = compose.merge_models(lower, _graph(bundle, "edit", {}), io_map=[("h_BD", "h_BD")], outputs=["edited_BD"])
    steered = compose.merge_models(lowered, search, io_map=[("edited_BD", "query_BD")])
    for name, graph in (("plain", plain), ("steered", steered)):
        onnx.save(graph, folder / f"{name}.onnx")
    window = bundle.manifest.window
    facts = {"items": items, "length": window.length, "stride": window.stride}
    (folder / "facts.json").write_text(json.dumps(facts))


def _graph(bundle: Bundle, name: str, constants: Mapping[str, Any]) -> onnx.ModelProto:
    """A graph with some of its inputs made constants; its inner names begin with its own, so that graphs can be merged."""
    model = onnx.load(bundle.folder / f"{name}.onnx")
    for node in list(model.graph.input):
        if node.name in constants:
            model.graph.input.remove(node)
            model.graph.initializer.append(
                numpy_helper.from_array(np.ascontiguousarray(constants[node.name]), node.name)
            )
    return compose.add_prefix(model, f"{name}.", rename_inputs=False, rename_outputs=False)
