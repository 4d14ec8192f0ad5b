"""Structs as sub-documents, so that their fields can be queried.

Characters in keys to which MongoDB gives a meaning of its own are escaped as in a URL: `a.b` is kept as `a%2Eb`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable

    from clickstream_service.domain.session import Struct

_SPECIAL: Final = re.compile(r"[%.$\0]")


def escaped(struct: Struct) -> dict[str, Any]:
    """Return a Struct with keys that MongoDB takes as they are."""
    return {_escape(key) if _SPECIAL.search(key) else key: _map(escaped, value) for key, value in struct.items()}


def unescaped(document: dict[str, Any]) -> Struct:
    """Undo `escaped`."""
    return {unquote(key) if "%" in key else key: _map(unescaped, value) for key, value in document.items()}


def _map(convert: Callable[[dict[str, Any]], dict[str, Any]], value: Any) -> Any:
    if isinstance(value, dict):
        return convert(value)
    if isinstance(value, list):
        return [_map(convert, item) for item in value]
    return value


def _escape(key: str) -> str:
    return _SPECIAL.sub(lambda match: f"%{ord(match[0]):02X}", key)
