"""Labels: for each feature, the term of the vocabulary that best describes the items at which it fires.

Dimensions: S states, F features, V terms, N items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman_training.catalogue.aims import NUMERIC, Aim
from steersman_training.catalogue.clusters import ATTRIBUTE as CLUSTER
from steersman_training.catalogue.vocabulary import DECADE, TITLE, Part, Vocabulary
from steersman_training.data.items import YEAR
from steersman_training.data.titles import readable_title

CHOSEN_SHARE = 0.75  # Part of the items that labels are chosen on. On the others it can be seen what they are worth.
MIN_FIT = 0.25  # below this, no term is said to describe a feature
DOUBT_ITEMS = 3  # a term of n items counts n / (n + this): of few items, the best fit is soon a chance one
PAIR_WORTH = 0.9  # of the fit of a pair: it must clearly beat its parts
CLUSTER_WORTH = 0.8  # of the fit of a term with a cluster: a cluster describes, a value explains
TERMS_AT_ONCE = 256  # whose fit is computed together, so that memory does not grow with the vocabulary
TERMS_TRIED = 5  # those that fit best, until one agrees with the items at which the feature is most active
SHOWN_ITEMS = 3  # items in the label of a feature that stands for a cluster
STANDING_ITEMS = 10  # items that a feature is taken to stand for
UNCLEAR, NEVER_ACTIVE = "no clear meaning", "never active"


@dataclass(frozen=True)
class Labels:
    """The label of each feature, and the items that it predicts."""

    label: list[str]  # in words: "1970s Sci-Fi, as in Alien (1979)"; UNCLEAR where no term fits
    description: list[tuple[Part, ...]]  # its attributes and values; none if no term fits
    predicted_FN: Tensor  # bool: the items that it covers; without a term, those where the feature is strongest
    chosen_N: Tensor  # the items that labels were chosen on (bool): tests of their predictions leave these out

    def joined(self, others: "Labels") -> "Labels":
        """These, and those of further features."""
        predicted_FN = torch.cat([self.predicted_FN, others.predicted_FN])
        return Labels(self.label + others.label, self.description + others.description, predicted_FN, self.chosen_N)


def label_features(means_FN: Tensor, events_N: Tensor, vocabulary: Vocabulary, titles: list[str]) -> Labels:
    """From each feature's mean activation at each item, and the number of states of that mean (0: unknown)."""
    drawn_N = torch.rand(len(titles), generator=torch.Generator().manual_seed(0)).to(means_FN.device)
    chosen_N = (drawn_N < CHOSEN_SHARE) & (events_N > 0)
    member_VN = vocabulary.member_VN.to(means_FN.device)
    fit_FV = _fit(means_FN, events_N * chosen_N, member_VN) * _worth(vocabulary.terms, (member_VN & chosen_N).sum(1))
    strength_FN = means_FN * (events_N * chosen_N).log1p()  # an item of few events explains nothing
    texts, descriptions, predicted = [], [], []
    for mean_N, strength_N, fit_V in zip(means_FN, strength_FN, fit_FV, strict=True):
        best = fit_V.topk(min(TERMS_TRIED, len(fit_V)))
        fitting = [
            term for term, fit in zip(best.indices.tolist(), best.values.tolist(), strict=True) if fit >= MIN_FIT
        ]
        term = next((term for term in fitting if agrees(member_VN[term], mean_N * chosen_N)), None)
        if term is not None and not agrees(member_VN[term], mean_N):
            term = None  # the other items choose no label, but may withdraw one
        parts = () if term is None else vocabulary.terms[term]
        covered_N = torch.zeros_like(chosen_N) if term is None else member_VN[term]
        if term is None:
            covered_N[_strongest(strength_N, STANDING_ITEMS)] = True
        shown = _strongest(strength_N * covered_N, SHOWN_ITEMS)
        texts.append(_text(parts, [readable_title(titles[row]) for row in shown]))
        descriptions.append(parts)
        predicted.append(covered_N)
    return Labels(texts, descriptions, torch.stack(predicted), chosen_N)


def label_anchors(means_VN: Tensor, events_N: Tensor, aims: list[Aim], titles: list[str]) -> Labels:
    """Anchored features are called by their aims. Arguments as above; no item was chosen on."""
    texts: list[str] = []
    descriptions: list[tuple[Part, ...]] = []
    for aim, mean_N in zip(aims, means_VN, strict=True):
        parts: tuple[Part, ...] = () if aim.value == NUMERIC else ((aim.attribute, aim.value),)
        shown = _strongest(mean_N * events_N.log1p() * aim.member_N, SHOWN_ITEMS)
        named = [readable_title(titles[row]) for row in shown]
        texts.append(_text(parts, named) if parts else f"high {aim.attribute}")
        descriptions.append(parts)
    members = [aim.member_N.to(means_VN.device) for aim in aims]
    predicted_VN = torch.stack(members) if members else torch.zeros_like(means_VN, dtype=torch.bool)
    return Labels(texts, descriptions, predicted_VN, torch.zeros_like(events_N, dtype=torch.bool))


def agrees(covered_N: Tensor, mean_N: Tensor) -> bool:
    """Whether at least half of the items at which a feature is most active are covered by a term: a label may not contradict them."""
    strongest = _strongest(mean_N, STANDING_ITEMS)
    return int(covered_N[strongest].sum()) >= len(strongest) / 2


def _fit(means_FN: Tensor, weights_N: Tensor, member_VN: Tensor) -> Tensor:
    """Pearson correlation, over weighted items, of mean activation and membership; 0 if either does not vary. (F, V)"""
    weights_N = weights_N / weights_N.sum().clamp_min(1)
    x_FN = means_FN - (means_FN @ weights_N)[:, None]
    spread_F, x_FN = x_FN.square() @ weights_N, x_FN * weights_N
    parts = []
    for part_VN in member_VN.split(TERMS_AT_ONCE):
        y_VN = part_VN.float() - (part_VN.float() @ weights_N)[:, None]
        spread_FV = (spread_F[:, None] * (y_VN.square() @ weights_N)).sqrt()
        parts.append((x_FN @ y_VN.T / spread_FV.clamp_min(1e-12)).clamp(-1, 1))
    return torch.cat(parts, dim=1)


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
    if not parts:
        return UNCLEAR if shown else NEVER_ACTIVE
    if len(said) < len(parts):
        like = "like " + ("; ".join(shown) or next(value for attribute, value in parts if attribute == CLUSTER))
        return f"{joined}, {like}" if joined else like
    return f"{joined}, as in {shown[0]}" if shown else joined
