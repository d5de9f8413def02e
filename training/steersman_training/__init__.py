"""Turns raw events into a bundle: sequences -> recommender -> activations -> SAE -> catalogue -> bundle."""
