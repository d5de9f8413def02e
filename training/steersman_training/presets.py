"""Named settings of a training run."""

from steersman_training.autoencoder.sae import SaeConfig
from steersman_training.catalogue.concepts import ConceptConfig
from steersman_training.pipeline import TrainConfig
from steersman_training.recommender.fit import FitConfig
from steersman_training.recommender.model import RecommenderConfig

SMALL = ConceptConfig(terms=128, candidates=512, ridge=0.02, learners=100)
"""For small data: concepts of rare values need as many features as dimensions, and candidates far down the lists."""

PRESETS = {
    "quick": TrainConfig(
        RecommenderConfig(hidden=128, heads=4, dropout=0.4),
        FitConfig(epochs=12, events_per_batch=800, evaluate_every=4),
        SaeConfig(features=512, active=32, epochs=12, learning_rate=8e-3),
        SMALL,
    ),
    "full": TrainConfig(
        RecommenderConfig(hidden=128, heads=4, dropout=0.5),
        FitConfig(epochs=24, events_per_batch=800, evaluate_every=4),
        SaeConfig(features=512, active=32, epochs=30, learning_rate=8e-3),
        SMALL,
    ),
    "large": TrainConfig(
        RecommenderConfig(hidden=128, heads=4, dropout=0.3),
        FitConfig(epochs=16, events_per_batch=1600, average_epochs=1.0, evaluate_every=4),
        SaeConfig(features=1024, active=44, epochs=10, learning_rate=6e-3),
        ConceptConfig(terms=48, candidates=256, ridge=0.02),
    ),
}
"""`quick` is what `make serve` trains: about two minutes for MovieLens-100K on two cores. `full` takes several times as long.
`large` is for a million events and more, as in MovieLens-1M."""
