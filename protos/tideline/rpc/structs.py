"""Structs and times between messages and plain Python; `MessageToDict` takes eight times as long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value

from tideline.errors import InvalidField

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

DEEPEST: Final = 20
"""How deep a Struct may be: protobuf reads 100 levels, of which an object takes 3, and responses put sessions deeper
than requests do. One that is too deep to be read would be in the way of all others."""

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_SECOND: Final = timedelta(seconds=1)
_DAY_S: Final = 24 * 60 * 60
_SECONDS: Final = range(
    (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _SECOND, (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _SECOND + 1
)


def struct_from_pb(struct: Struct, field: str, room: int = DEEPEST) -> dict[str, Any]:
    """Return the object that a Struct stands for; its numbers are floats.

    Raises `InvalidField` for more than `room` objects and lists inside each other, and for NaN and infinity.
    """
    if not room:
        raise InvalidField(f"has more than {DEEPEST} objects and lists inside each other", field=field)
    return {key: _value_from_pb(value, field, room - 1) for key, value in struct.fields.items()}


def struct_to_pb(values: dict[str, Any], struct: Struct) -> None:
    """Fill a Struct, which is then present even when there are no values."""
    struct.SetInParent()
    for key, value in values.items():
        _value_to_pb(value, struct.fields[key])


def datetime_from_pb(at: Timestamp, field: str) -> datetime:
    """Return the time to the microsecond; raises `InvalidField` when there is none such."""
    if at.seconds not in _SECONDS or not 0 <= at.nanos < 1_000_000_000:
        raise InvalidField("is not a time", field=field)
    return _EPOCH + timedelta(seconds=at.seconds, microseconds=at.nanos // 1000)


def datetime_to_pb(at: datetime, timestamp: Timestamp) -> None:
    timedelta_to_pb(at - _EPOCH, timestamp)


def timedelta_from_pb(duration: Duration) -> timedelta:
    """Return the duration to the microsecond; of no more than 10,000 years, as the contract has it."""
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)


def timedelta_to_pb(delta: timedelta, message: Duration | Timestamp) -> None:
    """Fill a duration, or a time so long after the epoch."""
    # By its fields, which takes half the time of `divmod`.
    message.seconds, message.nanos = delta.days * _DAY_S + delta.seconds, delta.microseconds * 1000


def _value_from_pb(value: Value, field: str, room: int) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return struct_from_pb(value.struct_value, field, room)
    if kind == "list_value":
        if not room:
            raise InvalidField(f"has more than {DEEPEST} objects and lists inside each other", field=field)
        return [_value_from_pb(item, field, room - 1) for item in value.list_value.values]
    if kind == "number_value" and not isfinite(value.number_value):
        raise InvalidField("has a number that is not finite, which JSON cannot say", field=field)
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
