"""For how long the caller still waits, known wherever its call is worked on."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNTIL: ContextVar[float | None] = ContextVar("until", default=None)
_SHORTEST_S: Final = 0.001


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Work for a caller who waits for so long; work that shall outlast the call is begun in a context of its own."""
    token = _UNTIL.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _UNTIL.reset(token)


def begin(seconds: float) -> None:
    """Work for such a caller until the task ends: it, and so its context, has to be that call's alone."""
    _UNTIL.set(time.monotonic() + seconds)


def at_most(seconds: float) -> float:
    """Return the shorter of `seconds` and what the caller still waits for."""
    until = _UNTIL.get()
    return seconds if until is None else max(min(seconds, until - time.monotonic()), _SHORTEST_S)


def over() -> bool:
    """Whether the caller waits no more."""
    until = _UNTIL.get()
    return until is not None and until - time.monotonic() <= _SHORTEST_S
