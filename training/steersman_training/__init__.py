"""Turns raw events into a bundle: sequences -> recommender -> activations -> SAE -> catalogue -> bundle."""

import os

# ONNX Runtime 1.32 sends telemetry over the network, and reads this once, when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Threads that wait for each other spin by default. Where they share their cores with other work, that made an epoch two to three times as
# long; sleeping instead costs nothing that could be measured on idle ones. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
