from steersman.v1 import recommendation_service_pb2 as _recommendation_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetModelInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Limits(_message.Message):
    __slots__ = ("history_items", "controls", "strength", "k", "filter_items", "events_per_append", "session_events", "remembered_event_ids", "filter_attributes", "batch_requests", "set_items", "goals", "scenarios", "scenario_bytes")
    HISTORY_ITEMS_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    FILTER_ITEMS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_PER_APPEND_FIELD_NUMBER: _ClassVar[int]
    SESSION_EVENTS_FIELD_NUMBER: _ClassVar[int]
    REMEMBERED_EVENT_IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    BATCH_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SET_ITEMS_FIELD_NUMBER: _ClassVar[int]
    GOALS_FIELD_NUMBER: _ClassVar[int]
    SCENARIOS_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_BYTES_FIELD_NUMBER: _ClassVar[int]
    history_items: int
    controls: int
    strength: float
    k: int
    filter_items: int
    events_per_append: int
    session_events: int
    remembered_event_ids: int
    filter_attributes: int
    batch_requests: int
    set_items: int
    goals: int
    scenarios: int
    scenario_bytes: int
    def __init__(self, history_items: _Optional[int] = ..., controls: _Optional[int] = ..., strength: _Optional[float] = ..., k: _Optional[int] = ..., filter_items: _Optional[int] = ..., events_per_append: _Optional[int] = ..., session_events: _Optional[int] = ..., remembered_event_ids: _Optional[int] = ..., filter_attributes: _Optional[int] = ..., batch_requests: _Optional[int] = ..., set_items: _Optional[int] = ..., goals: _Optional[int] = ..., scenarios: _Optional[int] = ..., scenario_bytes: _Optional[int] = ...) -> None: ...

class Shapes(_message.Message):
    __slots__ = ("items", "hidden", "features", "active_features", "window_length", "window_stride", "hook_block")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FEATURES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_LENGTH_FIELD_NUMBER: _ClassVar[int]
    WINDOW_STRIDE_FIELD_NUMBER: _ClassVar[int]
    HOOK_BLOCK_FIELD_NUMBER: _ClassVar[int]
    items: int
    hidden: int
    features: int
    active_features: int
    window_length: int
    window_stride: int
    hook_block: int
    def __init__(self, items: _Optional[int] = ..., hidden: _Optional[int] = ..., features: _Optional[int] = ..., active_features: _Optional[int] = ..., window_length: _Optional[int] = ..., window_stride: _Optional[int] = ..., hook_block: _Optional[int] = ...) -> None: ...

class GetModelInfoResponse(_message.Message):
    __slots__ = ("server_version", "bundle_version", "bundle_format", "bundle_created", "data", "backend", "device", "shapes", "limits", "attributes", "figures")
    class FiguresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_CREATED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SHAPES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    server_version: str
    bundle_version: str
    bundle_format: str
    bundle_created: str
    data: str
    backend: str
    device: str
    shapes: Shapes
    limits: Limits
    attributes: _containers.RepeatedScalarFieldContainer[str]
    figures: _containers.ScalarMap[str, float]
    def __init__(self, server_version: _Optional[str] = ..., bundle_version: _Optional[str] = ..., bundle_format: _Optional[str] = ..., bundle_created: _Optional[str] = ..., data: _Optional[str] = ..., backend: _Optional[str] = ..., device: _Optional[str] = ..., shapes: _Optional[_Union[Shapes, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., attributes: _Optional[_Iterable[str]] = ..., figures: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ListBundlesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BundleSummary(_message.Message):
    __slots__ = ("version", "format", "created", "data", "figures", "served", "steerable_features", "carried_features", "median_confidence")
    class FiguresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    STEERABLE_FEATURES_FIELD_NUMBER: _ClassVar[int]
    CARRIED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    version: str
    format: str
    created: str
    data: str
    figures: _containers.ScalarMap[str, float]
    served: bool
    steerable_features: int
    carried_features: int
    median_confidence: float
    def __init__(self, version: _Optional[str] = ..., format: _Optional[str] = ..., created: _Optional[str] = ..., data: _Optional[str] = ..., figures: _Optional[_Mapping[str, float]] = ..., served: _Optional[bool] = ..., steerable_features: _Optional[int] = ..., carried_features: _Optional[int] = ..., median_confidence: _Optional[float] = ...) -> None: ...

class ListBundlesResponse(_message.Message):
    __slots__ = ("bundles",)
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    bundles: _containers.RepeatedCompositeFieldContainer[BundleSummary]
    def __init__(self, bundles: _Optional[_Iterable[_Union[BundleSummary, _Mapping]]] = ...) -> None: ...

class ListHistoriesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "text", "seed")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    text: str
    seed: int
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., text: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class SampleHistory(_message.Message):
    __slots__ = ("name", "history", "latest_titles")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    LATEST_TITLES_FIELD_NUMBER: _ClassVar[int]
    name: str
    history: _recommendation_service_pb2.History
    latest_titles: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., history: _Optional[_Union[_recommendation_service_pb2.History, _Mapping]] = ..., latest_titles: _Optional[_Iterable[str]] = ...) -> None: ...

class ListHistoriesResponse(_message.Message):
    __slots__ = ("histories", "next_page_token", "total_size", "bundle_version")
    HISTORIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    histories: _containers.RepeatedCompositeFieldContainer[SampleHistory]
    next_page_token: str
    total_size: int
    bundle_version: str
    def __init__(self, histories: _Optional[_Iterable[_Union[SampleHistory, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., bundle_version: _Optional[str] = ...) -> None: ...
