"""Filters by payload: a field has one of some values.

Fields and values are compared by hashes, so that no filter expression ever contains what a client sent.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeAlias

from tideline.errors import InvalidField

if TYPE_CHECKING:
    from collections.abc import Mapping

Facets: TypeAlias = dict[str, str]
"""The hash of each field of a payload that can be filtered by, and the hash of its value."""
Wanted: TypeAlias = dict[str, frozenset[str]]
"""The hash of each field that is asked for, and those of the values that will do."""

MOST_FIELDS = 32


def facets(payload: Mapping[str, Any]) -> Facets:
    """Return what `payload` can be found by: its own fields (not those of objects within) that have one plain value."""
    return {_hash("field", name): _value(value) for name, value in payload.items() if _plain(value)}


def wanted(payload_filter: Mapping[str, Any]) -> Wanted:
    """Return what a filter asks for. Raises `InvalidField` when a value is not plain, nor a list of such."""
    if len(payload_filter) > MOST_FIELDS:
        raise InvalidField(f"has more than {MOST_FIELDS} fields", field="payload_filter")
    return {_hash("field", name): _any_of(name, value) for name, value in payload_filter.items()}


def match(having: Facets, asked: Wanted) -> bool:
    """Whether an object with these facets is among those asked for."""
    return all(having.get(name) in values for name, values in asked.items())


def _any_of(name: str, value: Any) -> frozenset[str]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(map(_plain, values)):
        raise InvalidField(
            "must be a string, a number, a boolean or a list of such", field=f"payload_filter.fields[{name!r}]"
        )
    return frozenset(map(_value, values))


def _plain(value: Any) -> bool:
    return isinstance(value, str | float | int)


def _value(value: str | float) -> str:
    if isinstance(value, bool):
        return _hash("bool", str(value))
    if isinstance(value, str):
        return _hash("string", value)
    # Adding 0.0 makes one zero of the two.
    return _hash("number", repr(float(value) + 0.0))


def _hash(kind: str, text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8, person=kind.encode()).hexdigest()
