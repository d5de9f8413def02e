"""The vocabulary of labels: attribute values, times, words of titles, co-consumption clusters, and pairs. Dimensions: V terms, N items.

Concepts use attribute values alone (attributes.py): a control needs a name that lasts. A label may use any term.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import polars as pl
import torch
from torch import Tensor

from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.clusters import ATTRIBUTE as CLUSTER
from steersman_training.catalogue.clusters import Clusters
from steersman_training.data.items import YEAR
from steersman_training.data.titles import title_words

DECADE = "decade"
TITLE = "title"

Part = tuple[str, str]  # an attribute and a value of it, as in ("decade", "1970s")

MIN_TITLES = 4  # titles that a phrase must be part of
MIN_LIKENESS = 0.4
"""Mean cosine of the items that share a phrase, by what is taken up together: a series has it, a chance word does not."""
LONGEST_PHRASE = 4  # words of a phrase at most
PAIRED = 64  # values and clusters that pairs are made of: the most common ones
SAYS_NOTHING = (
    "a an and are as at be by for from he her his i in into is it its me my no not of off on or our out she so that the their this to up "
    "us was we what when where who will with you your some about do were thing things nothing one two three ii iii iv vi vol part episode "
    "der die das des den dem ein eine und im von zu le la les l un une et de du d en au el los las y il lo gli i e di da del della"
)
"""Words that no phrase begins or ends with."""
STOP_WORDS = frozenset(SAYS_NOTHING.split())


@dataclass(frozen=True)
class Vocabulary:
    """Terms of one or two parts, each true of some items."""

    terms: list[tuple[Part, ...]]
    member_VN: Tensor  # bool

    @staticmethod
    def of(items: pl.DataFrame, values: AttributeValues, clusters: Clusters, min_items: int) -> "Vocabulary":
        """Terms that hold of `min_items` items or more (phrases of titles: MIN_TITLES)."""
        titles = items["title"].to_list()
        named = zip(values.names, values.member_VN, strict=True)
        single: list[Term] = [((name,), member_N) for name, member_N in named]
        single += _years(items, min_items)
        if CLUSTER not in items.columns:  # else they are among the values
            names = clusters.named(titles)
            single += [(((CLUSTER, name),), clusters.cluster_N == row) for row, name in enumerate(names)]
        phrases = [term for term in _phrases(titles) if clusters.likeness(term[1]) >= MIN_LIKENESS]
        terms = [*single, *_pairs(single, min_items), *phrases]
        members = [member_N for _, member_N in terms]
        stacked = torch.stack(members) if members else torch.zeros(0, items.height, dtype=torch.bool)
        return Vocabulary([parts for parts, _ in terms], stacked)


Term = tuple[tuple[Part, ...], Tensor]


def _years(items: pl.DataFrame, min_items: int) -> Iterator[Term]:
    """Decades, and years."""
    if items.schema.get(YEAR) != pl.Float64:
        return
    years_N = torch.tensor(items[YEAR].fill_null(float("nan")).to_list())
    for attribute, times_N, ending in ((DECADE, (years_N / 10).floor() * 10, "s"), (YEAR, years_N, "")):
        for time in times_N[~times_N.isnan()].unique().tolist():
            member_N = times_N == time
            if int(member_N.sum()) >= min_items:
                yield ((attribute, f"{time:.0f}{ending}"),), member_N


def _pairs(single: list[Term], min_items: int) -> Iterator[Term]:
    """The intersections of two values that are smaller than both."""
    order = sorted(range(len(single)), key=lambda index: -int(single[index][1].sum()))
    common = [single[index] for index in sorted(order[:PAIRED])]
    for (one, first_N), (other, second_N) in combinations(common, 2):
        if {one[0][0], other[0][0]} <= {CLUSTER, DECADE, YEAR}:
            continue  # most clusters are of one time
        both_N = first_N & second_N
        if min_items <= int(both_N.sum()) < min(int(first_N.sum()), int(second_N.sum())):
            yield (*one, *other), both_N


def _phrases(titles: list[str]) -> Iterator[Term]:
    """Phrases that enough titles share; of those in the same titles, the longest."""
    rows_of: dict[tuple[str, ...], set[int]] = defaultdict(set)
    written: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for row, title in enumerate(titles):
        for words in _runs(title_words(title)):
            key = tuple(word.casefold() for word in words)
            rows_of[key].add(row)
            written[key][" ".join(words)] += 1
    longest: dict[frozenset[int], tuple[str, ...]] = {}
    for key, rows in rows_of.items():
        if len(rows) >= MIN_TITLES:
            same = frozenset(rows)
            longest[same] = max(longest.get(same, ()), key, key=lambda run: (len(run), run))
    for same, key in longest.items():
        member_N = torch.zeros(len(titles), dtype=torch.bool)
        member_N[sorted(same)] = True
        yield ((TITLE, written[key].most_common(1)[0][0]),), member_N


def _runs(words: list[str]) -> Iterable[list[str]]:
    """Phrases that neither begin nor end with a stop word, a number or a letter."""
    says = [len(word) > 1 and not word.isdigit() and word.casefold() not in STOP_WORDS for word in words]
    for begin in range(len(words)):
        for end in range(begin + 1, min(begin + LONGEST_PHRASE, len(words)) + 1):
            if says[begin] and says[end - 1]:
                yield words[begin:end]
