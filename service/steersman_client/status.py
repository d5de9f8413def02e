"""Reads google.rpc.Status and the details that Steersman sends, without the package that has those messages."""

from typing import Any, NamedTuple, Self

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

STRING, BYTES, INT32, INT64 = (
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_BYTES,
    FieldDescriptorProto.TYPE_INT32,
    FieldDescriptorProto.TYPE_INT64,
)
PACKAGE = "steersman.client.status"
# The fields of google/rpc/status.proto and error_details.proto, with Any, Duration and entries of maps as they are on the wire: name,
# number, type. A name of a message stands for many of them, but for Duration.
MESSAGES: dict[str, list[tuple[str, int, Any]]] = {
    "Detail": [("type_url", 1, STRING), ("value", 2, BYTES)],
    "Duration": [("seconds", 1, INT64), ("nanos", 2, INT32)],
    "Entry": [("key", 1, STRING), ("value", 2, STRING)],
    "FieldViolation": [("field", 1, STRING), ("description", 2, STRING)],
    "Status": [("code", 1, INT32), ("message", 2, STRING), ("details", 3, "Detail")],
    "ErrorInfo": [("reason", 1, STRING), ("domain", 2, STRING), ("metadata", 3, "Entry")],
    "BadRequest": [("field_violations", 1, "FieldViolation")],
    "RetryInfo": [("retry_delay", 1, "Duration")],
}


class Status(NamedTuple):
    """What Steersman says of an error."""

    message: str
    reason: str
    fields: dict[str, str]
    metadata: dict[str, str]
    retry_seconds: float | None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """`data` is the value of the trailer "grpc-status-details-bin"."""
        status = CLASSES["Status"].FromString(data)
        details = {detail.type_url.rpartition(".")[2]: detail.value for detail in status.details}
        info = CLASSES["ErrorInfo"].FromString(details.get("ErrorInfo", b""))
        bad = CLASSES["BadRequest"].FromString(details.get("BadRequest", b""))
        retry = CLASSES["RetryInfo"].FromString(details.get("RetryInfo", b"")).retry_delay
        return cls(
            status.message,
            info.reason,
            {wrong.field: wrong.description for wrong in bad.field_violations},
            {entry.key: entry.value for entry in info.metadata},
            retry.seconds + retry.nanos / 1e9 if "RetryInfo" in details else None,
        )


def _classes() -> dict[str, Any]:
    """By name, in a pool of their own: the real ones may be there, too."""
    file = FileDescriptorProto(name="steersman_client/status.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for own, number, kind in fields:
            many = isinstance(kind, str) and kind != "Duration"
            label = FieldDescriptorProto.LABEL_REPEATED if many else FieldDescriptorProto.LABEL_OPTIONAL
            added = message.field.add(name=own, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                added.type = kind
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


CLASSES = _classes()
