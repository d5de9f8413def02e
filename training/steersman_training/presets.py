"""Named settings of a training run."""

from steersman_training.fit import FitConfig
from steersman_training.pipeline import TrainConfig
from steersman_training.recommender import RecommenderConfig
from steersman_training.sae import SaeConfig

PRESETS = {
    "quick": TrainConfig(
        RecommenderConfig(dropout=0.3),
        FitConfig(epochs=30),
        SaeConfig(features=512, active=24, epochs=8),
    ),
    "full": TrainConfig(
        RecommenderConfig(dropout=0.5),
        FitConfig(epochs=80, patience=8),
        SaeConfig(features=512, active=24, epochs=30),
    ),
}
"""`quick` is what `make serve` trains: about two minutes for MovieLens-100K on two cores. `full` takes several times as long."""
