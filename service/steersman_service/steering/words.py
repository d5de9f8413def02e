"""Free words as an aim: what titles, attribute values and labels of features say of them. Dimensions: F features, S items of a word."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import NOWHERE, Categories, Items, Numbers, Rows
from steersman_service.steering.aims import TINY, Aims, Doubles, Solution

WORD = re.compile(r"[^\W_]+")
YEAR, DECADE = re.compile(r"(1[89]|20)\d\d"), re.compile(r"((?:1[89]|20)?\d)0s")
STOP_WORDS = frozenset(re.findall(WORD, "a an and as at by for from in is it of on or that the this to very with"))
NEGATIONS = frozenset(("no", "not", "without", "never", "except"))
# Of a value of an attribute, beside a word of titles, and of a label, which is made of titles in part.
VALUE_WEIGHT, TITLE_WEIGHT, LABEL_WEIGHT = 4.0, 1.0, 0.5
FIRST_YEAR, LAST_YEAR = 1800, 2100


class Reading(NamedTuple):
    """What words were understood as."""

    solution: Solution
    known: Sequence[str]
    unknown: Sequence[str]
    negated: Sequence[str]
    """Words after "not" and its like. What they say is left out: nothing is asked for less of."""


class _Part(NamedTuple):
    """What one word, or value, aims at."""

    weight: float
    lift_F: Doubles


class Words:
    """Reads words. What is known of titles and labels is collected at the first."""

    def __init__(self, aims: Aims, items: Items, catalogue: Catalogue) -> None:
        self._aims, self._items, self._catalogue = aims, items, catalogue

    def read(self, text: str) -> Reading:
        """What `text` aims at. Its solution has no features where no word is known."""
        written = [word for word in folded_words(text) if word not in STOP_WORDS]
        negated = [word for before, word in pairwise(written) if before in NEGATIONS]
        asked = {singular(word): word for word in written if word not in NEGATIONS and word not in negated}
        parts, known = list[_Part](), set[str]()
        for words, part in self._parts(list(asked)):
            parts.append(part)
            known |= words
        unknown = [word for short, word in asked.items() if short not in known]
        return Reading(self._solved(parts), [word for short, word in asked.items() if short in known], unknown, negated)

    def _solved(self, parts: Sequence[_Part]) -> Solution:
        """One aim for all parts, each as strong as its weight says, whatever it does to scores."""
        aims, spread_F = self._aims, self._aims.spread_F
        standard = [
            np.abs(part.lift_F / np.maximum(spread_F, TINY))[spread_F > TINY].max(initial=TINY) for part in parts
        ]
        lift_F = sum(
            (part.weight / most * part.lift_F for part, most in zip(parts, standard, strict=True)),
            np.zeros(len(spread_F)),
        )
        solution = aims.of_lift(lift_F)
        spread = aims.spread(solution.edits)
        if not parts or spread <= TINY:
            return solution
        raised = [np.dot(solution.strengths, part.lift_F[list(solution.features)]) / spread for part in parts]
        # Parts that have nothing to do with each other share one edit: none of them can be lifted as far as alone.
        weights = np.array([part.weight for part in parts])
        return solution._replace(raised=float(weights @ np.array(raised) / np.sqrt(weights @ weights)))

    def _parts(self, asked: Sequence[str]) -> Iterator[tuple[set[str], _Part]]:
        """The words of each part, and the part. A word of a whole title is looked for nowhere else, one of a value in no title."""
        given, found = set(asked), set[str]()
        for title, rows_S in self._whole_titles(asked).items():
            found |= title
            yield set(title), self._part(VALUE_WEIGHT, rows_S)
        for value, rows_S in self._values.items():
            if value <= given and not value <= found:
                found |= value
                yield set(value), self._part(VALUE_WEIGHT, rows_S)
        for word in asked:
            if len(rows_S := self._years(word)):
                found.add(word)
                yield {word}, self._part(VALUE_WEIGHT, rows_S)
        for word in (word for word in asked if word not in found):
            if (titles := self._titles.get(word)) is not None:
                yield {word}, self._part(TITLE_WEIGHT, titles)
            if features := self._labels.get(word):
                lift_F = sum(self._aims.covariance_FF[f] / self._aims.spread_F[f] for f in features)
                yield {word}, _Part(LABEL_WEIGHT * self._rarity(len(features), len(self._catalogue.labels)), lift_F)

    def _whole_titles(self, asked: Sequence[str]) -> Mapping[frozenset[str], Rows]:
        """Items whose titles have two words or more, all of them asked for."""
        held = [self._titles[word] for word in asked if word in self._titles]
        rows, counts = np.unique(np.concatenate(held), return_counts=True) if held else (NOWHERE, NOWHERE)
        found: dict[frozenset[str], list[int]] = defaultdict(list)
        for row in rows[counts > 1].tolist():
            if (title := _telling_words(self._items.titles[row])) <= set(asked):
                found[title].append(row)
        return {title: np.array(each, np.int64) for title, each in found.items()}

    def _part(self, weight: float, rows_S: Rows) -> _Part:
        return _Part(weight * self._rarity(len(rows_S), len(self._items)), self._aims.lift(rows_S))

    @staticmethod
    def _rarity(count: int, of: int) -> float:
        """Inverse document frequency."""
        return float(np.log1p(of / count))

    @cached_property
    def _values(self) -> Mapping[frozenset[str], Rows]:
        """Items of the attribute values that all of some words name."""
        rows_of: dict[frozenset[str], list[Rows]] = defaultdict(list)
        for attribute in self._items.attributes.values():
            if isinstance(attribute, Categories):
                for value, rows_S in attribute.rows_of.items():
                    if words := _telling_words(value):
                        rows_of[words].append(rows_S)
        return {words: np.unique(np.concatenate(rows)) for words, rows in rows_of.items()}

    def _years(self, word: str) -> Rows:
        """Items of a year or of a decade: "1994", "90s", where an attribute holds years."""
        if YEAR.fullmatch(word):
            first = last = int(word)
        elif decade := DECADE.fullmatch(word):
            first = 10 * int(decade[1] if len(decade[1]) > 1 else f"19{decade[1]}")
            last = first + 9
        else:
            return NOWHERE
        in_years = [np.flatnonzero((first <= years_N) & (years_N <= last)) for years_N in self._year_columns]
        return np.unique(np.concatenate([NOWHERE, *in_years]))

    @cached_property
    def _year_columns(self) -> Sequence[Doubles]:
        """Numeric attributes that hold years."""
        numbers = [each.values_N for each in self._items.attributes.values() if isinstance(each, Numbers)]
        known = [(column, column[np.isfinite(column)]) for column in numbers]
        return [
            column
            for column, values in known
            if len(values) and values.min() >= FIRST_YEAR and values.max() <= LAST_YEAR and (values % 1 == 0).all()
        ]

    @cached_property
    def _titles(self) -> Mapping[str, Rows]:
        """Items by the words of their titles: of those that count."""
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row in self._aims.counted_M.tolist():
            for word in _telling_words(self._items.titles[row]):
                rows_of[word].append(row)
        return {word: np.array(rows, np.int64) for word, rows in rows_of.items()}

    @cached_property
    def _labels(self) -> Mapping[str, list[int]]:
        """Features by the words of their labels: of those with a clear meaning."""
        features_of: dict[str, list[int]] = defaultdict(list)
        for feature in self._catalogue.features:
            if feature.clear and self._aims.spread_F[feature.id] > TINY:
                for word in _telling_words(self._catalogue.automatic_labels[feature.id]):
                    features_of[word].append(feature.id)
        return features_of


def _telling_words(text: str) -> frozenset[str]:
    """Words that tell texts apart."""
    return frozenset(map(singular, folded_words(text))) - STOP_WORDS


def folded_words(text: str) -> list[str]:
    """Words without case, accents and apostrophes, as people type them."""
    characters = unicodedata.normalize("NFKD", text).casefold()
    return WORD.findall("".join(each for each in characters if not unicodedata.combining(each) and each not in "'’"))


def singular(word: str) -> str:
    """Without the ending of a plural: "comedies" and "vampires" as "comedy" and "vampire"."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return (
        word[:-1]
        if len(word) > 3 and word.endswith("s") and not word.endswith("ss") and not word[0].isdigit()
        else word
    )
