"""Named settings of a training run."""

from steersman_training.fit import FitConfig
from steersman_training.pipeline import TrainConfig
from steersman_training.recommender import RecommenderConfig
from steersman_training.sae import SaeConfig

PRESETS = {
    "quick": TrainConfig(
        RecommenderConfig(dropout=0.4),
        FitConfig(epochs=40, events_per_batch=1600, learning_rate=1.5e-3),
        SaeConfig(features=512, active=32, epochs=12, learning_rate=8e-3),
    ),
    "full": TrainConfig(
        RecommenderConfig(dropout=0.5),
        FitConfig(epochs=80, events_per_batch=800, learning_rate=1.5e-3, patience=8),
        SaeConfig(features=512, active=32, epochs=30, learning_rate=8e-3),
    ),
}
"""`quick` is what `make serve` trains: about two minutes for MovieLens-100K on two cores. `full` takes several times as long."""
