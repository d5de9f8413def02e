"""What scores are made of: features, the rest of the hidden state, biases, and what each control adds. The parts sum to the score.

Dimensions: B batch, D hidden, F features, A active features, E edits, M controls, N items, R items accounted for, J features
named, S states.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.graphs import Graphs, Pool
from steersman_service.engine.observer import SILENT, Observer, timed
from steersman_service.engine.padding import padded_edits
from steersman_service.engine.request import Account, AccountQuery, Cost, Edits, EngineRequest
from steersman_service.engine.search import Searcher

# States that `upper` is run on at a time, and items whose covariance is summed at a time: they bound memory.
STATES_TOGETHER, ITEMS_TOGETHER = 64, 8192
DISCOVERED = "discovered"
# The graph `edit` of no edit gives activations all the same.
NO_CHANGE = Edits(np.zeros(1, np.int64), np.ones(1, np.float32), np.zeros(1, np.float32))
# Of scores. Smaller ones are rounding: no feature makes a difference.
LEAST_VARIANCE = 1e-12


class Spread(NamedTuple):
    """How the items' vectors and biases vary together, over all items."""

    items_DD: Array
    """Covariance of the vectors."""
    biases_D: Array
    """Covariance of the vectors with the biases."""
    bias: float
    """Variance of the biases."""


class _Parts(NamedTuple):
    """A query as a sum: of one vector for each active feature, the rest, and one for each control. Double precision."""

    active_A: Array
    """Rows of the features."""
    steps_AD: Array
    rest_D: Array
    controls_MD: Array
    edited_D: Array
    """After all edits: the sum of all, but for rounding."""


