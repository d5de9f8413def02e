"""Accounts of scores: what the engine is asked for, and what of them lies outside of the hidden state.

Dimensions: E edits, F features, J features named, R items accounted for, M controls, V variants of a history.
"""

from collections.abc import Sequence

import numpy as np

from steersman.v1.control_pb2 import AppliedControl
from steersman_service.bundle.bundle import Array
from steersman_service.bundle.items import Items
from steersman_service.engine.request import Account, AccountQuery, Edits, EngineRequest
from steersman_service.steering.tilts import tilts

# Changes of an activation below this, in natural maxima, are rounding.
LEAST_CHANGE = 1e-4


def account_request(
    request: EngineRequest, applied: Sequence[AppliedControl], rows_R: Array, top: int
) -> EngineRequest:
    """Asks for the account of `rows_R` under the controls that an answer says were applied: their edits are what was done."""
    edits = [(control, edit) for control, one in enumerate(applied) for edit in one.edits]
    return EngineRequest(
        request.ids_T,
        Edits(
            np.array([edit.feature_id for _, edit in edits], np.int64),
            np.array([edit.gain for _, edit in edits], np.float32),
            np.array([edit.strength for _, edit in edits], np.float32),
        ),
        k=1,
        grows=request.grows,
        account=AccountQuery(rows_R, np.array([control for control, _ in edits], np.int64), len(applied), top),
    )


def activation_request(request: EngineRequest, place: int) -> EngineRequest:
    """Asks for the activations without the event at `place` of the window."""
    return EngineRequest(np.delete(request.ids_T, place), k=1, account=AccountQuery(top=0))


def with_tilts(account: Account, applied: Sequence[AppliedControl], items: Items, rows_R: Array) -> Account:
    """`account` of `rows_R`, with what the controls on attributes add to scores."""
    tilts_RM = np.zeros((len(rows_R), len(applied)))
    for place, one in enumerate(applied):
        if one.control.HasField("attribute") and (tilts_N := tilts([one.control], items)) is not None:
            tilts_RM[:, place] = tilts_N[rows_R]
    return account._replace(scores_R=account.scores_R + tilts_RM.sum(1), controls_RM=account.controls_RM + tilts_RM)


def strongest_changes(with_all_F: Array, without_VF: Array, feature: int, most: int) -> list[tuple[int, float]]:
    """The variants that change the activation of `feature` most, at most `most`, and by how much each differs from `with_all_F`."""
    changes_V = with_all_F[feature] - without_VF[:, feature]
    order = np.argsort(-np.abs(changes_V), kind="stable")[:most].tolist()
    return [(place, float(changes_V[place])) for place in order if abs(changes_V[place]) >= LEAST_CHANGE]
