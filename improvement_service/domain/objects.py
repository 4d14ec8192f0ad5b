"""Objects as they are given, as they are learned from, and as a user has them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from improvement_service.domain.scoring import Floats

Payload: TypeAlias = dict[str, Any]

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def as_json(value: Payload | None) -> bytes:
    """Return JSON as it is stored, and as payloads are measured; raises `ValueError` where a number is not finite."""
    return _encode(value).encode()


@dataclass(frozen=True)
class CatalogueObject:
    """Something to be found, as it was given."""

    object_id: str
    vectors: tuple[Floats, ...]
    """The vector of each part, [D] each."""
    is_average: tuple[bool, ...]
    """Which part stands for the whole object; at most one does."""
    payload: Payload | None = None
    """Absent and empty are two things."""

    def base_hash(self) -> str:
        """Return the hash of what copies are made from: vectors and what they stand for, not the payload."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr(self.is_average).encode())
        for vector in self.vectors:
            digest.update(vector.astype("<f4").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Original:
    """What is scored of an object as everybody sees it."""

    parts: Floats
    """[P, D]: all parts under MIN, the average only under AVG."""
    base_hash: str


@dataclass(frozen=True)
class PersonalCopy:
    """What a user has in place of an original."""

    object_id: str
    base_hash: str
    """Of the original that it was made from; it counts only as long as that one is there."""
    parts: Floats
    """The moved rows of `Original.parts`, in their order, [P, D]."""
    learned_from: tuple[int, ...]
    """Which of the user's queries it was learned from."""


@dataclass(frozen=True)
class UserCopies:
    """All that a user has learned in one index."""

    user_id: str
    copies: tuple[PersonalCopy, ...]
    queries: Floats
    """The queries that `PersonalCopy.learned_from` points into, [Q, D]."""


@dataclass(frozen=True)
class CopyReference:
    """Where a copy is kept."""

    user_id: str
    object_id: str
    base_hash: str
    keys: tuple[str, ...]
    """The primary keys of its rows."""


@dataclass(frozen=True)
class StoredObject:
    """An object, or a user's copy of it."""

    object: CatalogueObject
    user_id: str = ""

    @property
    def display_id(self) -> str:
        """The id to show and export; it is not one of a kind: `a` of user `b_c` and `a_b` of `c` look alike."""
        return f"{self.object.object_id}_{self.user_id}" if self.user_id else self.object.object_id
