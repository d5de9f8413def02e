from steersman.v1 import control_pb2 as _control_pb2
from steersman.v1 import item_service_pb2 as _item_service_pb2
from steersman.v1 import session_service_pb2 as _session_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AnswerPart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANSWER_PART_UNSPECIFIED: _ClassVar[AnswerPart]
    ANSWER_PART_EDITS: _ClassVar[AnswerPart]
    ANSWER_PART_RECEIPT: _ClassVar[AnswerPart]
    ANSWER_PART_ATTRIBUTES: _ClassVar[AnswerPart]
    ANSWER_PART_NONE: _ClassVar[AnswerPart]

class Degradation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADATION_UNSPECIFIED: _ClassVar[Degradation]
    DEGRADATION_SESSION_UNAVAILABLE: _ClassVar[Degradation]
    DEGRADATION_SESSION_BEHIND: _ClassVar[Degradation]

class GoalStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GOAL_STATUS_UNSPECIFIED: _ClassVar[GoalStatus]
    GOAL_STATUS_REACHED: _ClassVar[GoalStatus]
    GOAL_STATUS_NOT_REACHABLE: _ClassVar[GoalStatus]
ANSWER_PART_UNSPECIFIED: AnswerPart
ANSWER_PART_EDITS: AnswerPart
ANSWER_PART_RECEIPT: AnswerPart
ANSWER_PART_ATTRIBUTES: AnswerPart
ANSWER_PART_NONE: AnswerPart
DEGRADATION_UNSPECIFIED: Degradation
DEGRADATION_SESSION_UNAVAILABLE: Degradation
DEGRADATION_SESSION_BEHIND: Degradation
GOAL_STATUS_UNSPECIFIED: GoalStatus
GOAL_STATUS_REACHED: GoalStatus
GOAL_STATUS_NOT_REACHABLE: GoalStatus

class History(_message.Message):
    __slots__ = ("item_ids", "events_before")
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    events_before: int
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., events_before: _Optional[int] = ...) -> None: ...

class Filters(_message.Message):
    __slots__ = ("include_seen", "allow_item_ids", "deny_item_ids", "attributes")
    INCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    ALLOW_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    DENY_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    include_seen: bool
    allow_item_ids: _containers.RepeatedScalarFieldContainer[str]
    deny_item_ids: _containers.RepeatedScalarFieldContainer[str]
    attributes: _containers.RepeatedCompositeFieldContainer[AttributeFilter]
    def __init__(self, include_seen: _Optional[bool] = ..., allow_item_ids: _Optional[_Iterable[str]] = ..., deny_item_ids: _Optional[_Iterable[str]] = ..., attributes: _Optional[_Iterable[_Union[AttributeFilter, _Mapping]]] = ...) -> None: ...

class AttributeFilter(_message.Message):
    __slots__ = ("attribute", "any_of")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    ANY_OF_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    any_of: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, attribute: _Optional[str] = ..., any_of: _Optional[_Iterable[str]] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("history", "session_id", "fallback_history", "controls", "k", "filters", "request_id", "new_events", "min_session_version", "receipt", "scenario", "composition", "ignore_dislikes", "parts")
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_HISTORY_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_EVENTS_FIELD_NUMBER: _ClassVar[int]
    MIN_SESSION_VERSION_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    COMPOSITION_FIELD_NUMBER: _ClassVar[int]
    IGNORE_DISLIKES_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    history: History
    session_id: str
    fallback_history: History
    controls: _containers.RepeatedCompositeFieldContainer[_control_pb2.Control]
    k: int
    filters: Filters
    request_id: str
    new_events: _containers.RepeatedCompositeFieldContainer[_session_service_pb2.Event]
    min_session_version: int
    receipt: bool
    scenario: str
    composition: Composition
    ignore_dislikes: bool
    parts: _containers.RepeatedScalarFieldContainer[AnswerPart]
    def __init__(self, history: _Optional[_Union[History, _Mapping]] = ..., session_id: _Optional[str] = ..., fallback_history: _Optional[_Union[History, _Mapping]] = ..., controls: _Optional[_Iterable[_Union[_control_pb2.Control, _Mapping]]] = ..., k: _Optional[int] = ..., filters: _Optional[_Union[Filters, _Mapping]] = ..., request_id: _Optional[str] = ..., new_events: _Optional[_Iterable[_Union[_session_service_pb2.Event, _Mapping]]] = ..., min_session_version: _Optional[int] = ..., receipt: _Optional[bool] = ..., scenario: _Optional[str] = ..., composition: _Optional[_Union[Composition, _Mapping]] = ..., ignore_dislikes: _Optional[bool] = ..., parts: _Optional[_Iterable[_Union[AnswerPart, str]]] = ...) -> None: ...

