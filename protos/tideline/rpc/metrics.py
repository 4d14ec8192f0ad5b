"""Metrics for Prometheus: those that both services have, and how they are served.

Names and labels are part of what operators rely on; `deploy/observability` uses them. Labels have few values, which
callers cannot choose.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

_log = structlog.get_logger(__name__)

REGISTRY: Final = CollectorRegistry()
"""What is counted in this process."""
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_QUERIES_S: Final = 3.0
"""How long a scrape waits for what has to be asked of a database; it comes without that then."""


def counter(name: str, said: str, labels: Sequence[str] = ()) -> Counter:
    """Make a counter; its name ends in `_total`."""
    return Counter(name, said, labels, registry=REGISTRY)


def gauge(name: str, said: str, labels: Sequence[str] = ()) -> Gauge:
    """Make a gauge."""
    return Gauge(name, said, labels, registry=REGISTRY)


def histogram(name: str, said: str, labels: Sequence[str] = (), buckets: Sequence[float] = _SECONDS) -> Histogram:
    """Make a histogram, of seconds unless told otherwise."""
    return Histogram(name, said, labels, registry=REGISTRY, buckets=buckets)


_METHOD: Final = ("service", "method")
RPC_HANDLED: Final = counter("tideline_rpc_handled_total", "Calls that ended, by status.", (*_METHOD, "code"))
RPC_SECONDS: Final = histogram("tideline_rpc_seconds", "How long calls took; streams as long as they last.", _METHOD)
RPC_IN_FLIGHT: Final = gauge("tideline_rpc_in_flight", "Calls, and streams, under way.", _METHOD)
RPC_MESSAGES: Final = counter(
    "tideline_rpc_stream_messages_total", "Messages of streams, received and sent.", (*_METHOD, "direction")
)
DEPENDENCY_SECONDS: Final = histogram(
    "tideline_dependency_seconds", "How long commands of a database took.", ("dependency", "command")
)
DEPENDENCY_ERRORS: Final = counter(
    "tideline_dependency_errors_total", "Commands of a database that failed.", ("dependency", "command")
)
DEPENDENCY_UP: Final = gauge(
    "tideline_dependency_up", "Whether a database answers, as of the last check.", ["dependency"]
)


class Asked:
    """Gauges that a database is asked for whenever they are scraped.

    Each replica that is scraped asks, and says the same as the others: take the maximum, not the sum.
    """

    def __init__(self, declared: Mapping[str, str], ask: Callable[[], Awaitable[Mapping[str, float]]]) -> None:
        """Take what each gauge is, by name; `ask` returns their values, without those that there are none of."""
        self._declared = declared
        self._ask = ask
        self._loop = asyncio.get_running_loop()

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; none when the database does not answer. Called in a thread."""
        for name, value in self._values().items():
            yield GaugeMetricFamily(name, self._declared[name], value=value)

    def _values(self) -> Mapping[str, float]:
        asking = asyncio.run_coroutine_threadsafe(self._asked(), self._loop)
        try:
            return asking.result(_QUERIES_S)
        except (TimeoutError, CancelledError):
            asking.cancel()
            return {}

    async def _asked(self) -> Mapping[str, float]:
        try:
            return await self._ask()
        except Exception as error:  # noqa: BLE001 - the other metrics are wanted all the more
            _log.warning("gauges could not be read", error=type(error).__name__)
            return {}


@asynccontextmanager
async def served(address: str, *more: Asked) -> AsyncIterator[int]:
    """Serve `/metrics` over HTTP on `host:port` for as long as the block lasts; yields the port, 0 without address."""
    if not address:
        yield 0
        return
    host, _, port = address.rpartition(":")
    registry: Any = CollectorRegistry()
    ProcessCollector(registry=registry)
    for collector in (REGISTRY, *more):
        registry.register(collector)
    server, _ = start_http_server(int(port), host.strip("[]"), registry)
    _log.info("serving metrics", address=address, port=server.server_port)
    try:
        yield server.server_port
    finally:
        # In a thread, since a scrape may be waiting for this one.
        await asyncio.to_thread(server.shutdown)
        server.server_close()
