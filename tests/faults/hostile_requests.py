"""Requests as the contract takes them, made from its descriptors, and what becomes of them on the way: anything."""

from __future__ import annotations

import string
import time
from typing import TYPE_CHECKING, Any, Final

import protovalidate
from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor as Kind

from tests.contract.wire import bytes_field, deep_list, varint

if TYPE_CHECKING:
    import random

    from google.protobuf.message import Message

VECTOR: Final = 4
"""How many numbers vectors have that fit each other."""

NOW: Final = int(time.time())

WORDS: Final[dict[str, tuple[str, ...]]] = {
    "session_id": tuple(f"s{number}" for number in range(1, 21)),
    "user_id": ("ann", "bob", "cid", "dee"),
    "user_ids": ("ann", "bob", "cid", "dee"),
    "object_id": ("a", "b", "c", "d", "e"),
    "object_ids": ("a", "b", "c", "d", "e"),
    "feature_id": ("a", "b", "c", "d", "e"),
    "collection": ("products", "things", "kept", "kept"),
    "name": ("products", "things", "things", "things"),
    "event_types": ("click", "view", "purchase", "long_view"),
    "interaction_types": ("click", "view", "purchase", "long_view"),
    "interaction_type": ("click", "view", "own"),
    "monitor_id": ("m1", "m2"),
    "webhook_url": ("",),
    "page_token": ("",),
    "batch_id": ("",),
    "run_id": ("r1",),
    "snapshot_id": ("",),
    "surface": ("", "web"),
    "device": ("",),
    "segment": ("", "surface"),
}
LENGTHS: Final = {"vector": VECTOR, "query_vector": VECTOR}
NUMBERS: Final = {  # of fields that have to fit others
    "dimension": VECTOR,
    "rank": 0,
    "expected_version": 0,
    "version": 0,
    "propensity_version": 0,
    "strengths_version": 0,
    "part": 0,
}

