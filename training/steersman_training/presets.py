"""Named settings of a training run."""

from steersman_training.autoencoder.sae import SaeConfig
from steersman_training.catalogue.concepts import ConceptConfig
from steersman_training.pipeline import TrainConfig
from steersman_training.recommender.fit import FitConfig
from steersman_training.recommender.model import RecommenderConfig

SMALL = ConceptConfig(candidates=512)
"""For small data: items of rare values lie far down the lists."""

PRESETS = {
    "quick": TrainConfig(
        RecommenderConfig(hidden=128, heads=4, dropout=0.4),
        FitConfig(epochs=7, events_per_batch=800, evaluate_every=7),
        SaeConfig(features=128, active=16, epochs=8, learning_rate=8e-3),
        SMALL,
    ),
    "full": TrainConfig(
        RecommenderConfig(hidden=128, heads=4, dropout=0.5),
        FitConfig(epochs=24, events_per_batch=800, evaluate_every=4),
        SaeConfig(features=128, active=16, epochs=30, learning_rate=8e-3),
        SMALL,
    ),
    "large": TrainConfig(
        RecommenderConfig(hidden=128, heads=4, dropout=0.3),
        FitConfig(epochs=12, events_per_batch=1600, average_epochs=1.0, evaluate_every=4),
        SaeConfig(features=512, active=16, epochs=10, learning_rate=6e-3),
        ConceptConfig(),
    ),
}
"""`quick` is what `make serve` trains: a minute or two for MovieLens-100K on two cores. `full` takes several times as long.
`large` is for a million events and more, as in MovieLens-1M."""
