"""The base of every failure that a caller may see, and those that both services know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def printable(text: str) -> str:
    """Write control characters, and others that cannot be seen, as escapes."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class TidelineError(Exception):
    """A failure with a public name.

    `reason` is a name in `tideline.common.v1.ErrorReason` without its prefix; `field` is the path of the request field
    to blame, if one is; `facts` are safe to show: never a user id, never a query text. `retry_after_s` says when to try
    again, where that is known better than by the reason alone.
    """

    reason: str = "INTERNAL"
    retry_after_s: float | None = None

    def __init__(self, message: str, *, field: str = "", facts: Mapping[str, str] | None = None) -> None:
        # What a client named itself may be in it.
        super().__init__(printable(message))
        self.field = printable(field)
        self.facts = dict(facts or {})


class InvalidField(TidelineError):
    """A field breaks a rule of the contract."""

    reason = "INVALID_FIELD"


class MalformedMessage(InvalidField):
    """A message cannot be decoded."""

    reason = "MALFORMED_MESSAGE"


class MessageTooLarge(TidelineError):
    """A message is larger than a service takes."""

    reason = "MESSAGE_TOO_LARGE"


class InvalidPageToken(TidelineError):
    """A page token was made by another call, or was changed."""

    reason = "INVALID_PAGE_TOKEN"


class Overloaded(TidelineError):
    """More work is waiting than the service takes on."""

    reason = "OVERLOADED"


class DependencyUnavailable(TidelineError):
    """A database or the other service does not answer."""

    reason = "DEPENDENCY_UNAVAILABLE"


class DeadlineExceeded(TidelineError):
    """The caller's deadline passed before the work was done."""

    reason = "DEADLINE_EXCEEDED"


class ServerStopping(TidelineError):
    """The server ends, and the call with it."""

    reason = "SERVER_STOPPING"


class Unauthenticated(TidelineError):
    """The caller did not prove who it is; the message never says what was wrong with what it showed."""

    reason = "UNAUTHENTICATED"

    def __init__(self) -> None:
        super().__init__("no valid credentials")


class PermissionDenied(TidelineError):
    """The caller is known, and may not do this."""

    reason = "PERMISSION_DENIED"


class RateLimited(TidelineError):
    """This caller calls more often than it may."""

    reason = "RATE_LIMITED"


class Misconfigured(Exception):
    """A service cannot start with these settings; the message says which and why, and holds no secret."""
