"""An OpenAPI document of the gateway's JSON, made from the contract's descriptors."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor

from steersman_service.http.contract import Method

OPENAPI_PATH = "/openapi.json"
Schema = dict[str, Any]

INT32, INT64 = {"type": "integer", "format": "int32"}, {"type": ["string", "integer"], "format": "int64"}
# JSON has no numbers for these: protobuf writes them as texts.
NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_DOUBLE: NUMBER,
    FieldDescriptor.TYPE_FLOAT: NUMBER,
    FieldDescriptor.TYPE_INT32: INT32,
    FieldDescriptor.TYPE_SINT32: INT32,
    FieldDescriptor.TYPE_SFIXED32: INT32,
    FieldDescriptor.TYPE_UINT32: {**INT32, "minimum": 0},
    FieldDescriptor.TYPE_FIXED32: {**INT32, "minimum": 0},
    FieldDescriptor.TYPE_INT64: INT64,
    FieldDescriptor.TYPE_SINT64: INT64,
    FieldDescriptor.TYPE_SFIXED64: INT64,
    FieldDescriptor.TYPE_UINT64: INT64,
    FieldDescriptor.TYPE_FIXED64: INT64,
}
WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "examples": ["1.5s"]},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.Any": {"type": "object", "required": ["@type"]},
    "google.protobuf.FieldMask": {"type": "string"},
}
ERROR = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "string", "examples": ["invalid_argument"]},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "value"],
                "properties": {
                    "type": {"type": "string", "examples": ["google.rpc.BadRequest"]},
                    "value": {"type": "string", "contentEncoding": "base64"},
                    "debug": {"type": "object", "description": "The detail's fields."},
                },
            },
        },
    },
}
TIMEOUT = {
    "name": "Connect-Timeout-Ms",
    "in": "header",
    "description": "Deadline of the call, in milliseconds.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 9_999_999_999},
}
TENANT = {
    "name": "Steersman-Tenant",
    "in": "header",
    "description": "Whose turn in the queue the call takes.",
    "schema": {"type": "string", "maxLength": 128},
}

BUNDLE_VERSION = {
    "name": "Steersman-Bundle-Version",
    "in": "header",
    "description": "The release that shall answer, by its bundle's version. Without it the server chooses.",
    "schema": {"type": "string", "maxLength": 128},
}
PARAMETERS = {"timeout": TIMEOUT, "tenant": TENANT, "bundle": BUNDLE_VERSION}


def document(methods: Iterable[Method]) -> Schema:
    """OpenAPI 3.1. Every call is a POST of one JSON object."""
    schemas = _Schemas()
    paths = {method.path: {"post": _operation(method, schemas)} for method in methods}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Steersman",
            "version": version("steersman"),
            "description": "The services of steersman.v1 as JSON over HTTP. What each call and field does is written in the .proto files.",
        },
        "paths": paths,
        # A server that asks for credentials takes a token; one that does not needs none.
        "security": [{"bearer": []}, {}],
        "components": {
            "schemas": {"connect.Error": ERROR, **schemas.made},
            "parameters": PARAMETERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"error": {"description": "An error.", **_content({"$ref": _schema("connect.Error")})}},
        },
    }


def _operation(method: Method, schemas: "_Schemas") -> Schema:
    service = method.service.rpartition(".")[2]
    return {
        "operationId": f"{service}.{method.name}",
        "tags": [service],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS],
        "requestBody": {"required": True, **_content(schemas.of_message(cast(Descriptor, method.request.DESCRIPTOR)))},
        "responses": {
            "200": {
                "description": "The answer.",
                **_content(schemas.of_message(cast(Descriptor, method.response.DESCRIPTOR))),
            },
            "default": {"$ref": "#/components/responses/error"},
        },
    }


class _Schemas:
    """A schema for each message and enum that is met."""

    def __init__(self) -> None:
        self.made: dict[str, Schema] = {}

    def of_message(self, message: Descriptor) -> Schema:
        name = message.full_name
        if name in WELL_KNOWN:
            return WELL_KNOWN[name]
        if name not in self.made:
            self.made[name] = {}  # so that a message may hold itself
            properties = {field.camelcase_name: self._of_field(field) for field in message.fields}
            self.made[name] = {"type": "object", "additionalProperties": False, "properties": properties}
            choices = [oneof for oneof in message.oneofs if not _is_optional(oneof)]
            if choices:
                told = (f"at most one of {', '.join(f.camelcase_name for f in one.fields)}" for one in choices)
                self.made[name]["description"] = f"{'; '.join(told)}."
        return {"$ref": _schema(name)}

    def _of_field(self, field: FieldDescriptor) -> Schema:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._of_value(entry.fields_by_name["value"])}
        value = self._of_value(field)
        return {"type": "array", "items": value} if field.is_repeated else value

    def _of_value(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.of_message(field.message_type)
        return self._of_enum(field.enum_type) if field.enum_type is not None else SCALARS[field.type]

    def _of_enum(self, enum: EnumDescriptor) -> Schema:
        self.made[enum.full_name] = {"type": "string", "enum": [value.name for value in enum.values]}
        return {"$ref": _schema(enum.full_name)}


def _is_optional(oneof: OneofDescriptor) -> bool:
    """Whether it is only how protobuf writes down that a field is optional."""
    return [f"_{field.name}" for field in oneof.fields] == [oneof.name]


def _content(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


def _schema(name: str) -> str:
    return f"#/components/schemas/{name}"