class Accountant:
    """s_i = sum_f z_f (W_dec[f] . v_i) + rest . v_i + b_i + sum_m change_m . v_i, over the active discovered features f and the controls m.

    Anchored features take no part in the reconstruction: they add to scores only what edits make them add, which is their controls'.
    Controls on one feature share its change: each is given what it adds to those before it, in their order.

    Where the hook lies below the last block, scores are not linear in the state. Then features are taken away one after the other, the
    smallest first, and after the state is whole again controls are added one after the other; each is given the change of the query,
    so that the parts sum to the score all the same (completeness: Sundararajan et al., arXiv 1703.01365).
    """

    def __init__(self, graphs: Graphs, searcher: Searcher, observer: Observer = SILENT) -> None:
        self._graphs = graphs
        self._searcher = searcher
        self._observer = observer
        self._bundle = graphs.bundle

    def accounts(self, batch: Sequence[EngineRequest], pool: Pool) -> list[Account | None]:
        """Of the requests that ask for one; `pool` has the states before any edit."""
        accounts: list[Account | None] = [None] * len(batch)
        rows = [row for row, request in enumerate(batch) if request.account is not None]
        if not rows:
            return accounts
        with timed(self._observer, "account"):
            pool = self._graphs.select(pool, ("edit", "upper"), rows, len(batch))
            edits = [batch[row].edits if len(batch[row].edits.features_E) else NO_CHANGE for row in rows]
            outputs = self._graphs.run("edit", pool | self._graphs.put(padded_edits(edits)))
            fetched = self._graphs.backend.fetch([pool["h_BD"], outputs["edited_BD"], outputs["z_BF"]])
            for place, (row, *states) in enumerate(zip(rows, *fetched, strict=True)):
                query = batch[row].account
                assert query is not None
                assert not len(batch[row].concepts_C), "an account names the edits that concepts came down to"
                accounts[row] = self._account(query, batch[row].edits, place, len(rows), pool, *states)
        return accounts

    def with_account(self, cost: Cost, request: EngineRequest) -> Cost:
        """`cost` with what its account takes: as much as a request, and below the last block `upper` of a history for each part."""
        positions = 0
        if not self._searcher.is_query and request.account and request.account.top:
            positions = len(request.ids_T) * (self._bundle.manifest.autoencoder.active + request.account.controls)
        return cost._replace(requests=cost.requests + 1, positions=cost.positions + positions)

    def _account(
        self,
        query: AccountQuery,
        edits: Edits,
        row: int,
        size: int,
        pool: Pool,
        h_D: Array,
        edited_D: Array,
        z_F: Array,
    ) -> Account:
        """`row` of the `size` ones in `pool`."""
        activations_F = np.divide(z_F, self._scale_F, out=np.zeros_like(z_F), where=self._scale_F > 0)
        if not query.top:
            return _only(activations_F)
        parts = self._parts(query, edits, h_D, edited_D, z_F)
        if not self._searcher.is_query:
            parts = self._through_upper(parts, row, size, pool)
        plain_D = parts.steps_AD.sum(0) + parts.rest_D
        shares_A = self._shares(parts.steps_AD, plain_D)
        tasted = np.argsort(-shares_A, kind="stable")[: query.top]
        items_RD = self._bundle.items_ND[query.rows_R].astype(np.float64)
        biases_R = self._bundle.biases_N[query.rows_R].astype(np.float64)
        amounts_RA = items_RD @ parts.steps_AD.T
        named_RJ = np.argsort(-np.abs(amounts_RA), axis=1, kind="stable")[:, : query.top]
        amounts_RJ = np.take_along_axis(amounts_RA, named_RJ, 1)
        return _single(
            activations_F,
            parts.active_A[tasted],
            shares_A[tasted],
            1.0 - float(shares_A.sum()),
            items_RD @ parts.edited_D + biases_R,
            parts.active_A[named_RJ],
            amounts_RJ,
            amounts_RA.sum(1) - amounts_RJ.sum(1),
            items_RD @ parts.rest_D,
            biases_R,
            items_RD @ parts.controls_MD.T,
        )

    def _parts(self, query: AccountQuery, edits: Edits, h_D: Array, edited_D: Array, z_F: Array) -> _Parts:
        """Of the state at the hook; the smallest feature first."""
        z_F, h_D = z_F.astype(np.float64), h_D.astype(np.float64)
        active_A = np.flatnonzero(self._discovered_F & (z_F != 0))
        sizes_A = np.abs(z_F[active_A]) * np.linalg.norm(self._decoder_FD[active_A], axis=1)
        active_A = active_A[np.argsort(sizes_A, kind="stable")]
        steps_AD = z_F[active_A, None] * self._decoder_FD[active_A]
        controls_MD = self._changes(query, edits, z_F)
        return _Parts(active_A, steps_AD, h_D - steps_AD.sum(0), controls_MD, edited_D.astype(np.float64))

    def _changes(self, query: AccountQuery, edits: Edits, z_F: Array) -> Array:
        """What each control adds to the state, on top of those before it. (M, D)"""
        changes_MD = np.zeros((query.controls, self._decoder_FD.shape[1]))
        gains_F, strengths_F, scale_F = np.ones(len(z_F)), np.zeros(len(z_F)), self._scale_F.astype(np.float64)
        for control in np.unique(query.owners_E):
            own_E = query.owners_E == control
            features_E = edits.features_E[own_E]
            touched = np.unique(features_E)
            before = gains_F[touched] * z_F[touched] + strengths_F[touched] * scale_F[touched]
            np.multiply.at(gains_F, features_E, edits.gains_E[own_E])
            np.add.at(strengths_F, features_E, edits.strengths_E[own_E])
            after = gains_F[touched] * z_F[touched] + strengths_F[touched] * scale_F[touched]
            changes_MD[control] = (after - before) @ self._decoder_FD[touched]
        return changes_MD

    def _through_upper(self, parts: _Parts, row: int, size: int, pool: Pool) -> _Parts:
        """Parts of the query, from those of a state below the last block: the differences along the path that the class describes."""
        whole_D = parts.steps_AD.sum(0) + parts.rest_D
        taken_SD = np.vstack([whole_D, whole_D - np.cumsum(parts.steps_AD, axis=0)])
        steered_SD = whole_D + np.cumsum(parts.controls_MD, axis=0)
        queries_SD = self._queries(np.vstack([taken_SD, steered_SD, parts.edited_D]), row, size, pool)
        taken_SD, steered_SD = queries_SD[: len(taken_SD)], queries_SD[len(taken_SD) : -1]
        steps_AD = taken_SD[:-1] - taken_SD[1:]
        controls_MD = np.diff(steered_SD, axis=0, prepend=taken_SD[:1])
        return _Parts(parts.active_A, steps_AD, taken_SD[-1], controls_MD, queries_SD[-1])

    def _queries(self, states_SD: Array, row: int, size: int, pool: Pool) -> Array:
        """By `upper`, each beside the context of the history in `row`. (S, D), double precision"""
        queries = []
        for begin in range(0, len(states_SD), STATES_TOGETHER):
            together = states_SD[begin : begin + STATES_TOGETHER].astype(np.float32)
            own = self._graphs.select(pool, ["upper"], [row] * len(together), size)
            own["h_BD"] = self._graphs.backend.put(together)
            queries.append(self._graphs.backend.get(self._searcher.queries(own)).astype(np.float64))
        return np.concatenate(queries)

    def _shares(self, steps_AD: Array, plain_D: Array) -> Array:
        """Covariance of each step's scores with all of the plain scores, biases included, by the variance of these. (A)"""
        spread = self.spread
        with_scores_D = spread.items_DD @ plain_D + spread.biases_D
        variance = plain_D @ with_scores_D + spread.biases_D @ plain_D + spread.bias
        if variance < LEAST_VARIANCE:
            return np.zeros(len(steps_AD))
        shares_A: Array = steps_AD @ with_scores_D / variance
        return shares_A

    @cached_property
    def spread(self) -> Spread:
        """Computed once, when it is first asked for: N D^2 multiplications."""
        items_ND, biases_N = self._bundle.items_ND, self._bundle.biases_N.astype(np.float64)
        size, hidden = items_ND.shape
        mean_D, biases_N = items_ND.mean(0, dtype=np.float64), biases_N - biases_N.mean()
        items_DD, with_biases_D = np.zeros((hidden, hidden)), np.zeros(hidden)
        for begin in range(0, size, ITEMS_TOGETHER):
            part_ND = (items_ND[begin : begin + ITEMS_TOGETHER] - mean_D).astype(np.float32)
            items_DD += part_ND.T @ part_ND
            with_biases_D += part_ND.T @ biases_N[begin : begin + ITEMS_TOGETHER]
        return Spread(items_DD / size, with_biases_D / size, float(biases_N @ biases_N) / size)

    @property
    def _decoder_FD(self) -> Array:
        decoder_FD = self._bundle.decoder_FD
        assert decoder_FD is not None, "accounts are refused for a bundle without directions of its features"
        return decoder_FD

    @cached_property
    def _discovered_F(self) -> Array:
        return np.array([kind == DISCOVERED for kind in self._bundle.features["kind"].to_pylist()], np.bool_)

    @cached_property
    def _scale_F(self) -> Array:
        return self._bundle.features["scale"].to_numpy().astype(np.float32)


def _only(activations_F: Array) -> Account:
    """Without items and taste."""
    none, table, rows = np.zeros(0), np.zeros((0, 0)), np.zeros(0, np.int64)
    return _single(activations_F, rows, none, 1.0, none, table.astype(np.int64), table, none, none, none, table)


def _single(*parts: Any) -> Account:
    """An account of `parts`, in single precision."""
    doubles = (isinstance(part, np.ndarray) and part.dtype == np.float64 for part in parts)
    return Account(
        *(part.astype(np.float32) if is_double else part for part, is_double in zip(parts, doubles, strict=True))
    )
