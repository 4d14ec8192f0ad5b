"""What makes two searches the same query."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickstream_service.domain.session import Struct


def query_key(query: str | Struct | None) -> bytes | None:
    """Return a SHA-256, cut to 16 bytes, that is the same for the same query; None when nothing was searched for."""
    return _hash(_text(query)) if query else None


def family_key(query: str | Struct) -> bytes:
    """Return the same for queries that differ in case, white space or the form of characters only.

    These must not be in two parts of a split: who has learned one of them knows the other.
    """
    if isinstance(query, str):
        query = " ".join(unicodedata.normalize("NFKC", query).casefold().split())
    return _hash(_text(query))


def _text(query: str | Struct | None) -> str:
    # The letter keeps a text that looks like an object apart from that object.
    if isinstance(query, str):
        return f"t{query}"
    return "s" + json.dumps(query, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
