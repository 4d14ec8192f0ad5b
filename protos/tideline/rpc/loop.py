"""The event loop that a service runs on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")


def run(main: Coroutine[object, object, _T]) -> _T:
    """Run `main` to its end: on uvloop where that is installed, as half the cost of a small call is the loop's."""
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(main)


def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - there is none on Windows
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
