"""Batches: runs of sessions in the order in which they were recorded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from clickstream_service.domain.session import SessionWithEvents


class BatchState(IntEnum):
    """Whether a batch takes sessions, numbered as in the contract."""

    OPEN = 1
    RELEASED = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of sessions, numbered 1 .. `session_count`."""

    batch_id: str
    state: BatchState
    session_count: int
    opened_at: datetime
    released_at: datetime | None = None
    release_id: str = ""


@dataclass(frozen=True, slots=True)
class BatchSessions:
    """Some sessions of a batch by number; `ended` when the batch is released and none comes after them."""

    sessions: tuple[SessionWithEvents, ...]
    last_number: int
    ended: bool
