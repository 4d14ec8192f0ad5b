"""Telling others by POST."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

if TYPE_CHECKING:
    from datetime import timedelta

ANSWER_BYTES: Final = 65_536

_log = structlog.get_logger(__name__)


class HttpWebhook:
    """Sends JSON to a URL. Follows no redirect, which could lead to hosts that are not allowed."""

    def __init__(self, timeout: timedelta) -> None:
        """`timeout` is for each step of a call: connecting, sending, answering."""
        self._timeout_s = timeout.total_seconds()

    async def post(self, url: str, payload: dict[str, object]) -> bool:
        """Return whether the other side took it: answered with 2xx."""
        body = json.dumps(payload, allow_nan=False).encode()
        try:
            status = await asyncio.to_thread(self._post, url, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            _log.warning("a webhook does not answer", error=type(error).__qualname__)
            return False
        if not 200 <= status < 300:
            _log.warning("a webhook refuses", status=status)
        return 200 <= status < 300

    def _post(self, url: str, body: bytes) -> int:
        parts = urlsplit(url)
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = connect(parts.hostname or "", parts.port, timeout=self._timeout_s)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {"Content-Type": "application/json", "User-Agent": "tideline"}
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES)
            return answer.status
        finally:
            connection.close()
