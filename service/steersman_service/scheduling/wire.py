"""Messages between front ends and engine hosts, in frames over a Unix socket. Arrays travel as their bytes."""

from typing import Any

import msgspec
import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.request import Account, AccountQuery, Edits, EngineRequest, EngineResult, Variant
from steersman_service.errors import DeadlinePassed, DeadlineTooNear, Draining, EngineLost, QueueFull, RequestError

Kind = np.dtype[Any]
# As such: a type would be looked up for every array.
INT64, FLOAT32, BOOL = (np.dtype(kind) for kind in (np.int64, np.float32, np.bool_))
# Errors that cross as themselves; any other one crosses as its text.
ERRORS: dict[str, type[RequestError]] = {
    error.reason: error for error in (QueueFull, DeadlineTooNear, DeadlinePassed, Draining)
}


class WireEdits(msgspec.Struct, array_like=True, gc=False):
    """Edits: int64, float32, float32."""

    features: bytes
    gains: bytes
    strengths: bytes

    @classmethod
    def of(cls, edits: Edits) -> "WireEdits":
        return cls(_bytes(edits.features_E, INT64), _bytes(edits.gains_E), _bytes(edits.strengths_E))

    def edits(self) -> Edits:
        return Edits(_array(self.features, INT64), _array(self.gains), _array(self.strengths))


class WireAccountQuery(msgspec.Struct, array_like=True, gc=False):
    """AccountQuery: int64, int64."""

    rows: bytes
    owners: bytes
    controls: int
    top: int

    @classmethod
    def of(cls, query: AccountQuery) -> "WireAccountQuery":
        return cls(_bytes(query.rows_R, INT64), _bytes(query.owners_E, INT64), query.controls, query.top)

    def query(self) -> AccountQuery:
        return AccountQuery(_array(self.rows, INT64), _array(self.owners, INT64), self.controls, self.top)


class WireAccount(msgspec.Struct, array_like=True, gc=False):
    """Account: its arrays in float32, but for rows of features, which are int64."""

    activations: bytes
    taste: bytes
    shares: bytes
    unexplained_share: float
    scores: bytes
    features: bytes
    amounts: bytes
    other: bytes
    unexplained: bytes
    biases: bytes
    controls: bytes

    @classmethod
    def of(cls, account: Account) -> "WireAccount":
        return cls(
            _bytes(account.activations_F),
            _bytes(account.taste_J, INT64),
            _bytes(account.shares_J),
            account.unexplained_share,
            _bytes(account.scores_R),
            _bytes(account.features_RJ, INT64),
            *(_bytes(array) for array in account[6:]),
        )

    def account(self) -> Account:
        scores_R = _array(self.scores)
        return Account(
            _array(self.activations),
            _array(self.taste, INT64),
            _array(self.shares),
            self.unexplained_share,
            scores_R,
            _table(_array(self.features, INT64), len(scores_R)),
            _table(_array(self.amounts), len(scores_R)),
            _array(self.other),
            _array(self.unexplained),
            _array(self.biases),
            _table(_array(self.controls), len(scores_R)),
        )


class WireVariant(msgspec.Struct, array_like=True, gc=False):
    """A Variant."""

    edits: WireEdits
    concepts: bytes
    concept_strengths: bytes
    tilts: bytes | None

    @classmethod
    def of(cls, variant: Variant) -> "WireVariant":
        return cls(
            WireEdits.of(variant.edits),
            _bytes(variant.concepts_C, INT64),
            _bytes(variant.concept_strengths_C),
            None if variant.tilts_N is None else _bytes(variant.tilts_N),
        )

    def variant(self) -> Variant:
        return Variant(
            self.edits.edits(),
            _array(self.concepts, INT64),
            _array(self.concept_strengths),
            None if self.tilts is None else _array(self.tilts),
        )


