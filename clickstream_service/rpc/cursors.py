"""Page tokens of lists that are sorted by (created_at, id), or (created_at, session id, event id)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from clickstream_service.domain.interaction import Place
from tideline.rpc import paging

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from clickstream_service.domain.event import Event

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def after(request: Message) -> tuple[datetime, str] | None:
    """Return where the page before ended; None for the first page. Raises `InvalidPageToken`."""
    cursor = paging.cursor(request, 2)
    return None if cursor is None else (_EPOCH + cursor[0] * _MICROSECOND, cursor[1])


def token(request: Message, created_at: datetime, last_id: str) -> str:
    """Return the token for the page after one that ends like this."""
    return paging.token(request, [(created_at - _EPOCH) // _MICROSECOND, last_id])


def after_place(request: Message) -> Place | None:
    """Return where the page of interactions before ended; None for the first page. Raises `InvalidPageToken`."""
    cursor = paging.cursor(request, 3)
    return None if cursor is None else Place(_EPOCH + cursor[0] * _MICROSECOND, cursor[1], cursor[2])


def token_behind(request: Message, last: Event) -> str:
    """Return the token for the page after one that ends with this interaction."""
    return paging.token(request, [(last.created_at - _EPOCH) // _MICROSECOND, last.session_id, last.event_id])
