"""Files that rows are written to, one message's rows after the other's."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from clickstream_service.commands.export_rows import Row

ROW_GROUP: Final = 20_000
ROW_GROUP_BYTES: Final = 8 * 1024 * 1024
"""So many rows, or of so many bytes as messages, are held in memory, and read together by whoever filters a file."""


class MissingLibrary(Exception):
    """A format needs a library that is not installed."""


class JsonLines:
    """A JSON object a line, in UTF-8."""

    def __init__(self, path: Path, columns: Mapping[str, str]) -> None:  # noqa: ARG002 - every line names its columns
        self.rows = 0
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, rows: Sequence[Row], nbytes: int) -> None:  # noqa: ARG002 - nothing is held back
        for row in rows:
            self._file.write(json.dumps(row, ensure_ascii=False, default=_text) + "\n")
        self.rows += len(rows)


class Parquet:
    """Parquet, row group by row group."""

    def __init__(self, path: Path, columns: Mapping[str, str]) -> None:
        """Raise `MissingLibrary` where pyarrow is not installed."""
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
            from pyarrow import parquet  # noqa: PLC0415
        except ModuleNotFoundError as missing:
            raise MissingLibrary(
                "Parquet needs pyarrow: pip install 'tideline[export]', or --format jsonl"
            ) from missing
        self.rows = 0
        self._arrow = pa
        self._schema = pa.schema([(name, _type(pa, of)) for name, of in columns.items()])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[Row] = []
        self._waiting_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is None:
            self._flush()
        self._writer.close()

    def write(self, rows: Sequence[Row], nbytes: int) -> None:
        self._waiting.extend(rows)
        self.rows += len(rows)
        self._waiting_bytes += nbytes
        if len(self._waiting) >= ROW_GROUP or self._waiting_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._arrow.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting, self._waiting_bytes = [], 0


def _type(pa: Any, of: str) -> Any:
    if of.startswith("list<"):
        return pa.list_(_type(pa, of[len("list<") : -1]))
    if of == "timestamp":
        return pa.timestamp("us", tz="UTC")
    simple = {
        "string": pa.string(), "double": pa.float64(), "float": pa.float32(), "int64": pa.int64(), "int32": pa.int32(),
        "bool": pa.bool_(),
    }  # fmt: skip
    return simple[of]


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in JSON")