class Submit(msgspec.Struct, array_like=True, tag=0, gc=False):
    """A request. Its `number` is the connection's."""

    number: int
    deadline: float
    """In seconds of time.monotonic(), which all processes of a machine share."""
    tenant: str
    spare: bool
    """Only if the engine is idle; otherwise it is answered with Busy."""
    ids: bytes
    edits: WireEdits
    concepts: bytes
    concept_strengths: bytes
    eligible: bytes | None
    k: int
    tilts: bytes | None
    excluded: bytes
    grows: bool
    account: WireAccountQuery | None
    divergence: bool
    variants: list[WireVariant]
    trace: bytes = b""
    """Context of the call's trace, if it is recorded."""

    @classmethod
    def of(
        cls, number: int, request: EngineRequest, deadline: float, tenant: str, spare: bool, trace: bytes = b""
    ) -> "Submit":
        return cls(
            number,
            deadline,
            tenant,
            spare,
            _bytes(request.ids_T, INT64),
            WireEdits.of(request.edits),
            _bytes(request.concepts_C, INT64),
            _bytes(request.concept_strengths_C),
            None if request.eligible_N is None else _bytes(request.eligible_N, BOOL),
            request.k,
            None if request.tilts_N is None else _bytes(request.tilts_N),
            _bytes(request.excluded_X, INT64),
            request.grows,
            None if request.account is None else WireAccountQuery.of(request.account),
            request.divergence,
            [WireVariant.of(variant) for variant in request.variants] if request.variants else [],
            trace,
        )

    def request(self) -> EngineRequest:
        return EngineRequest(
            ids_T=_array(self.ids, INT64),
            edits=self.edits.edits(),
            concepts_C=_array(self.concepts, INT64),
            concept_strengths_C=_array(self.concept_strengths),
            eligible_N=None if self.eligible is None else _array(self.eligible, BOOL),
            k=self.k,
            tilts_N=None if self.tilts is None else _array(self.tilts),
            excluded_X=_array(self.excluded, INT64),
            grows=self.grows,
            account=None if self.account is None else self.account.query(),
            divergence=self.divergence,
            variants=[variant.variant() for variant in self.variants] if self.variants else (),
        )


class Cancel(msgspec.Struct, array_like=True, tag=1, gc=False):
    """The caller of this request has gone."""

    number: int


class Hello(msgspec.Struct, array_like=True, tag=0, gc=False):
    """First message of an engine host."""

    version: str
    """Of its bundle."""
    backend: str
    device: str


class Result(msgspec.Struct, array_like=True, tag=1, gc=False):
    """An EngineResult."""

    number: int
    rows: bytes
    scores: bytes
    concept_edits: list[WireEdits]
    queue_seconds: float
    inference_seconds: float
    batch_size: int
    account: WireAccount | None
    divergence: float | None
    variants: list["Result"]

    @classmethod
    def of(cls, number: int, result: EngineResult) -> "Result":
        return cls(
            number,
            _bytes(result.rows_K, INT64),
            _bytes(result.scores_K),
            [WireEdits.of(edits) for edits in result.concept_edits],
            result.queue_seconds,
            result.inference_seconds,
            result.batch_size,
            None if result.account is None else WireAccount.of(result.account),
            result.divergence,
            [cls.of(number, variant) for variant in result.variants] if result.variants else [],
        )

    def result(self) -> EngineResult:
        return EngineResult(
            rows_K=_array(self.rows, INT64),
            scores_K=_array(self.scores),
            concept_edits=[edits.edits() for edits in self.concept_edits],
            queue_seconds=self.queue_seconds,
            inference_seconds=self.inference_seconds,
            batch_size=self.batch_size,
            account=None if self.account is None else self.account.account(),
            divergence=self.divergence,
            variants=[variant.result() for variant in self.variants] if self.variants else (),
        )


class Failure(msgspec.Struct, array_like=True, tag=2, gc=False):
    """A refusal, or an error of the engine."""

    number: int
    reason: str
    message: str
    retry_seconds: float | None

    @classmethod
    def of(cls, number: int, error: BaseException) -> "Failure":
        if isinstance(error, RequestError):
            return cls(number, error.reason, error.message, error.retry_seconds)
        return cls(number, "", repr(error), None)

    def error(self) -> Exception:
        if self.reason == EngineLost.reason:
            return EngineLost()
        if self.reason in ERRORS:
            return ERRORS[self.reason](self.message, retry_seconds=self.retry_seconds)
        return RuntimeError(f"in the engine host: {self.message}")


class Busy(msgspec.Struct, array_like=True, tag=3, gc=False):
    """The engine was not idle: a spare request was not computed."""

    number: int


class Wait(msgspec.Struct, array_like=True, tag=4, gc=False):
    """How long a request that comes now is expected to wait until it is computed. With each frame."""

    seconds: float


ToEngine = Submit | Cancel
FromEngine = Hello | Result | Failure | Busy | Wait
to_engine = msgspec.msgpack.Decoder(list[ToEngine])
from_engine = msgspec.msgpack.Decoder(list[FromEngine])


def _bytes(array: Array, kind: Kind = FLOAT32) -> bytes:
    return np.asarray(array, kind).tobytes()


def _array(data: bytes, kind: Kind = FLOAT32) -> Array:
    return np.frombuffer(data, kind)


def _table(array: Array, rows: int) -> Array:
    """As so many rows; without any row, of no width."""
    return array.reshape(rows, -1 if rows else 0)
