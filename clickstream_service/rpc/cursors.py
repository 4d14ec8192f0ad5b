"""Page tokens of lists that are sorted by (created_at, id)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from tideline.rpc import paging

if TYPE_CHECKING:
    from google.protobuf.message import Message

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def after(request: Message) -> tuple[datetime, str] | None:
    """Return where the page before ended; None for the first page. Raises `InvalidPageToken`."""
    cursor = paging.cursor(request, 2)
    return None if cursor is None else (_EPOCH + cursor[0] * _MICROSECOND, cursor[1])


def token(request: Message, created_at: datetime, last_id: str) -> str:
    """Return the token for the page after one that ends like this."""
    return paging.token(request, [(created_at - _EPOCH) // _MICROSECOND, last_id])
