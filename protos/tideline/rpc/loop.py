"""The event loop that a service runs on."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")

YOUNG: Final = 10_000
"""How many objects come to be before cycles are looked for among them. An answer is made of thousands, few of them in
cycles; Python looks after each 700."""


def run(main: Coroutine[object, object, _T]) -> _T:
    """Run `main` to its end: on uvloop where that is installed, as half the cost of a small call is the loop's."""
    # What is there by now stays: it is not gone through again and again.
    gc.freeze()
    gc.set_threshold(YOUNG)
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(main)


def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - there is none on Windows
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
