"""Reading request messages: one that cannot be read becomes an error that names the field, not a failure of gRPC's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from tideline.errors import MalformedMessage, MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from tideline.errors import TidelineError

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""The largest message either side takes."""

_DEEPEST: Final = 100  # protobuf's own limit
_MOST_STEPS: Final = 20_000  # to look for the field blocks the event loop, so a long message is not searched to its end
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def decoder(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a deserialiser that does not raise, but returns the error to answer the call with.

    gRPC deserialises before any interceptor sees the call, and what fails there leaves without a reason.
    """
    kind: type[Message] | None = getattr(deserialize, "__self__", None)

    def decode(data: bytes) -> Message | TidelineError:
        if len(data) > MAX_MESSAGE_BYTES:
            return MessageTooLarge(
                f"the message is larger than {MAX_MESSAGE_BYTES} bytes", facts={"max_bytes": str(MAX_MESSAGE_BYTES)}
            )
        try:
            message: Message = deserialize(data)
        except DecodeError:
            field, wrong = ("", _UNREADABLE) if kind is None else fault(data, kind)
            return MalformedMessage(wrong, field=field)
        return message

    return decode


def fault(data: bytes, kind: type[Message]) -> tuple[str, str]:
    """Return the path of the field at which an unreadable message goes wrong ("" when not known), and what is wrong."""
    try:
        _Search().walk(memoryview(data), kind.DESCRIPTOR, "", _DEEPEST)  # type: ignore[arg-type]
    except _Fault as found:
        return found.path, found.wrong
    return "", _UNREADABLE


_UNREADABLE: Final = "cannot be read as a message of the contract"


class _Fault(Exception):
    def __init__(self, path: str, wrong: str) -> None:
        super().__init__(wrong)
        self.path = path
        self.wrong = wrong


class _Search:
    """Walks through a message as it is on the wire."""

    def __init__(self) -> None:
        self._steps = 0

    def walk(self, data: memoryview, kind: Descriptor, path: str, room: int) -> None:
        if not room:
            raise _Fault(path, f"has more than {_DEEPEST} messages inside each other")
        seen: dict[int, int] = {}
        at = 0
        while at < len(data):
            self._steps += 1
            if self._steps > _MOST_STEPS:
                raise _Fault("", _UNREADABLE)
            tag, at = _varint(data, at, path)
            number, wire_type = tag >> 3, tag & 7
            field = kind.fields_by_number.get(number)
            index = seen[number] = seen.get(number, -1) + 1
            below = _below(path, kind, field, index)
            if wire_type == _VARINT:
                _, at = _varint(data, at, below)
            elif wire_type == _BYTES:
                length, at = _varint(data, at, below)
                self._value(_slice(data, at, length, below), field, below, room)
                at += length
            elif wire_type in {_FIXED64, _FIXED32}:
                length = 8 if wire_type == _FIXED64 else 4
                _slice(data, at, length, below)
                at += length
            else:
                raise _Fault(below, _UNREADABLE)

    def _value(self, value: memoryview, field: FieldDescriptor | None, path: str, room: int) -> None:
        if field is None:
            return
        if field.type == FieldDescriptor.TYPE_STRING:
            try:
                str(value, "utf-8")
            except UnicodeDecodeError:
                raise _Fault(path, "is not valid UTF-8") from None
        elif field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type is not None:
            self.walk(value, field.message_type, path, room - 1)


def _below(path: str, kind: Descriptor, field: FieldDescriptor | None, index: int) -> str:
    # What is inside a Struct or a time has no name in the contract: the field that holds it is to blame.
    if field is None or kind.file.package == "google.protobuf":
        return path
    name = f"{field.name}[{index}]" if field.is_repeated else field.name
    return f"{path}.{name}" if path else name


def _varint(data: memoryview, at: int, path: str) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(data):
            raise _Fault(path, "ends too early")
        value |= (data[at + place] & 0x7F) << 7 * place
        if data[at + place] < 0x80:
            return value, at + place + 1
    raise _Fault(path, "has a number of more than 64 bits")


def _slice(data: memoryview, at: int, length: int, path: str) -> memoryview:
    if at + length > len(data):
        raise _Fault(path, "ends too early")
    return data[at : at + length]
