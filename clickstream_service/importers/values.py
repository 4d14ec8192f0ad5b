"""Values as other systems write them; each function raises `BadLine` for what it cannot read."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from clickstream_service.importers.items import BadLine

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct

    from clickstream_service.importers.source import Line

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
SECONDS: Final = timedelta(seconds=1)
MILLISECONDS: Final = timedelta(milliseconds=1)


def json_object(line: Line) -> dict[str, Any]:
    """Return the JSON object that a line is."""
    if line.text is None:
        raise BadLine("is not UTF-8")
    try:
        value = json.loads(line.text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadLine("is not JSON") from error
    if not isinstance(value, dict):
        raise BadLine("is not a JSON object")
    return value


def text(values: dict[str, Any], name: str) -> str:
    """Return a text; empty when it is absent or null. Numbers, as in ids, are taken as they are written."""
    value = values.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadLine(f"{name} is no text")
    return str(value)


def needed(values: dict[str, Any], name: str) -> str:
    """Return a text that has to be there."""
    value = text(values, name)
    if not value:
        raise BadLine(f"{name} is missing")
    return value


def nested(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object; empty when it is absent or null."""
    value = values.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadLine(f"{name} is no object")
    return value


def objects(values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a list of objects; empty when it is absent or null."""
    value = values.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise BadLine(f"{name} is no list of objects")
    return value


def count(values: dict[str, Any], name: str) -> int | None:
    """Return a whole number that is at least 0 and has 32 bits; None for anything else, as logs have them."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        return None
    return value


def number(values: dict[str, Any], name: str) -> float | None:
    """Return a number; None for anything else."""
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def time(values: dict[str, Any], name: str, unit: timedelta) -> datetime:
    """Return a time that is given in ISO 8601 (UTC unless it says otherwise), or in `unit`s since 1970."""
    value = values.get(name)
    try:
        if isinstance(value, str):
            stripped = value.strip()
            if not stripped.lstrip("-").replace(".", "", 1).isdecimal():
                at = datetime.fromisoformat(stripped)
                return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
            value = float(stripped) if "." in stripped else int(stripped)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _EPOCH + value * unit
    except (ValueError, OverflowError) as error:
        raise BadLine(f"{name} is no time") from error
    raise BadLine(f"{name} is no time")


def timestamp(values: dict[str, Any], name: str, unit: timedelta) -> Timestamp:
    """Return a time, as `time` does, for a message."""
    at = Timestamp()
    at.FromDatetime(time(values, name, unit))
    return at


def fill(struct: Struct, values: dict[str, Any]) -> None:
    """Put what is there into a Struct; what is absent, null or empty is left out."""
    try:
        struct.update({name: value for name, value in values.items() if value not in (None, "", [], {})})
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadLine("holds values that cannot be kept") from error


def id_of(line: Line) -> str:
    """Return an id for what a line says that has none of its own: the same for the same line in the same place."""
    return f"{hashlib.blake2b(line.raw, digest_size=16).hexdigest()}-{line.number}"


def _refuse(constant: str) -> None:
    raise ValueError(constant)