class Composition(_message.Message):
    __slots__ = ("diversity", "most_per_value", "pinned_item_ids", "least_shares")
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    MOST_PER_VALUE_FIELD_NUMBER: _ClassVar[int]
    PINNED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    LEAST_SHARES_FIELD_NUMBER: _ClassVar[int]
    diversity: float
    most_per_value: _containers.RepeatedCompositeFieldContainer[MostPerValue]
    pinned_item_ids: _containers.RepeatedScalarFieldContainer[str]
    least_shares: _containers.RepeatedCompositeFieldContainer[LeastShare]
    def __init__(self, diversity: _Optional[float] = ..., most_per_value: _Optional[_Iterable[_Union[MostPerValue, _Mapping]]] = ..., pinned_item_ids: _Optional[_Iterable[str]] = ..., least_shares: _Optional[_Iterable[_Union[LeastShare, _Mapping]]] = ...) -> None: ...

class MostPerValue(_message.Message):
    __slots__ = ("attribute", "most")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    most: int
    def __init__(self, attribute: _Optional[str] = ..., most: _Optional[int] = ...) -> None: ...

class LeastShare(_message.Message):
    __slots__ = ("attribute", "items", "share")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    attribute: _control_pb2.AttributeRef
    items: _control_pb2.ItemSet
    share: float
    def __init__(self, attribute: _Optional[_Union[_control_pb2.AttributeRef, _Mapping]] = ..., items: _Optional[_Union[_control_pb2.ItemSet, _Mapping]] = ..., share: _Optional[float] = ...) -> None: ...

class RecommendedItem(_message.Message):
    __slots__ = ("item_id", "title", "score", "attributes")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    score: float
    attributes: _containers.RepeatedCompositeFieldContainer[_item_service_pb2.ItemAttribute]
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., score: _Optional[float] = ..., attributes: _Optional[_Iterable[_Union[_item_service_pb2.ItemAttribute, _Mapping]]] = ...) -> None: ...

