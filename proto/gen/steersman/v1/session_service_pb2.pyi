import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from steersman.v1 import control_pb2 as _control_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_CONSUMED: _ClassVar[EventKind]
    EVENT_KIND_DISLIKED: _ClassVar[EventKind]
    EVENT_KIND_HIDDEN: _ClassVar[EventKind]
    EVENT_KIND_SHOWN: _ClassVar[EventKind]
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_CONSUMED: EventKind
EVENT_KIND_DISLIKED: EventKind
EVENT_KIND_HIDDEN: EventKind
EVENT_KIND_SHOWN: EventKind

class Event(_message.Message):
    __slots__ = ("event_id", "item_id", "kind", "time")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    item_id: str
    kind: EventKind
    time: _timestamp_pb2.Timestamp
    def __init__(self, event_id: _Optional[str] = ..., item_id: _Optional[str] = ..., kind: _Optional[_Union[EventKind, str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "version", "total_events", "item_ids", "controls", "time_to_live", "disliked_item_ids", "hidden_item_ids")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_EVENTS_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_LIVE_FIELD_NUMBER: _ClassVar[int]
    DISLIKED_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    version: int
    total_events: int
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    controls: _containers.RepeatedCompositeFieldContainer[_control_pb2.Control]
    time_to_live: _duration_pb2.Duration
    disliked_item_ids: _containers.RepeatedScalarFieldContainer[str]
    hidden_item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session_id: _Optional[str] = ..., version: _Optional[int] = ..., total_events: _Optional[int] = ..., item_ids: _Optional[_Iterable[str]] = ..., controls: _Optional[_Iterable[_Union[_control_pb2.Control, _Mapping]]] = ..., time_to_live: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., disliked_item_ids: _Optional[_Iterable[str]] = ..., hidden_item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class AppendEventsRequest(_message.Message):
    __slots__ = ("session_id", "events")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, session_id: _Optional[str] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class AppendEventsResponse(_message.Message):
    __slots__ = ("appended", "duplicates", "session_version", "total_events")
    APPENDED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    SESSION_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_EVENTS_FIELD_NUMBER: _ClassVar[int]
    appended: int
    duplicates: int
    session_version: int
    total_events: int
    def __init__(self, appended: _Optional[int] = ..., duplicates: _Optional[int] = ..., session_version: _Optional[int] = ..., total_events: _Optional[int] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id", "max_item_ids")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    max_item_ids: int
    def __init__(self, session_id: _Optional[str] = ..., max_item_ids: _Optional[int] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class SetControlsRequest(_message.Message):
    __slots__ = ("session_id", "controls")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CONTROLS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    controls: _containers.RepeatedCompositeFieldContainer[_control_pb2.Control]
    def __init__(self, session_id: _Optional[str] = ..., controls: _Optional[_Iterable[_Union[_control_pb2.Control, _Mapping]]] = ...) -> None: ...

class SetControlsResponse(_message.Message):
    __slots__ = ("session_version",)
    SESSION_VERSION_FIELD_NUMBER: _ClassVar[int]
    session_version: int
    def __init__(self, session_version: _Optional[int] = ...) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class DeleteSessionResponse(_message.Message):
    __slots__ = ("existed",)
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    existed: bool
    def __init__(self, existed: _Optional[bool] = ...) -> None: ...
