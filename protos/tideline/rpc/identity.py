"""Who calls."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

CLIENT: Final = "client"
INTERNAL: Final = "internal"
ADMIN: Final = "admin"
ROLES: Final = frozenset({CLIENT, INTERNAL, ADMIN})


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose credentials were checked.

    `subject` is unique among all ways to prove one's identity; `tenant` is empty where data are not kept apart.
    """

    subject: str
    roles: frozenset[str]
    tenant: str = ""


ANYBODY: Final = Identity("", frozenset({ADMIN}))
"""Who calls a service that asks for no credentials."""

_current: ContextVar[Identity] = ContextVar("identity", default=ANYBODY)


def current() -> Identity:
    """Return who makes the call that is being answered; `ANYBODY` outside of calls."""
    return _current.get()


def assume(identity: Identity) -> None:
    """Let the call that is being answered be by `identity`, to its end."""
    _current.set(identity)
