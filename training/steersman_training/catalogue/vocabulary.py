"""The vocabulary of labels: attribute values, times, words of titles, co-consumption clusters, and pairs. Dimensions: V terms, N items.

Concepts use attribute values alone (attributes.py): a control needs a name that lasts. A label may use any term.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
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
MOST_TERMS = 2_000
MOST_CELLS = 2**28  # flags of a term and an item: 256 MiB
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
    def of(
        items: pl.DataFrame,
        values: AttributeValues,
        clusters: Clusters,
        events_N: npt.NDArray[np.float64],
        min_items: int,
    ) -> "Vocabulary":
        """Terms that hold of `min_items` items or more (phrases of titles: MIN_TITLES). `events_N`: training events of each item.

        All values and clusters; of times, pairs and phrases those with the most events: MOST_TERMS in all, and MOST_CELLS flags.
        """
        titles = items["title"].to_list()
        named = zip(values.names, values.member_VN, strict=True)
        single: list[Term] = [((name,), torch.nonzero(member_N)[:, 0]) for name, member_N in named]
        if not any(attribute == CLUSTER for attribute, _ in values.names):
            names = clusters.named(titles)
            single += [(((CLUSTER, name),), torch.tensor(clusters.typical[row])) for row, name in enumerate(names)]
        times = list(_years(items, min_items))
        phrases = [term for term in _phrases(titles) if clusters.likeness(term[1]) >= MIN_LIKENESS]
        pairs = _pairs([*single, *times], items.height, min_items)
        most = min(MOST_TERMS, MOST_CELLS // max(items.height, 1))
        terms = [
            *single,
            *_with_most_events([*times, *pairs, *phrases], torch.from_numpy(events_N), most - len(single)),
        ]
        member_VN = torch.zeros(len(terms), items.height, dtype=torch.bool)
        for member_N, (_, rows) in zip(member_VN, terms, strict=True):
            member_N[rows] = True
        return Vocabulary([parts for parts, _ in terms], member_VN)


Term = tuple[tuple[Part, ...], Tensor]  # its parts, and the rows of its items


def _with_most_events(terms: list[Term], events_N: Tensor, most: int) -> list[Term]:
    """In the order that they had."""
    events = torch.tensor([float(events_N[rows].sum()) for _, rows in terms])
    best = events.argsort(descending=True, stable=True)[: max(most, 0)].sort().values
    return [terms[index] for index in best.tolist()]


def _years(items: pl.DataFrame, min_items: int) -> Iterator[Term]:
    """Decades, and years."""
    if items.schema.get(YEAR) != pl.Float64:
        return
    for attribute, time, ending in ((DECADE, (pl.col(YEAR) / 10).floor() * 10, "s"), (YEAR, pl.col(YEAR), "")):
        rows = items.select(time=time, row=pl.int_range(pl.len())).filter(pl.col("time").is_finite())
        groups = rows.group_by("time").agg("row").filter(pl.col("row").list.len() >= min_items).sort("time")
        for first, members in groups.iter_rows():
            yield ((attribute, f"{first:.0f}{ending}"),), torch.tensor(members)


def _pairs(single: list[Term], item_count: int, min_items: int) -> Iterator[Term]:
    """The intersections of two values that are smaller than both."""
    order = sorted(range(len(single)), key=lambda index: -len(single[index][1]))
    common = [single[index] for index in sorted(order[:PAIRED])]
    member_VN = torch.zeros(len(common), item_count, dtype=torch.bool)
    for member_N, (_, rows) in zip(member_VN, common, strict=True):
        member_N[rows] = True
    for (one, (parts, rows)), (other, (more, others)) in combinations(enumerate(common), 2):
        if {parts[0][0], more[0][0]} <= {CLUSTER, DECADE, YEAR}:
            continue  # most clusters are of one time
        fewer, wide = (rows, other) if len(rows) <= len(others) else (others, one)
        both = fewer[member_VN[wide][fewer]]
        if min_items <= len(both) < len(fewer):
            yield (*parts, *more), both


def _phrases(titles: list[str]) -> Iterator[Term]:
    """Phrases that enough titles share; of those in the same titles, the longest."""
    rows_of: dict[tuple[str, ...], set[int]] = defaultdict(set)
    written: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    frequent = _frequent(titles)
    for row, title in enumerate(titles):
        for words in _runs(title_words(title)):
            key = tuple(word.casefold() for word in words)
            if hash(key) in frequent:
                rows_of[key].add(row)
                written[key][" ".join(words)] += 1
    longest: dict[frozenset[int], tuple[str, ...]] = {}
    for key, rows in rows_of.items():
        if len(rows) >= MIN_TITLES:
            same = frozenset(rows)
            longest[same] = max(longest.get(same, ()), key, key=lambda run: (len(run), run))
    for same, key in longest.items():
        yield ((TITLE, written[key].most_common(1)[0][0]),), torch.tensor(sorted(same))


def _frequent(titles: list[str]) -> set[int]:
    """Hashes of the phrases that occur MIN_TITLES times, and perhaps of others: the few of them that are worth remembering."""
    runs = (run for title in titles for run in _runs([word.casefold() for word in title_words(title)]))
    hashes, counts = np.unique(np.fromiter((hash(tuple(run)) for run in runs), np.int64), return_counts=True)
    return set(hashes[counts >= MIN_TITLES].tolist())


def _runs(words: list[str]) -> Iterable[list[str]]:
    """Phrases that neither begin nor end with a stop word, a number or a letter."""
    says = [len(word) > 1 and not word.isdigit() and word.casefold() not in STOP_WORDS for word in words]
    for begin in range(len(words)):
        for end in range(begin + 1, min(begin + LONGEST_PHRASE, len(words)) + 1):
            if says[begin] and says[end - 1]:
                yield words[begin:end]
