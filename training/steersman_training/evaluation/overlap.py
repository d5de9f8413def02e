"""Rank-biased overlap of two lists. Dimensions: B users, K items of a list."""

import torch
from torch import Tensor


def rbo(one_BK: Tensor, other_BK: Tensor, p: float = 0.9) -> Tensor:
    """Rank-biased overlap of two lists (Webber et al., ACM TOIS 2010), from 0 to 1. (B,)

    With A_d the share that the first d items of both have in common: (1 - p) sum_{d=1..K} p^(d-1) A_d + p^K A_K. That is their extrapolated
    RBO (equation 32 for lists of one length): the items beyond K are assumed to agree as the K items do, so that equal lists give 1.
    Items of a list must be distinct.
    """
    depth_K = torch.arange(1, one_BK.shape[1] + 1, device=one_BK.device)
    same_BKK = one_BK[:, :, None] == other_BK[:, None, :]
    agreement_BK = same_BKK.long().cumsum(1).cumsum(2).diagonal(dim1=1, dim2=2) / depth_K
    return (1 - p) * (agreement_BK @ p ** (depth_K - 1.0)) + p ** one_BK.shape[1] * agreement_BK[:, -1]
