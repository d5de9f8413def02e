"""Data: raw events, read, cleaned and split."""

from steersman_training.data.columns import Columns, DataError
from steersman_training.data.loading import Dataset, load

__all__ = ["Columns", "DataError", "Dataset", "load"]
