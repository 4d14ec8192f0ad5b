"""Page tokens after AIP-158: where to go on, bound to the request they were made for."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from tideline.errors import InvalidPageToken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message


def token(request: Message, cursor: Sequence[Any]) -> str:
    """Make the token for the page after `cursor`: JSON values that say where this page ended."""
    text = json.dumps([_filters(request), *cursor], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode()


def cursor(request: Message, length: int) -> list[Any] | None:
    """Return where the page before ended, `length` values; None for the first page.

    Raises `InvalidPageToken` when the token was made by another call or for other filters.
    """
    given: str = request.page_token  # type: ignore[attr-defined]
    if not given:
        return None
    try:
        values = json.loads(base64.b64decode(given, altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise InvalidPageToken("was not made by this service", field="page_token") from error
    if not isinstance(values, list) or len(values) != length + 1 or values[0] != _filters(request):
        raise InvalidPageToken("was made for another request", field="page_token")
    return values[1:]


def _filters(request: Message) -> str:
    """Return a hash of all that has to stay the same from page to page."""
    bare = type(request)()
    bare.CopyFrom(request)
    for name in ("page_token", "page_size", "limit"):
        if name in bare.DESCRIPTOR.fields_by_name:
            bare.ClearField(name)
    # The name of the call keeps one call's tokens out of another.
    digest = hashlib.sha256(bare.DESCRIPTOR.full_name.encode() + bare.SerializeToString(deterministic=True))
    return digest.hexdigest()[:16]
