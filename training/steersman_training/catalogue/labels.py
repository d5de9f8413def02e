"""Labels: for each feature, the term of the vocabulary that best describes the items at which it fires.

Dimensions: S states, F features, V terms, N items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman_training.catalogue.clusters import ATTRIBUTE as CLUSTER
from steersman_training.catalogue.vocabulary import DECADE, TITLE, Part, Vocabulary
from steersman_training.data.items import YEAR
from steersman_training.data.titles import readable_title

CHOSEN_SHARE = 0.75  # Part of the items that labels are chosen on. On the others it can be seen what they are worth.
MIN_FIT = 0.25  # below this, no term is said to describe a feature
DOUBT_ITEMS = 3  # a term of n items counts n / (n + this): of few items, the best fit is soon a chance one
PAIR_WORTH = 0.9  # of the fit of a pair: it must clearly beat its parts
CLUSTER_WORTH = 0.8  # of the fit of a term with a cluster: a cluster describes, a value explains
SHOWN_ITEMS = 3  # items in the label of a feature without a term
STANDING_ITEMS = 10  # items that it is then taken to be about


@dataclass(frozen=True)
class Labels:
    """The label of each feature, and the items that it predicts."""

    label: list[str]  # in words: "1970s Sci-Fi, as in Alien (1979)"
    description: list[tuple[Part, ...]]  # its attributes and values; none if no term fits
    predicted_FN: Tensor  # bool: the items that it covers; without a term, those where the feature is strongest
    chosen_N: Tensor  # the items that labels were chosen on (bool): tests of their predictions leave these out


def label_features(means_FN: Tensor, events_N: Tensor, vocabulary: Vocabulary, titles: list[str]) -> Labels:
    """From each feature's mean activation at each item, and the number of states of that mean (0: unknown)."""
    drawn_N = torch.rand(len(titles), generator=torch.Generator().manual_seed(0)).to(means_FN.device)
    chosen_N = (drawn_N < CHOSEN_SHARE) & (events_N > 0)
    member_VN = vocabulary.member_VN.to(means_FN.device)
    fit_FV = _fit(means_FN, events_N * chosen_N, member_VN) * _worth(vocabulary.terms, (member_VN & chosen_N).sum(1))
    strength_FN = means_FN * (events_N * chosen_N).log1p()  # an item of few events explains nothing
    texts, descriptions, predicted = [], [], []
    for strength_N, fit_V in zip(strength_FN, fit_FV, strict=True):
        term = int(fit_V.argmax()) if len(fit_V) else 0
        parts = vocabulary.terms[term] if len(fit_V) and float(fit_V[term]) >= MIN_FIT else ()
        covered_N = member_VN[term] if parts else torch.zeros_like(chosen_N)
        if not parts:
            covered_N[_strongest(strength_N, STANDING_ITEMS)] = True
        shown = _strongest(strength_N * covered_N, SHOWN_ITEMS)
        texts.append(_text(parts, [readable_title(titles[row]) for row in shown]))
        descriptions.append(parts)
        predicted.append(covered_N)
    return Labels(texts, descriptions, torch.stack(predicted), chosen_N)


def _fit(means_FN: Tensor, weights_N: Tensor, member_VN: Tensor) -> Tensor:
    """Pearson correlation, over weighted items, of mean activation and membership; 0 if either does not vary. (F, V)"""
    weights_N = weights_N / weights_N.sum().clamp_min(1)
    x_FN = means_FN - (means_FN @ weights_N)[:, None]
    y_VN = member_VN.float() - (member_VN.float() @ weights_N)[:, None]
    spread_FV = ((x_FN.square() @ weights_N)[:, None] * (y_VN.square() @ weights_N)).sqrt()
    return ((x_FN * weights_N) @ y_VN.T / spread_FV.clamp_min(1e-12)).clamp(-1, 1)


def _worth(terms: list[tuple[Part, ...]], items_V: Tensor) -> Tensor:
    """The weight of a term's fit, by its simplicity and its number of items. (V,)"""
    simple = [
        PAIR_WORTH ** (len(parts) - 1) * (CLUSTER_WORTH if any(part[0] == CLUSTER for part in parts) else 1.0)
        for parts in terms
    ]
    return torch.tensor(simple, device=items_V.device) * items_V / (items_V + DOUBT_ITEMS)


def _strongest(strength_N: Tensor, count: int) -> list[int]:
    """Rows of the largest values above zero."""
    best = strength_N.topk(min(count, len(strength_N)))
    return [row for row, value in zip(best.indices.tolist(), best.values.tolist(), strict=True) if value > 0]


def _text(parts: tuple[Part, ...], shown: list[str]) -> str:
    """Times first, as in "1970s Sci-Fi"; a cluster is described by the feature's own items in it."""
    order = (DECADE, YEAR)
    said = sorted((part for part in parts if part[0] != CLUSTER), key=lambda part: part[0] not in order)
    words = [f"“{value}” titles" if attribute == TITLE else value for attribute, value in said]
    joined = (" " if said and said[0][0] in order else " & ").join(words)
    if len(said) < len(parts) or not parts:
        like = "like " + "; ".join(shown) if shown else "never active"
        return f"{joined}, {like}" if joined else like
    return f"{joined}, as in {shown[0]}" if shown else joined
