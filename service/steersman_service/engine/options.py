"""What an engine is loaded with. Nothing heavy is imported here: a supervisor reads settings without numpy, torch or ONNX Runtime."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class EngineOptions:
    """Defaults suit a notebook or a batch job on the CPU."""

    backend: Literal["onnx", "torch"] = "onnx"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one."""
    threads: int = 1
    """CPU threads of one batch, from 1."""
    search: Literal["auto", "exact"] = "auto"
    """auto takes the approximate index of a bundle that carries one."""
    precision: Precision = "float32"
    """In which torch reads the item table. What half precision finds is scored in float32."""
    cuda_graphs: Literal["auto", "off"] = "auto"
    """Whether torch captures CUDA graphs on a GPU."""
    max_batch: int = 64
    """Largest batch that warm-up and CUDA graphs cover. A larger one is computed, too."""
    state_cache_mb: int = 64
    """Memory for hidden states, in MiB; 0 keeps none."""
    kv_cache_mb: int = 256
    """Memory for keys and values of histories that grow, in MiB; 0 keeps none."""
    bundle_keys: Path | None = None
    """Public keys, a file or a folder of *.pub: the bundle has to be signed by one of them."""
