from steersman.v1 import control_pb2 as _control_pb2
from steersman.v1 import session_service_pb2 as _session_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Degradation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADATION_UNSPECIFIED: _ClassVar[Degradation]
    DEGRADATION_SESSION_UNAVAILABLE: _ClassVar[Degradation]
    DEGRADATION_SESSION_BEHIND: _ClassVar[Degradation]
DEGRADATION_UNSPECIFIED: Degradation
DEGRADATION_SESSION_UNAVAILABLE: Degradation
DEGRADATION_SESSION_BEHIND: Degradation

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
    __slots__ = ("history", "session_id", "fallback_history", "controls", "k", "filters", "request_id", "new_events", "min_session_version")
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_HISTORY_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_EVENTS_FIELD_NUMBER: _ClassVar[int]
    MIN_SESSION_VERSION_FIELD_NUMBER: _ClassVar[int]
    history: History
    session_id: str
    fallback_history: History
    controls: _containers.RepeatedCompositeFieldContainer[_control_pb2.Control]
    k: int
    filters: Filters
    request_id: str
    new_events: _containers.RepeatedCompositeFieldContainer[_session_service_pb2.Event]
    min_session_version: int
    def __init__(self, history: _Optional[_Union[History, _Mapping]] = ..., session_id: _Optional[str] = ..., fallback_history: _Optional[_Union[History, _Mapping]] = ..., controls: _Optional[_Iterable[_Union[_control_pb2.Control, _Mapping]]] = ..., k: _Optional[int] = ..., filters: _Optional[_Union[Filters, _Mapping]] = ..., request_id: _Optional[str] = ..., new_events: _Optional[_Iterable[_Union[_session_service_pb2.Event, _Mapping]]] = ..., min_session_version: _Optional[int] = ...) -> None: ...

class RecommendedItem(_message.Message):
    __slots__ = ("item_id", "title", "score")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    score: float
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

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
    __slots__ = ("request_id", "items", "applied_controls", "bundle_version", "session_version", "history_use", "eligible_items", "unknown_filter_ids", "degradations", "timings")
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
    def __init__(self, request_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RecommendedItem, _Mapping]]] = ..., applied_controls: _Optional[_Iterable[_Union[_control_pb2.AppliedControl, _Mapping]]] = ..., bundle_version: _Optional[str] = ..., session_version: _Optional[int] = ..., history_use: _Optional[_Union[HistoryUse, _Mapping]] = ..., eligible_items: _Optional[int] = ..., unknown_filter_ids: _Optional[int] = ..., degradations: _Optional[_Iterable[_Union[Degradation, str]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...
