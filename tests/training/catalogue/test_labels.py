"""Titles, clusters, the vocabulary of labels, and the label that a feature is given."""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_training.catalogue.aims import NUMERIC, Aim
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.clusters import (
    ATTRIBUTE,
    WINDOW,
    Clusters,
    _k_means,
    _pairs,
    _ppmi,
    cluster_items,
    with_clusters,
)
from steersman_training.catalogue.labels import Labels, _fit, agrees, label_anchors, label_features
from steersman_training.catalogue.vocabulary import Vocabulary, _phrases
from steersman_training.data import Dataset, load
from steersman_training.data.sequences import Split, split_leave_one_out
from steersman_training.data.titles import readable_title, title_words
from steersman_training.evaluation.control.study import labelled_features
from tests.synthetic import GENRES

FILMS = 120


@pytest.fixture(scope="module")
def items() -> pl.DataFrame:
    """Every genre in every decade; ten of the films are of one series."""
    rows = range(FILMS)
    return pl.DataFrame(
        {
            "item_id": [f"{row:03}" for row in rows],
            "title": [
                f"Space Patrol: Tale{row}" if row % 12 == 0 else f"Film{row}, The ({1970 + row % 30})" for row in rows
            ],
            "genres": [[GENRES[row % 4]] for row in rows],
            "year": [1970.0 + row % 30 for row in rows],
        }
    )


@pytest.fixture(scope="module")
def vocabulary(items: pl.DataFrame) -> Vocabulary:
    """With one cluster, of the first thirty items, among which the series is a likeness of its own."""
    cluster_N = torch.where(torch.arange(FILMS) < 30, 0, 1)
    space_NR = torch.eye(FILMS)
    space_NR[::12] = space_NR[0]
    clusters = Clusters(cluster_N, space_NR, [list(range(30)), list(range(30, FILMS))])
    return Vocabulary.of(items, AttributeValues.of(items, 5), clusters, np.ones(FILMS), 5)


def label(vocabulary: Vocabulary, items: pl.DataFrame, *members: torch.Tensor) -> Labels:
    """Labels of features that fire where they are told to, a little more at the first items, on a floor of noise."""
    noise_FN = torch.rand(len(members), FILMS, generator=torch.Generator().manual_seed(1)) * 0.1
    means_FN = torch.stack([member_N.float() for member_N in members]) * torch.linspace(1.2, 1.0, FILMS) + noise_FN
    return label_features(means_FN, torch.full((FILMS,), 9), vocabulary, items["title"].to_list())


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("Godfather, The (1972)", "The Godfather (1972)"),
        ("Bug's Life, A (1998)", "A Bug's Life (1998)"),
        ("Avventura, L' (1960)", "L'Avventura (1960)"),
        ("Cook the Thief His Wife & Her Lover, The", "The Cook the Thief His Wife & Her Lover"),
        ("Good, the Bad and the Ugly, The (1966)", "The Good, the Bad and the Ugly (1966)"),
        ("Contempt (Mépris, Le) (1963)", "Contempt (Le Mépris) (1963)"),
        ("Fille seule, La (A Single Girl)", "La Fille seule (A Single Girl)"),
        ("Me, Myself and Irene (2000)", "Me, Myself and Irene (2000)"),
        ("", ""),
    ],
)
def test_titles_read_as_a_person_says_them(title: str, wanted: str) -> None:
    assert readable_title(title) == wanted
    assert title_words("Postino, Il (The Postman) (1994)") == ["Il", "Postino"]


