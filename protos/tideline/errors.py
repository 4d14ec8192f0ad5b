"""The base of every failure that a caller may see."""

from __future__ import annotations

from collections.abc import Mapping


class TidelineError(Exception):
    """A failure with a public name.

    `reason` is a name in `tideline.common.v1.ErrorReason` without its prefix; `field` is the path of the request field
    to blame, if one is; `facts` are safe to show: never a user id, never a query text.
    """

    reason: str = "INTERNAL"

    def __init__(self, message: str, *, field: str = "", facts: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.facts = dict(facts or {})
