"""Something a user did with a result."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from clickstream_service.domain.session import Struct

MAX_BYTES = 256 * 1024
"""The largest event, as a message."""


class EventFlag(IntEnum):
    """Something odd about an event that was stored all the same, numbered as in the contract."""

    OBJECT_NOT_SHOWN = 1
    SESSION_MISSING = 2


@dataclass(frozen=True, slots=True)
class Event:
    """A recorded event, or one about to be recorded.

    `position` counts from 0. `fingerprint` is a SHA-256 of what the client gave, `nbytes` its size as a message.
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
