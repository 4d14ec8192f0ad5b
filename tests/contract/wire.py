"""Protobuf as it is on the wire, to say what no library would."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """A number of any size."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def bytes_field(number: int, value: bytes) -> bytes:
    """A string or a message."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def deep_list(depth: int) -> bytes:
    """A Struct that holds `depth` lists inside each other, each of which is two messages."""
    value = b"\x1a\x00"  # a Value with the string ""
    for _ in range(depth):
        value = bytes_field(6, bytes_field(1, value))
    return bytes_field(1, bytes_field(1, b"a") + bytes_field(2, value))
