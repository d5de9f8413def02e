from steersman.v1 import control_pb2 as _control_pb2
from steersman.v1 import recommendation_service_pb2 as _recommendation_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChangeStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_STATUS_UNSPECIFIED: _ClassVar[ChangeStatus]
    CHANGE_STATUS_FOUND: _ClassVar[ChangeStatus]
    CHANGE_STATUS_NOT_FOUND: _ClassVar[ChangeStatus]
CHANGE_STATUS_UNSPECIFIED: ChangeStatus
CHANGE_STATUS_FOUND: ChangeStatus
CHANGE_STATUS_NOT_FOUND: ChangeStatus

class ExplainRequest(_message.Message):
    __slots__ = ("request", "item_ids", "top_features", "event_influence", "change")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_FEATURES_FIELD_NUMBER: _ClassVar[int]
    EVENT_INFLUENCE_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    request: _recommendation_service_pb2.RecommendRequest
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    top_features: int
    event_influence: bool
    change: ChangeQuery
    def __init__(self, request: _Optional[_Union[_recommendation_service_pb2.RecommendRequest, _Mapping]] = ..., item_ids: _Optional[_Iterable[str]] = ..., top_features: _Optional[int] = ..., event_influence: _Optional[bool] = ..., change: _Optional[_Union[ChangeQuery, _Mapping]] = ...) -> None: ...

class ChangeQuery(_message.Message):
    __slots__ = ("item_id", "control", "any_control", "events")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    ANY_CONTROL_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    control: _control_pb2.Control
    any_control: bool
    events: bool
    def __init__(self, item_id: _Optional[str] = ..., control: _Optional[_Union[_control_pb2.Control, _Mapping]] = ..., any_control: _Optional[bool] = ..., events: _Optional[bool] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("recommendation", "taste", "accounts", "change", "method")
    RECOMMENDATION_FIELD_NUMBER: _ClassVar[int]
    TASTE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    recommendation: _recommendation_service_pb2.RecommendResponse
    taste: Taste
    accounts: _containers.RepeatedCompositeFieldContainer[Account]
    change: Change
    method: str
    def __init__(self, recommendation: _Optional[_Union[_recommendation_service_pb2.RecommendResponse, _Mapping]] = ..., taste: _Optional[_Union[Taste, _Mapping]] = ..., accounts: _Optional[_Iterable[_Union[Account, _Mapping]]] = ..., change: _Optional[_Union[Change, _Mapping]] = ..., method: _Optional[str] = ...) -> None: ...

class Taste(_message.Message):
    __slots__ = ("features", "unexplained_share")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    UNEXPLAINED_SHARE_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedCompositeFieldContainer[ActiveFeature]
    unexplained_share: float
    def __init__(self, features: _Optional[_Iterable[_Union[ActiveFeature, _Mapping]]] = ..., unexplained_share: _Optional[float] = ...) -> None: ...

class ActiveFeature(_message.Message):
    __slots__ = ("feature_id", "label", "activation", "spread_share", "events")
    FEATURE_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    SPREAD_SHARE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    feature_id: int
    label: str
    activation: float
    spread_share: float
    events: _containers.RepeatedCompositeFieldContainer[EventInfluence]
    def __init__(self, feature_id: _Optional[int] = ..., label: _Optional[str] = ..., activation: _Optional[float] = ..., spread_share: _Optional[float] = ..., events: _Optional[_Iterable[_Union[EventInfluence, _Mapping]]] = ...) -> None: ...

class EventInfluence(_message.Message):
    __slots__ = ("place", "item_id", "title", "activation_change")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_CHANGE_FIELD_NUMBER: _ClassVar[int]
    place: int
    item_id: str
    title: str
    activation_change: float
    def __init__(self, place: _Optional[int] = ..., item_id: _Optional[str] = ..., title: _Optional[str] = ..., activation_change: _Optional[float] = ...) -> None: ...

class Account(_message.Message):
    __slots__ = ("item_id", "title", "rank", "score", "features", "other_features", "unexplained", "bias", "controls")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    OTHER_FEATURES_FIELD_NUMBER: _ClassVar[int]
    UNEXPLAINED_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    rank: int
    score: float
    features: _containers.RepeatedCompositeFieldContainer[Contribution]
    other_features: float
    unexplained: float
    bias: float
    controls: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ..., features: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., other_features: _Optional[float] = ..., unexplained: _Optional[float] = ..., bias: _Optional[float] = ..., controls: _Optional[_Iterable[float]] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("feature_id", "label", "amount")
    FEATURE_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    feature_id: int
    label: str
    amount: float
    def __init__(self, feature_id: _Optional[int] = ..., label: _Optional[str] = ..., amount: _Optional[float] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("status", "was_in_list", "control", "event_places", "event_item_ids", "overlap", "items")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    WAS_IN_LIST_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    EVENT_PLACES_FIELD_NUMBER: _ClassVar[int]
    EVENT_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    status: ChangeStatus
    was_in_list: bool
    control: _control_pb2.Control
    event_places: _containers.RepeatedScalarFieldContainer[int]
    event_item_ids: _containers.RepeatedScalarFieldContainer[str]
    overlap: float
    items: _containers.RepeatedCompositeFieldContainer[_recommendation_service_pb2.RecommendedItem]
    def __init__(self, status: _Optional[_Union[ChangeStatus, str]] = ..., was_in_list: _Optional[bool] = ..., control: _Optional[_Union[_control_pb2.Control, _Mapping]] = ..., event_places: _Optional[_Iterable[int]] = ..., event_item_ids: _Optional[_Iterable[str]] = ..., overlap: _Optional[float] = ..., items: _Optional[_Iterable[_Union[_recommendation_service_pb2.RecommendedItem, _Mapping]]] = ...) -> None: ...
