"""Serves a bundle over gRPC: request -> session -> batcher -> engine -> response."""

import os

# ONNX Runtime 1.32 sends telemetry over the network, and reads this once, when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
