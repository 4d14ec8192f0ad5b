"""Commands of a database as its driver reports them: timed, counted, and part of the present trace."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tideline.rpc import metrics, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Histogram


class Commands:
    """The commands of one client; its threads may report at the same time."""

    def __init__(self, dependency: str) -> None:
        self._dependency = dependency
        self._ends: dict[int, Callable[[str], None]] = {}
        self._seconds: dict[str, Histogram] = {}

    def started(self, number: int, name: str, collection: str) -> None:
        """Command `number` was sent, from the context of whoever wants it."""
        end = tracing.command(self._dependency, name, collection)
        if end is not None:
            self._ends[number] = end

    def ended(self, number: int, name: str, seconds: float, error: str = "") -> None:
        """Command `number` was answered after so many seconds; `error` is the kind of its failure."""
        histogram = self._seconds.get(name)
        if histogram is None:
            histogram = self._seconds[name] = metrics.DEPENDENCY_SECONDS.labels(self._dependency, name)
        histogram.observe(seconds)
        if error:
            metrics.DEPENDENCY_ERRORS.labels(self._dependency, name).inc()
        end = self._ends.pop(number, None)
        if end is not None:
            end(error)


@contextmanager
def reported(dependency: str, name: str, collection: str) -> Iterator[None]:
    """Report the block as a command of a dependency whose driver does not."""
    began, error = time.perf_counter(), ""
    end = tracing.command(dependency, name, collection)
    try:
        yield
    except BaseException as failure:
        error = type(failure).__name__
        raise
    finally:
        metrics.DEPENDENCY_SECONDS.labels(dependency, name).observe(time.perf_counter() - began)
        if error:
            metrics.DEPENDENCY_ERRORS.labels(dependency, name).inc()
        if end is not None:
            end(error)
