"""Page tokens after AIP-158: where to go on, bound to the request they were made for."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from tideline.errors import InvalidPageToken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

_CHECK: Final = 16


def token(request: Message, cursor: Sequence[Any]) -> str:
    """Make the token for the page after `cursor`: JSON values that say where this page ended."""
    text = _text(cursor)
    return base64.urlsafe_b64encode(f"{_check(request, text)}{text}".encode()).decode()


def cursor(request: Message, length: int) -> list[Any] | None:
    """Return where the page before ended, `length` values; None for the first page.

    Raises `InvalidPageToken` when the token was changed, or made by another call or for other filters.
    """
    given: str = request.page_token  # type: ignore[attr-defined]
    if not given:
        return None
    try:
        text = base64.b64decode(given, altchars=b"-_", validate=True).decode()
        if text[:_CHECK] != _check(request, text[_CHECK:]):
            raise InvalidPageToken("was changed, or made for another request", field="page_token")
        values = json.loads(text[_CHECK:])
    except (ValueError, RecursionError) as error:
        raise InvalidPageToken("was not made by this service", field="page_token") from error
    if not isinstance(values, list) or len(values) != length:
        raise InvalidPageToken("was made for another request", field="page_token")
    return values


def _text(cursor: Sequence[Any]) -> str:
    return json.dumps(list(cursor), separators=(",", ":"), ensure_ascii=False)


def _check(request: Message, text: str) -> str:
    """Return a hash of the cursor and of all that has to stay the same from page to page."""
    bare = type(request)()
    bare.CopyFrom(request)
    for name in ("page_token", "page_size", "limit"):
        if name in bare.DESCRIPTOR.fields_by_name:
            bare.ClearField(name)
    # The name of the call keeps one call's tokens out of another.
    digest = hashlib.sha256(bare.DESCRIPTOR.full_name.encode() + b"\0" + text.encode() + b"\0")
    digest.update(bare.SerializeToString(deterministic=True))
    return digest.hexdigest()[:_CHECK]
