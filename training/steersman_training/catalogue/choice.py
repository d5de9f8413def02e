"""Which attribute values become concepts: those that say something, and of these the ones with the most events. Dimensions: V values."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from steersman_training.catalogue.attributes import AttributeValues, BoolArray, Holders, IntArray, all_holders
from steersman_training.catalogue.chance import say_something
from steersman_training.catalogue.clusters import ATTRIBUTE, Clusters, cluster_items, with_clusters
from steersman_training.data.report import report_line
from steersman_training.data.sequences import Split

MOST_CONCEPTS = 256  # values of all attributes together that become concepts
SHOWN = 5  # values that are named where some of an attribute say nothing


class Choice(NamedTuple):
    """What became of the values of one attribute."""

    held: Holders
    shared_V: BoolArray  # enough items have them, and not (nearly) all
    telling_V: BoolArray  # and these are taken up together
    chosen_V: BoolArray  # and they are among the MOST_CONCEPTS with the most events


@dataclass(frozen=True)
class DescribedItems:
    """The item table with the clusters, and the values that become concepts."""

    items: pl.DataFrame
    clusters: Clusters
    values: AttributeValues
    choices: tuple[Choice, ...]
    min_items: int
    clusters_are_values: bool  # else the item table has an attribute of that name

    @staticmethod
    def of(items: pl.DataFrame, split: Split, min_items: int) -> "DescribedItems":
        """From the training events of `split`. A value needs `min_items` items to become a concept."""
        clusters, events_N = cluster_items(split, min_items), split.popularity()
        made = ATTRIBUTE not in items.columns
        items = with_clusters(items, clusters)
        choices = _choices(list(all_holders(items)), clusters, events_N, min_items, ATTRIBUTE if made else "")
        values = AttributeValues.held([choice.held.only(choice.chosen_V) for choice in choices], items.height)
        return DescribedItems(items, clusters, values, tuple(choices), min_items, made)

    def lines(self) -> Iterator[str]:
        """What becomes a concept, and what does not and why, in the manner of a data report."""
        some = [choice for choice in self.choices if choice.chosen_V.any()]
        counts = (
            f"{choice.held.attribute}: {int(choice.chosen_V.sum()):,} of {_values(len(choice.held.values))}"
            for choice in some
        )
        yield report_line("concepts", "; ".join(counts) or "of numbers only")
        if not self.clusters_are_values:
            yield report_line("clusters", f"none: the item table has an attribute {ATTRIBUTE}, which is kept")
        if rare := _each(self.choices, lambda choice: ~choice.shared_V, named=False):
            yield report_line("not shared", f"{rare}: of fewer than {self.min_items} items, or of (nearly) all")
        if silent := _each(self.choices, lambda choice: choice.shared_V & ~choice.telling_V, named=True):
            yield report_line(
                "say nothing", f"{silent}: their items are taken up together no more than items drawn at random"
            )
        if capped := _each(self.choices, lambda choice: choice.telling_V & ~choice.chosen_V, named=False):
            yield report_line("left out", f"{capped}: {MOST_CONCEPTS} make concepts, those with the most events")


def _choices(
    holders: list[Holders], clusters: Clusters, events_N: npt.NDArray[np.float64], min_items: int, made: str
) -> list[Choice]:
    """`made`: the attribute of the clusters, which are made of what is taken up together, so that nothing is to be tested."""
    shared = [held.shared_V(len(events_N), min_items) for held in holders]
    given = [held.only(shared_V) for held, shared_V in zip(holders, shared, strict=True) if held.attribute != made]
    told = dict(zip((held.attribute for held in given), say_something(given, clusters, events_N), strict=True))
    telling = [shared_V.copy() for shared_V in shared]
    for held, telling_V in zip(holders, telling, strict=True):
        if held.attribute != made:
            telling_V[telling_V] = told[held.attribute]
    weights = [
        np.where(telling_V, held.weights_V(events_N), -1.0) for held, telling_V in zip(holders, telling, strict=True)
    ]
    return [Choice(*parts) for parts in zip(holders, shared, telling, _most(weights), strict=True)]


def _most(weights: list[npt.NDArray[np.float64]]) -> list[BoolArray]:
    """The MOST_CONCEPTS largest weights of several attributes, among them the largest of each. Those below 0 do not count."""
    if not weights:
        return []
    weight_V = np.concatenate(weights)
    first_V = np.concatenate([_is_first(np.argsort(-weights_V, kind="stable")) for weights_V in weights])
    order = np.lexsort((-weight_V, ~first_V))
    chosen_V = np.zeros(len(weight_V), dtype=np.bool_)
    chosen_V[order[weight_V[order] >= 0][:MOST_CONCEPTS]] = True
    return np.split(chosen_V, np.cumsum([len(weights_V) for weights_V in weights])[:-1])


def _is_first(order_V: IntArray) -> BoolArray:
    first_V: BoolArray = np.isin(np.arange(len(order_V)), order_V[:1])
    return first_V


def _each(choices: Iterable[Choice], which: Callable[[Choice], BoolArray], *, named: bool) -> str:
    """How many values of each attribute: "genres: 3 of 18 values", and of few the names; "" for none."""
    said = []
    for choice in choices:
        values = [value for value, meant in zip(choice.held.values, which(choice), strict=True) if meant]
        if values:
            every = len(values) == len(choice.held.values)
            count = f"all {_values(len(values))}" if every else f"{len(values):,} of {_values(len(choice.held.values))}"
            names = f" ({', '.join(values[:SHOWN])}{', ...' * (len(values) > SHOWN)})" if named else ""
            said.append(f"{choice.held.attribute}: {count}{names}")
    return "; ".join(said)


def _values(count: int) -> str:
    return f"{count:,} value{'s' * (count != 1)}"
