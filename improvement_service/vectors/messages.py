"""How much goes into a message to Milvus, or comes in one.

A server takes and sends 64 MiB; Milvus Lite gets slow: 200 rows of 32 KiB take it 0.4 s to send, 300 take 5 s.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from improvement_service.vectors.schema import Row

_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_ROW_BYTES: Final = 2 * 1024
_FIELD_BYTES: Final = {
    "payload": 32 * 1024, "facets": 1024, "learned_from": 1024, "object_id": 512, "user_id": 512, "base_hash": 32,
    "pk": 32, "owner": 32, "object_key": 32, "part": 8, "is_average": 1, "scored": 1,
}  # fmt: skip
"""What a field takes, more or less; that of `vector` is known."""


def rows_that_fit(fields: Iterable[str], dimension: int) -> int:
    """Return how many rows with these fields fit a message; `dimension` counts when `vector` is one of them."""
    row_bytes = sum(4 * dimension if field == "vector" else _FIELD_BYTES[field] for field in fields)
    return max(1, _MESSAGE_BYTES // row_bytes)


def of_rows(rows: Iterable[Row], most: int) -> Iterator[list[Row]]:
    """Yield as many rows at a time as fit a message, `most` at most."""
    some: list[Row] = []
    size = 0
    for row in rows:
        some.append(row)
        size += row["vector"].nbytes + _ROW_BYTES
        if row["payload"]:
            size += len(json.dumps((row["payload"], row["facets"])))
        if len(some) == most or size >= _MESSAGE_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def chunks(values: Sequence[str], size: int) -> Iterator[list[str]]:
    """Yield the values, `size` at a time."""
    return (list(values[start : start + size]) for start in range(0, len(values), size))
