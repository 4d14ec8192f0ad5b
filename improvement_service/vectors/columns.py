"""Rows as Milvus takes and sends them: a column for each field, the numbers of vectors in one piece.

The client packs and unpacks row by row, number by number, which costs ten times as much.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pymilvus import DataType
from pymilvus.grpc_gen import schema_pb2

from improvement_service.domain.objects import as_json
from improvement_service.vectors import schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from improvement_service.domain.scoring import Floats
    from improvement_service.vectors.schema import Row

_SCALARS: Final = {
    DataType.VARCHAR: "string_data",
    DataType.INT64: "long_data",
    DataType.BOOL: "bool_data",
    DataType.JSON: "json_data",
}
_FIRST_PACKED: Final = b"\x0a"
"""What protobuf puts before the bytes of a message's field 1 that repeats a number."""


def pack(rows: Sequence[Row]) -> list[Any]:
    """Return the fields of some rows as messages (`FieldData`)."""
    return [_packed(name, kind, [row[name] for row in rows]) for name, kind in schema.TYPES.items()]


def unpack(fields: Iterable[Any]) -> list[Row]:
    """Return the rows that these messages (`FieldData`) are the fields of; vectors are float32 arrays [D]."""
    columns = {field.field_name: _unpacked(field) for field in fields}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _packed(name: str, kind: DataType, values: Sequence[Any]) -> Any:
    field = schema_pb2.FieldData(field_name=name, type=kind)
    if kind == DataType.FLOAT_VECTOR:
        field.vectors.dim = len(values[0])
        numbers = np.concatenate(values).astype("<f4", copy=False).tobytes()
        field.vectors.float_vector.MergeFromString(_FIRST_PACKED + _varint(len(numbers)) + numbers)
    elif kind == DataType.JSON:
        # Most are empty.
        field.scalars.json_data.data.extend([as_json(value) if value else b"{}" for value in values])
    else:
        getattr(field.scalars, _SCALARS[kind]).data.extend(values)
    return field


def _unpacked(field: Any) -> Sequence[Any] | Floats:
    if field.type == DataType.FLOAT_VECTOR:
        of_all = field.vectors.float_vector
        # What comes before the numbers is of no use to us.
        size = 4 * len(of_all.data)
        numbers = np.frombuffer(of_all.SerializeToString()[-size:] if size else b"", "<f4")
        return numbers.reshape(-1, max(1, field.vectors.dim))
    data = getattr(field.scalars, _SCALARS[DataType(field.type)]).data
    if field.type != DataType.JSON:
        return list(data)
    return [json.loads(value) if value != b"{}" else {} for value in data]


def _varint(number: int) -> bytes:
    """Return `number` as protobuf writes lengths: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