TEXTS: Final = (
    "", "\0", "a\0b", "x" * 64, "x" * 600, "é" * 257, "x" * 20_000, "$where", "a.b", "../..", "{}", "'; --", "\u202e",
    "\ufeff", "\U0001f600" * 40, "\n", "%", " ", "-1", "null", "[0]",
)  # fmt: skip
INTEGERS: Final = (-1, 0, 1, 2, 99, 101, 1001, 10_001, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
FLOATS: Final = (float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 1e-320, -0.0, 1e30, -1.0)


def a_message(kind: type[Message], chance: random.Random) -> Message:
    """A message that keeps the rules, or nearly so."""
    for _ in range(10):
        message = kind()
        _fill(message, chance, room=5)
        if not protovalidate.collect_violations(message, fail_fast=True):
            break
    return message


def hostile(kind: type[Message], chance: random.Random) -> bytes:
    """A message on the wire: sometimes as it should be, else with values nobody expects, or with bytes changed."""
    message = a_message(kind, chance)
    what = chance.random()
    if what < 0.15:
        return message.SerializeToString()
    if what < 0.5:
        for _ in range(chance.randint(1, 3)):
            _spoil(message, chance)
        return message.SerializeToString()
    raw = message.SerializeToString()
    for _ in range(chance.randint(1, 4)):
        raw = _mutated(raw, a_message(kind, chance).SerializeToString(), chance)
    return raw


def _fill(message: Message, chance: random.Random, room: int) -> None:
    if message.DESCRIPTOR.full_name.startswith("google.protobuf."):
        _fill_known(message, chance)
        return
    chosen: dict[str, Any] = {
        oneof.name: chance.choice([each.name for each in oneof.fields]) for oneof in message.DESCRIPTOR.oneofs
    }
    for field in message.DESCRIPTOR.fields:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        oneof = field.containing_oneof
        needed = rules.required or rules.string.min_bytes or rules.repeated.min_items or rules.ignore
        if oneof is not None and len(oneof.fields) > 1:
            if chosen[oneof.name] != field.name:
                continue
        elif not needed and chance.random() < 0.4:
            continue
        if field.message_type is not None and not room:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if not field.is_repeated:
            _set(message, field, rules, chance, room)
            continue
        least = max(rules.repeated.min_items, 1 if rules.ignore else 0)
        for _ in range(LENGTHS.get(field.name) or chance.randint(least, max(least, 3))):
            _add(message, field, rules.repeated.items, chance, room)


def _fill_known(message: Any, chance: random.Random) -> None:
    name = message.DESCRIPTOR.name
    if name == "Timestamp":
        message.seconds = NOW - chance.randrange(3600)
    elif name == "Duration":
        message.seconds = chance.choice((3600, 7200))
    elif name == "Struct":
        for _ in range(chance.randint(0, 3)):
            message.update({chance.choice("abc"): chance.choice((1.5, "x", True, None, [1, 2], {"d": "e"}))})


def _set(message: Message, field: Any, rules: Any, chance: random.Random, room: int) -> None:
    if field.message_type is not None:
        below = getattr(message, field.name)
        below.SetInParent()
        _fill(below, chance, room - 1)
    else:
        setattr(message, field.name, _value(field, rules, chance))


def _add(message: Message, field: Any, rules: Any, chance: random.Random, room: int) -> None:
    values = getattr(message, field.name)
    if field.message_type is not None:
        _fill(values.add(), chance, room - 1)
    else:
        value = _value(field, rules, chance)
        if value not in values or field.type in {Kind.TYPE_FLOAT, Kind.TYPE_DOUBLE}:
            values.append(value)


def _value(field: Any, rules: Any, chance: random.Random) -> Any:
    if field.type == Kind.TYPE_STRING:
        return chance.choice(WORDS.get(field.name) or tuple(string.ascii_lowercase[:8]))
    if field.type == Kind.TYPE_BOOL:
        return chance.random() < 0.3
    if field.enum_type is not None:
        return chance.choice(
            [value.number for value in field.enum_type.values if value.number not in rules.enum.not_in]
        )
    if field.name in NUMBERS:
        return NUMBERS[field.name]
    if field.type in {Kind.TYPE_FLOAT, Kind.TYPE_DOUBLE}:
        return round(chance.uniform(0.01, 1), 3)
    return chance.randint(1, 5)


def _spoil(message: Any, chance: random.Random) -> None:
    """Give some field of the message, or of one in it, a value nobody expects."""
    fields = list(message.DESCRIPTOR.fields)
    while fields:
        field = chance.choice(fields)
        value = getattr(message, field.name)
        if field.message_type is None:
            nasty = _nasty(field, chance)
            if not field.is_repeated:
                setattr(message, field.name, nasty)
            elif chance.random() < 0.2:
                value.extend([nasty] * chance.choice((1, 33, 1001)))
            else:
                value.append(nasty)
            return
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is None:
                value[chance.choice(TEXTS)] = chance.choice(FLOATS)
            else:
                value[chance.choice(TEXTS)].number_value = chance.choice(FLOATS)
            return
        if field.is_repeated:
            if not value or chance.random() < 0.1:
                value.add()
            message = chance.choice(value)
        else:
            value.SetInParent()
            message = value
        if message.DESCRIPTOR.full_name == "google.protobuf.Struct" and chance.random() < 0.5:
            message.MergeFromString(deep_list(chance.choice((3, 9, 10, 15, 21))))
            return
        fields = list(message.DESCRIPTOR.fields)


def _nasty(field: Any, chance: random.Random) -> Any:
    if field.type == Kind.TYPE_STRING:
        return chance.choice(TEXTS)
    if field.type == Kind.TYPE_BOOL:
        return True
    if field.enum_type is not None:
        return chance.choice((0, 99, -1, 2**31 - 1))
    if field.type in {Kind.TYPE_FLOAT, Kind.TYPE_DOUBLE}:
        number = chance.choice(FLOATS)
        return number if field.type == Kind.TYPE_DOUBLE or abs(number) < 1e38 else float("inf")
    bits = 31 if field.type == Kind.TYPE_INT32 else 63
    return chance.choice([number for number in INTEGERS if -(2**bits) <= number < 2**bits])


def _mutated(raw: bytes, other: bytes, chance: random.Random) -> bytes:
    at, to = sorted((chance.randint(0, len(raw)), chance.randint(0, len(raw))))
    number = chance.randint(1, 30)
    return chance.choice(
        (
            raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :] if at < len(raw) else raw,
            raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :],
            raw[:at],
            raw[:at] + raw[to:],
            raw[:to] + raw[at:to] * chance.choice((1, 2, 50)) + raw[to:],
            raw[:at] + chance.randbytes(chance.randint(1, 16)) + raw[at:],
            raw[:at] + other[chance.randint(0, len(other)) :],
            raw + bytes_field(number, chance.randbytes(chance.randint(0, 8))),
            raw + varint(number << 3) + varint(chance.choice((0, 1, 2**31, 2**63, 2**64 - 1))),
            raw + other,
        )
    )
