"""Serves a bundle over gRPC: request -> session -> batcher -> engine -> response."""

import os

# ONNX Runtime 1.32 sends telemetry over the network, and reads this once, when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> str:
    """`__version__`, that of the installed package; looked up when it is asked for, because that takes milliseconds."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("steersman")