def test_years_at_the_end_of_titles_become_an_attribute_unless_there_is_one(data_dir: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(data_dir / "items.parquet").drop("year")
    dated = table.with_columns(title=pl.format("{} ({})", "title", pl.col("item_id") + 1850))
    dated.write_parquet(tmp_path / "dated.parquet")
    data = load(str(data_dir), items=tmp_path / "dated.parquet", cache=tmp_path)
    assert data.items["year"].to_list() == [1850.0 + int(item_id) for item_id in data.items["item_id"]]
    assert data.items["title"][0].endswith(")")
    dated.with_columns(Year=1.0).write_parquet(tmp_path / "both.parquet")
    assert "year" not in load(str(data_dir), items=tmp_path / "both.parquet", cache=tmp_path).items.columns
    table.write_parquet(tmp_path / "undated.parquet")
    assert "year" not in load(str(data_dir), items=tmp_path / "undated.parquet", cache=tmp_path).items.columns


@pytest.fixture(scope="module")
def data(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(str(data_dir), cache=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("bounds", [{}, {"MOST_EVENTS": 900, "MOST_ITEMS": 40, "MOST_CLUSTERS": 5}])
def test_clusters_find_what_is_taken_up_together_without_being_told(
    data: Dataset, bounds: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, bound in bounds.items():
        monkeypatch.setattr(f"steersman_training.catalogue.clusters.{name}", bound)
    clusters = cluster_items(split_leave_one_out(data), min_items=5)
    assert len(clusters.typical) <= bounds.get("MOST_CLUSTERS", 60)
    again = cluster_items(split_leave_one_out(data), min_items=5)
    assert torch.equal(clusters.cluster_N, again.cluster_N)
    sizes = torch.bincount(clusters.cluster_N[clusters.cluster_N >= 0])
    assert len(sizes) == len(clusters.typical) > 1
    assert sizes.min() >= 5
    assert [len(rows) for rows in clusters.typical] == sizes.tolist()
    genre_N = torch.tensor([GENRES.index(genres[0]) for genres in data.items["genres"].to_list()])
    pure = [int(torch.bincount(genre_N[rows]).max()) / len(rows) for rows in clusters.typical]
    assert np.mean(pure) > (0.5 if bounds else 0.6)  # a quarter by chance


def _pairs_within_the_window(split: Split, users: Iterable[int]) -> np.ndarray:
    """How often item b is within the window of item a, in both directions. (N, N)"""
    counts_NN = np.zeros((split.item_count, split.item_count))
    for user in users:
        history = split.train_history(user).tolist()
        for first, second in combinations(range(len(history)), 2):
            if second - first <= WINDOW:
                counts_NN[history[first], history[second]] += 1
                counts_NN[history[second], history[first]] += 1
    return counts_NN


def test_likeness_is_by_positive_mutual_information_within_the_window(data: Dataset) -> None:
    split = split_leave_one_out(data)
    counts_NN = _pairs_within_the_window(split, range(split.users))
    margin_N = counts_NN.sum(1)
    with np.errstate(divide="ignore"):
        pmi_NN = np.log(counts_NN * (margin_N**0.75).sum() / (margin_N[:, None] * margin_N**0.75))
    wanted_NN = (pmi_NN.clip(0) + pmi_NN.clip(0).T) / 2
    got_NN = _ppmi(split, np.random.default_rng(0)).times(torch.eye(split.item_count))
    np.testing.assert_allclose(got_NN, wanted_NN, atol=1e-5)


def test_of_much_data_a_part_of_the_histories_is_looked_at(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_leave_one_out(data)
    _, counts = _pairs(split, np.random.default_rng(0))
    assert counts.sum() == _pairs_within_the_window(split, range(split.users)).sum()
    monkeypatch.setattr("steersman_training.catalogue.clusters.MOST_EVENTS", 500)
    first, second, third = (_pairs(split, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], third[0])
    assert 0.5 * 500 < first[1].sum() / 2 / WINDOW < 550


def test_a_cluster_that_stays_too_small_is_given_up() -> None:
    generator = torch.Generator().manual_seed(0)
    spread_NR = 0.01 * torch.randn(43, 4, generator=generator)
    space_NR = torch.nn.functional.normalize(torch.eye(4)[[0] * 20 + [1] * 20 + [2] * 3] + spread_NR, dim=1)
    for min_items, wanted in ((3, [3, 20, 20]), (4, [20, 23])):
        centres_CR = _k_means(space_NR, 3, min_items, torch.Generator().manual_seed(1))
        assert sorted(torch.bincount((space_NR @ centres_CR.T).argmax(1)).tolist()) == wanted


def test_clusters_are_an_attribute_of_every_item_table_but_one_with_such_an_attribute(data: Dataset) -> None:
    clusters = cluster_items(split_leave_one_out(data), min_items=5)
    for items in (data.items, data.items.select("item_id", "title")):
        described = with_clusters(items, clusters)
        assert described.drop(ATTRIBUTE).equals(items)
        names = [name for attribute, name in AttributeValues.of(described, 5).names if attribute == ATTRIBUTE]
        assert names == sorted(clusters.named(items["title"].to_list()))
    given = data.items.with_columns(pl.lit(["mine"]).alias(ATTRIBUTE))
    assert with_clusters(given, clusters) is given


def test_the_vocabulary_holds_values_times_pairs_series_and_clusters(vocabulary: Vocabulary) -> None:
    said = {tuple(value for _, value in parts) for parts in vocabulary.terms}
    assert {("Crime",), ("1970s",), ("Crime", "1970s"), ("Space Patrol",)} <= said
    assert ("1970",) not in said  # of four items only
    assert ("1970s", "1980s") not in said
    assert sum(parts[0][0] == ATTRIBUTE for parts in vocabulary.terms if len(parts) == 1) == 2
    assert vocabulary.member_VN.shape == (len(vocabulary.terms), FILMS)
    assert len(set(vocabulary.terms)) == len(vocabulary.terms)


def test_a_large_vocabulary_keeps_the_values_and_the_terms_with_the_most_events(
    items: pl.DataFrame, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steersman_training.catalogue.vocabulary.MOST_TERMS", 8)
    clusters = Clusters(
        torch.where(torch.arange(FILMS) < 30, 0, 1), torch.eye(FILMS), [[*range(30)], [*range(30, FILMS)]]
    )
    events_N = np.where(np.arange(FILMS) % 30 < 10, 1.0, 9.0)  # films of the seventies have few
    small = Vocabulary.of(items, AttributeValues.of(items, 5), clusters, events_N, 5)
    assert len(small.terms) == 8
    values = {(("genres", genre),) for genre in GENRES}
    assert values < set(small.terms) < set(vocabulary.terms)
    assert {(("decade", "1980s"),), (("decade", "1990s"),)} < set(small.terms)
    for term, member_N in zip(small.terms, small.member_VN, strict=True):
        assert torch.equal(member_N, vocabulary.member_VN[vocabulary.terms.index(term)])


def test_a_phrase_needs_four_titles_and_keeps_the_way_it_is_mostly_written() -> None:
    titles = ["Star Trek: One", "STAR TREK", "Star Trek (1979)", "A star trek", "Star Wars", "The Wars of Star"]
    found = {parts[0][1]: rows.tolist() for parts, rows in _phrases(titles)}
    assert found == {"Star Trek": [0, 1, 2, 3], "Star": [0, 1, 2, 3, 4, 5]}


def test_a_word_that_unlike_titles_share_is_no_phrase(items: pl.DataFrame, vocabulary: Vocabulary) -> None:
    unlike = Clusters(torch.zeros(FILMS, dtype=torch.int64), torch.eye(FILMS), [list(range(FILMS))])
    terms = Vocabulary.of(items, AttributeValues.of(items, 5), unlike, np.ones(FILMS), 5).terms
    assert not any(parts[0][0] == "title" for parts in terms)


def test_a_label_says_the_simplest_thing_that_fits(items: pl.DataFrame, vocabulary: Vocabulary) -> None:
    rows_N = torch.arange(FILMS)
    crime_N, seventies_N = rows_N % 4 == 1, rows_N % 30 < 10
    few_N = torch.isin(rows_N, torch.tensor([17, 58, 101]))
    labels = label(vocabulary, items, crime_N, crime_N & seventies_N, rows_N % 12 == 0, rows_N < 30, few_N)
    assert labels.description[0] == (("genres", "Crime"),)
    assert labels.label[0].startswith("Crime, as in The Film")
    assert set(labels.description[1]) == {("genres", "Crime"), ("decade", "1970s")}
    assert labels.label[1].startswith("1970s Crime, as in The Film")
    assert labels.label[2].startswith("“Space Patrol” titles, as in Space Patrol: Tale")
    assert labels.label[3].startswith("like ")
    assert labels.description[3][0][0] == ATTRIBUTE
    assert labels.description[4] == ()
    assert labels.label[4] == "no clear meaning"
    assert labels.predicted_FN[1].tolist() == (crime_N & seventies_N).tolist()
    assert 1 <= int(labels.predicted_FN[4].sum()) <= 10
    assert not bool((labels.predicted_FN[4] & ~labels.chosen_N).any())


def test_a_term_that_half_of_the_strongest_items_lack_is_no_label(items: pl.DataFrame, vocabulary: Vocabulary) -> None:
    """It fires at all Crime, and more strongly at some items that are no Crime."""
    crime_N = torch.arange(FILMS) % 4 == 1
    chosen_N = label(vocabulary, items, crime_N).chosen_N
    others = (chosen_N & ~crime_N).nonzero().flatten()[::9]
    for few, wanted in ((6, ()), (5, (("genres", "Crime"),))):  # of ten
        means_N = crime_N.float()
        means_N[others[:few]] = 1.5
        assert label(vocabulary, items, means_N).description == [wanted]
        assert agrees(crime_N, means_N * chosen_N) == bool(wanted)


def test_anchored_features_are_called_by_their_aims(items: pl.DataFrame) -> None:
    rows_N = torch.arange(FILMS)
    crime_N, late_N = rows_N % 4 == 1, rows_N > 60
    aims = [Aim("genres", "Crime", crime_N.float(), crime_N), Aim("year", NUMERIC, rows_N.float(), late_N)]
    means_VN = torch.stack([torch.linspace(1, 2, FILMS), torch.ones(FILMS)])  # strongest at an item that is no Crime
    labels = label_anchors(means_VN, torch.full((FILMS,), 9), aims, items["title"].to_list())
    assert labels.label == ["Crime, as in The Film117 (1997)", "high year"]
    assert labels.description == [(("genres", "Crime"),), ()]
    assert torch.equal(labels.predicted_FN, torch.stack([crime_N, late_N]))
    assert not bool(labels.chosen_N.any())
    none = label_anchors(torch.zeros(0, FILMS), torch.full((FILMS,), 9), [], items["title"].to_list())
    assert none.predicted_FN.shape == (0, FILMS)


def test_a_label_is_not_chosen_on_the_items_that_it_is_judged_by(items: pl.DataFrame, vocabulary: Vocabulary) -> None:
    war_N, crime_N = torch.arange(FILMS) % 4 == 3, torch.arange(FILMS) % 4 == 1
    before = label(vocabulary, items, war_N)
    assert before.description[0] == (("genres", "War"),)
    assert 0.5 < float(before.chosen_N.float().mean()) < 0.9
    after = label(vocabulary, items, torch.where(before.chosen_N, war_N.float(), 0.5 * crime_N.float()))
    assert after.label == before.label
    contradicted = label(vocabulary, items, torch.where(before.chosen_N, war_N.float(), 50 * crime_N.float()))
    assert contradicted.description == [()]


def test_without_words_items_speak(items: pl.DataFrame) -> None:
    nothing = Vocabulary([], torch.zeros(0, FILMS, dtype=torch.bool))
    labels = label_features(torch.zeros(2, FILMS), torch.ones(FILMS), nothing, items["title"].to_list())
    assert labels.label == ["never active", "never active"]
    assert not bool(labels.predicted_FN.any())


def test_a_study_takes_features_at_their_word(items: pl.DataFrame, vocabulary: Vocabulary) -> None:
    rows_N = torch.arange(FILMS)
    crime_N, few_N = rows_N % 4 == 1, torch.isin(rows_N, torch.tensor([17, 58, 101]))
    labels = label(vocabulary, items, crime_N, crime_N & (rows_N % 30 < 10), few_N, crime_N)
    features = pl.DataFrame(
        {
            "feature": [0, 1, 2, 3],
            "kind": "discovered",
            "description": [[":".join(part) for part in parts] for parts in labels.description],
            "steerable": [True, True, True, False],
            "share_before": 0.1,
            "share_after": [0.2, 0.3, 0.4, 0.5],
            "unit_up": [1.5, 0.5, 1.0, 1.0],
            "unit_down": [2.0, 0.25, 1.0, 1.0],
        }
    )
    studied = labelled_features(features, labels, 9)
    assert [labelled.feature for labelled in studied] == [1, 0]  # 2 says nothing, 3 does not do it
    assert [labelled.units for labelled in studied] == [(0.5, 0.25), (1.5, 2.0)]
    assert studied[1].aim.name == "genres:Crime"
    assert torch.equal(studied[1].aim.member_N, crime_N)
    assert len(labelled_features(features, labels, 1)) == 1


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_fit_is_the_correlation_over_items_repeated_by_weight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    means, member, weights = rng.random((2, 12)), rng.random((3, 12)) < 0.5, rng.integers(0, 4, 12)
    with patch("steersman_training.catalogue.labels.TERMS_AT_ONCE", 2):
        fit_FV = _fit(*(torch.from_numpy(part.astype(np.float32)) for part in (means, weights, member)))
    for f in range(2):
        for v in range(3):
            x, y = np.repeat(means[f], weights), np.repeat(member[v], weights)
            varies = len(x) > 1 and x.std() > 0 and y.std() > 0
            assert fit_FV[f, v] == pytest.approx(np.corrcoef(x, y)[0, 1] if varies else 0.0, abs=1e-4)