class HistoryUse(_message.Message):
    __slots__ = ("total_events", "used_events", "unknown_events", "empty", "new_session")
    TOTAL_EVENTS_FIELD_NUMBER: _ClassVar[int]
    USED_EVENTS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_EVENTS_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    NEW_SESSION_FIELD_NUMBER: _ClassVar[int]
    total_events: int
    used_events: int
    unknown_events: int
    empty: bool
    new_session: bool
    def __init__(self, total_events: _Optional[int] = ..., used_events: _Optional[int] = ..., unknown_events: _Optional[int] = ..., empty: _Optional[bool] = ..., new_session: _Optional[bool] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_ms", "inference_ms", "batch_size")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    inference_ms: float
    batch_size: int
    def __init__(self, queue_ms: _Optional[float] = ..., inference_ms: _Optional[float] = ..., batch_size: _Optional[int] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("request_id", "items", "applied_controls", "bundle_version", "session_version", "history_use", "eligible_items", "unknown_filter_ids", "degradations", "timings", "receipt", "composition_notes", "scenario_version")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_CONTROLS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_VERSION_FIELD_NUMBER: _ClassVar[int]
    HISTORY_USE_FIELD_NUMBER: _ClassVar[int]
    ELIGIBLE_ITEMS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FILTER_IDS_FIELD_NUMBER: _ClassVar[int]
    DEGRADATIONS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    COMPOSITION_NOTES_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_VERSION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    items: _containers.RepeatedCompositeFieldContainer[RecommendedItem]
    applied_controls: _containers.RepeatedCompositeFieldContainer[_control_pb2.AppliedControl]
    bundle_version: str
    session_version: int
    history_use: HistoryUse
    eligible_items: int
    unknown_filter_ids: int
    degradations: _containers.RepeatedScalarFieldContainer[Degradation]
    timings: Timings
    receipt: Receipt
    composition_notes: _containers.RepeatedScalarFieldContainer[str]
    scenario_version: int
    def __init__(self, request_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., applied_controls: _Optional[_Iterable[_Union[_control_pb2.AppliedControl, _Mapping]]] = ..., bundle_version: _Optional[str] = ..., session_version: _Optional[int] = ..., history_use: _Optional[_Union[HistoryUse, _Mapping]] = ..., eligible_items: _Optional[int] = ..., unknown_filter_ids: _Optional[int] = ..., degradations: _Optional[_Iterable[_Union[Degradation, str]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., composition_notes: _Optional[_Iterable[str]] = ..., scenario_version: _Optional[int] = ...) -> None: ...

class ControlReceipt(_message.Message):
    __slots__ = ("requested_strength", "applied_strength", "share_before", "share_after", "goal", "note")
    REQUESTED_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    APPLIED_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    SHARE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SHARE_AFTER_FIELD_NUMBER: _ClassVar[int]
    GOAL_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    requested_strength: float
    applied_strength: float
    share_before: float
    share_after: float
    goal: GoalStatus
    note: str
    def __init__(self, requested_strength: _Optional[float] = ..., applied_strength: _Optional[float] = ..., share_before: _Optional[float] = ..., share_after: _Optional[float] = ..., goal: _Optional[_Union[GoalStatus, str]] = ..., note: _Optional[str] = ...) -> None: ...

class SideEffect(_message.Message):
    __slots__ = ("attribute", "value", "share_before", "share_after")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SHARE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SHARE_AFTER_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    value: str
    share_before: float
    share_after: float
    def __init__(self, attribute: _Optional[str] = ..., value: _Optional[str] = ..., share_before: _Optional[float] = ..., share_after: _Optional[float] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("controls", "overlap", "divergence", "ndcg_kept_estimate", "side_effects")
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    DIVERGENCE_FIELD_NUMBER: _ClassVar[int]
    NDCG_KEPT_ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    SIDE_EFFECTS_FIELD_NUMBER: _ClassVar[int]
    controls: _containers.RepeatedCompositeFieldContainer[ControlReceipt]
    overlap: float
    divergence: float
    ndcg_kept_estimate: float
    side_effects: _containers.RepeatedCompositeFieldContainer[SideEffect]
    def __init__(self, controls: _Optional[_Iterable[_Union[ControlReceipt, _Mapping]]] = ..., overlap: _Optional[float] = ..., divergence: _Optional[float] = ..., ndcg_kept_estimate: _Optional[float] = ..., side_effects: _Optional[_Iterable[_Union[SideEffect, _Mapping]]] = ...) -> None: ...

class BatchRecommendRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RecommendRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[RecommendRequest, _Mapping]]] = ...) -> None: ...

class RequestFailure(_message.Message):
    __slots__ = ("code", "message", "reason", "metadata", "fields", "retry_seconds")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    RETRY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    reason: str
    metadata: _containers.ScalarMap[str, str]
    fields: _containers.RepeatedCompositeFieldContainer[FieldProblem]
    retry_seconds: float
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., fields: _Optional[_Iterable[_Union[FieldProblem, _Mapping]]] = ..., retry_seconds: _Optional[float] = ...) -> None: ...

class FieldProblem(_message.Message):
    __slots__ = ("field", "description")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    field: str
    description: str
    def __init__(self, field: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class RecommendResult(_message.Message):
    __slots__ = ("response", "failure")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    response: RecommendResponse
    failure: RequestFailure
    def __init__(self, response: _Optional[_Union[RecommendResponse, _Mapping]] = ..., failure: _Optional[_Union[RequestFailure, _Mapping]] = ...) -> None: ...

class BatchRecommendResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[RecommendResult]
    def __init__(self, results: _Optional[_Iterable[_Union[RecommendResult, _Mapping]]] = ...) -> None: ...
