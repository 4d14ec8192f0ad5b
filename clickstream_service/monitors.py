"""Monitors: putting them, looking at them, and telling webhooks what became of them."""

from __future__ import annotations

import asyncio
import math
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import structlog

from clickstream_service.domain.errors import MonitorNotFound, UnknownSegment
from clickstream_service.domain.monitor import Delivery, Monitor, Transition
from tideline.errors import InvalidField

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime, timedelta

    from clickstream_service.domain.monitor import DeliveryRules
    from clickstream_service.domain.signal import Value
    from clickstream_service.roles import Role
    from clickstream_service.signals import Signals

DELIVERED_AT_ONCE: Final = 16

_log = structlog.get_logger(__name__)


class MonitorStore(Protocol):
    """Where monitors and their history are kept."""

    async def put(self, monitor: Monitor) -> Monitor:
        """Keep a monitor in the place of the one with its id, whose state stays; return it as it is now."""

    async def get(self, monitor_id: str) -> Monitor | None:
        """Return a monitor; None when there is none."""

    async def transitions(self, monitor_id: str) -> list[Transition]:
        """Return the latest transitions of a monitor, newest first."""

    async def by_id(self, after: str, limit: int) -> list[Monitor]:
        """Return monitors with ids after one, by id."""

    def every(self) -> AsyncIterator[Monitor]:
        """Yield all monitors."""

    async def delete(self, monitor_id: str) -> bool:
        """Delete a monitor and its history; returns whether it was there."""

    async def move(self, monitor: Monitor, transition: Transition, delivery: Delivery | None) -> None:
        """Bring a monitor into another state, unless it was put anew or moved since."""

    async def due(self, now: datetime, limit: int) -> list[Delivery]:
        """Return deliveries to try now, at most one of each monitor, its oldest."""

    async def delivered(self, transition_id: str) -> None:
        """Note that a webhook took a transition."""

    async def failed(self, transition_id: str, again_at: datetime | None) -> None:
        """Note that a webhook did not take it, and when to try again; None to give up."""


class Webhook(Protocol):
    """What sends JSON by POST."""

    async def post(self, url: str, payload: dict[str, object]) -> bool:
        """Return whether the other side took it."""


class Monitors:
    """What can be done with monitors."""

    def __init__(
        self, store: MonitorStore, signals: Signals, hosts: frozenset[str], now: Callable[[], datetime]
    ) -> None:
        """Webhooks may be on these `hosts` only, each a name or a name and a port."""
        self._store = store
        self._signals = signals
        self._hosts = hosts
        self._now = now

    async def put(self, monitor: Monitor) -> Monitor:
        """Create or replace a monitor; raises `UnknownSegment`, or `InvalidField` where no webhook may be."""
        if monitor.webhook_url and not allowed(monitor.webhook_url, self._hosts):
            raise InvalidField("is on no host that webhooks may be on", field="monitor.webhook_url")
        if monitor.segment_value and not monitor.segment:
            raise InvalidField("is the value of no segment", field="monitor.segment_value")
        # Fails where nothing is counted that it could look at.
        await self._signals.value(monitor.scope(self._now()), monitor.metric)
        return await self._store.put(replace(monitor, revision=uuid.uuid4().hex))

    async def get(self, monitor_id: str) -> tuple[Monitor, list[Transition]]:
        """Return a monitor and its latest transitions, newest first; raises `MonitorNotFound`."""
        monitor = await self._store.get(monitor_id)
        if monitor is None:
            raise MonitorNotFound("no monitor has this id", field="monitor_id")
        return monitor, await self._store.transitions(monitor_id)

    async def by_id(self, after: str, limit: int) -> tuple[list[Monitor], bool]:
        """Return monitors with ids after one, by id, and whether there are more."""
        monitors = await self._store.by_id(after, limit + 1)
        return monitors[:limit], len(monitors) > limit

    async def delete(self, monitor_id: str) -> bool:
        """Delete a monitor and its history; returns whether it was there."""
        return await self._store.delete(monitor_id)


class Watch:
    """Looks at all monitors again and again, and tells webhooks of changes; one replica at a time does.

    A webhook is told at least once, in order: when it took a delivery and the service ended before it could note that,
    it is told again, with the same `delivery_id`.
    """

    def __init__(
        self,
        store: MonitorStore,
        signals: Signals,
        webhook: Webhook,
        *,
        hosts: frozenset[str],
        rules: DeliveryRules,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._signals = signals
        self._webhook = webhook
        self._hosts = hosts
        self._rules = rules
        self._now = now

    async def run(self, role: Role, every: timedelta) -> None:
        """Look every so often until cancelled."""

        async def watch(_: int) -> None:
            while True:
                await self.tick()
                await asyncio.sleep(every.total_seconds())

        await role.perform(watch)

    async def tick(self) -> None:
        """Look at every monitor, and try every delivery that is due."""
        async for monitor in self._store.every():
            await self._look_at(monitor)
        while due := await self._store.due(self._now(), DELIVERED_AT_ONCE):
            await asyncio.gather(*map(self._deliver, due))

    async def _look_at(self, monitor: Monitor) -> None:
        now = self._now()
        try:
            value, sessions = await self._signals.value(monitor.scope(now), monitor.metric)
        except UnknownSegment:
            # The setting was changed since; it is not judged by what is not counted.
            _log.warning("a monitor looks at a segment that is not rolled up", monitor_id=monitor.monitor_id)
            return
        state = monitor.judge(value, sessions)
        if state is not monitor.state:
            transition = Transition(uuid.uuid4().hex, monitor.monitor_id, state, now, value)
            await self._store.move(monitor, transition, _delivery(monitor, transition))

    async def _deliver(self, delivery: Delivery) -> None:
        tried_at = self._now()
        if allowed(delivery.url, self._hosts) and await self._webhook.post(delivery.url, delivery.payload):
            await self._store.delivered(delivery.transition_id)
            return
        wait = self._rules.wait_after(delivery.attempts + 1)
        if wait is None:
            _log.error("a webhook did not take a change of a monitor", monitor_id=delivery.payload["monitor_id"])
        await self._store.failed(delivery.transition_id, None if wait is None else tried_at + wait)


def allowed(url: str, hosts: frozenset[str]) -> bool:
    """Return whether a webhook may be told at this URL: exactly these hosts, and no credentials in front of them."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc.lower() in hosts


def _delivery(monitor: Monitor, transition: Transition) -> Delivery | None:
    if not monitor.webhook_url:
        return None
    payload: dict[str, object] = {
        "delivery_id": transition.transition_id,
        "monitor_id": monitor.monitor_id,
        "state": transition.state.name,
        "at": transition.at.isoformat(),
        "metric": monitor.metric.name,
        "comparison": monitor.beyond.name,
        "threshold": monitor.threshold,
        "window_seconds": monitor.window.total_seconds(),
        "surface": monitor.surface,
        "segment": monitor.segment,
        "segment_value": monitor.segment_value,
        **_numbers(transition.value),
    }
    return Delivery(transition.transition_id, monitor.webhook_url, payload, 0)


def _numbers(value: Value) -> dict[str, object]:
    """Return a value as JSON has it, which knows no infinity."""
    ends: Sequence[float | None] = [end if math.isfinite(end) else None for end in (value.low, value.high)]
    return {"value": value.value, "low": ends[0], "high": ends[1], "count": value.count}
