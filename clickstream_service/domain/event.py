"""Something a user did: with a result of a search, with the search as a whole, or without one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from clickstream_service.domain.session import Struct

MAX_BYTES = 256 * 1024
"""The largest event, as a message."""


class EventFlag(IntEnum):
    """Something odd about an event that was stored all the same, numbered as in the contract."""

    OBJECT_NOT_SHOWN = 1
    SESSION_MISSING = 2
    OUT_OF_SEQUENCE = 3
    POSITION_MISMATCH = 4


class Event(NamedTuple):
    """A recorded event, or one about to be recorded. A tuple, since there are many: it is made in a sixth of the time.

    `session_id` is empty for an interaction that stands alone, `object_id` for what is about the search as a whole.
    `position` counts from 0. `fingerprint` is a SHA-256 of what the client gave but for the user, `nbytes` its size
    as a message. `user_id` and `query_text` are those of the session when there is one; when it is about to be recorded
    they may be empty, and are filled in. `noise` names the rules that it broke; it does not count then.
    """

    session_id: str
    event_id: str
    object_id: str
    event_types: tuple[str, ...]
    position: int | None
    dwell: timedelta | None
    meta: Struct | None
    created_at: datetime
    fingerprint: bytes
    nbytes: int
    flags: tuple[EventFlag, ...] = ()
    user_id: str = ""
    query_text: str = ""
    document_score: float | None = None
    result_set_size: int | None = None
    noise: tuple[str, ...] = ()

    @property
    def nbytes_recorded(self) -> int:
        """Its size as a message, with room for what it took from its session and what the server assigned."""
        taken = (self.session_id, self.user_id, self.query_text, *self.noise)
        return self.nbytes + sum(len(text.encode()) for text in taken) + 64


@dataclass(frozen=True, slots=True)
class Stored:
    """An event that is stored durably: by this call, or (`duplicate`) by one before."""

    duplicate: bool
    flags: tuple[EventFlag, ...] = ()


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events of a session, oldest first; `more` when there are others after them."""

    events: tuple[Event, ...]
    more: bool
