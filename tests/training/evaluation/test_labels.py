"""What the catalogue says of its features, counted by hand."""

import polars as pl
import pytest
import torch

from steersman_training.catalogue.labels import NEVER_ACTIVE, UNCLEAR, Labels
from steersman_training.evaluation.meaning.labels import catalogue_figures

FEATURES = pl.DataFrame(
    {
        "feature": [0, 1, 2, 3, 4],
        "kind": ["discovered"] * 4 + ["anchored"],
        "label": ["Horror", UNCLEAR, "War", NEVER_ACTIVE, "Crime"],
        "density": [0.2, 0.1, 0.001, 0.0, 0.3],
        "steerable": [True, False, True, False, True],
        "share_before": [0.1, 0.1, 0.2, None, 0.0],
        "share_after": [0.2, 0.1, 0.5, None, 0.9],
        "top_items": [[0, 1, 2, 3], [0], [4, 5, 6, 7], [], [0, 1]],
    }
)
CONCEPTS = pl.DataFrame({"share_before": [0.1, 0.2, 0.3], "share_after": [0.4, 0.5, 0.4]})


def test_figures_are_of_discovered_features_alone() -> None:
    predicted_FN = torch.zeros(5, 8, dtype=torch.bool)
    predicted_FN[0, [0, 1]] = True  # half of what it is shown by
    predicted_FN[2, 4] = True  # a quarter
    labels = Labels(FEATURES["label"].to_list(), [()] * 5, predicted_FN, torch.zeros(8, dtype=torch.bool))
    figures = catalogue_figures(FEATURES, CONCEPTS, labels)
    assert figures["labelled"] == 2 / 4
    assert figures["labelled_listed"] == 1 / 2
    assert figures["steerable"] == 2 / 4
    assert (figures["contradicting"], figures["contradicting_of"]) == (1, 2)
    assert figures["concept_rise_quartiles"] == pytest.approx([0.2, 0.3, 0.3])
    assert figures["feature_rise_quartiles"] == pytest.approx([0.15, 0.2, 0.25])
    none = catalogue_figures(FEATURES.head(0), CONCEPTS.head(0), labels)
    assert (none["labelled"], none["contradicting_of"], none["concept_rise_quartiles"]) == (0, 0, [])
