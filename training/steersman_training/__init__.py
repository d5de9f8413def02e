"""Turns raw events into a bundle: sequences -> recommender -> activations -> SAE -> catalogue -> bundle."""

import os

# ONNX Runtime 1.32 sends telemetry over the network, and reads this once, when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
