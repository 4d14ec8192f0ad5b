"""Rules that are looked at again and again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING

from clickstream_service.domain.hours import hour_of
from clickstream_service.domain.signal import Scope

if TYPE_CHECKING:
    from datetime import datetime

    from clickstream_service.domain.signal import Metric, Value

MAX_HISTORY = 100
"""So many transitions of a monitor are shown."""


class Beyond(IntEnum):
    """On which side of its threshold a monitor fires, numbered as in the contract."""

    BELOW = 1
    ABOVE = 2


class MonitorState(IntEnum):
    """How a monitor stands, numbered as in the contract."""

    UNKNOWN = 0
    OK = 1
    FIRING = 2


@dataclass(frozen=True, slots=True)
class Monitor:
    """A rule: it fires when a metric of the last hours is beyond a threshold.

    `revision` is another each time the monitor is put. The fields from `state` on belong to the server.
    """

    monitor_id: str
    metric: Metric
    beyond: Beyond
    threshold: float
    window: timedelta
    surface: str
    segment: str
    segment_value: str
    min_count: int
    webhook_url: str
    revision: str = ""
    state: MonitorState = MonitorState.UNKNOWN
    state_since: datetime | None = None

    def scope(self, now: datetime) -> Scope:
        """Return what it looks at: from the hour in which the window began up to now."""
        since = hour_of(now - self.window)
        return Scope(since, hour_of(now) + 1, self.surface, self.segment, self.segment_value, "monitor")

    def judge(self, value: Value, sessions: int) -> MonitorState:
        """Return how it stands by a value, which was taken from so many sessions."""
        if value.value is None or sessions < self.min_count:
            return MonitorState.UNKNOWN
        beyond = value.value < self.threshold if self.beyond is Beyond.BELOW else value.value > self.threshold
        return MonitorState.FIRING if beyond else MonitorState.OK


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a monitor's state, and the number that made it."""

    transition_id: str
    monitor_id: str
    state: MonitorState
    at: datetime
    value: Value
    delivered: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A transition that a webhook has to be told of; `attempts` have failed so far."""

    transition_id: str
    url: str
    payload: dict[str, object]
    attempts: int


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """How patient deliveries are."""

    max_attempts: int
    """A delivery that failed this often is given up."""
    backoff: timedelta
    """How long to wait after a first failure; twice as long after each further one."""
    max_backoff: timedelta = timedelta(hours=1)

    def wait_after(self, failures: int) -> timedelta | None:
        """Return how long to wait after so many failures; None to give up."""
        if failures >= self.max_attempts:
            return None
        return min(self.backoff * (1 << min(failures - 1, 20)), self.max_backoff)
