"""Whether there is a database to ask, and for how long an answer is of use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pymongo
from pymongo.monitoring import TopologyListener

from tideline.errors import DependencyUnavailable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pymongo.monitoring import TopologyClosedEvent, TopologyDescriptionChangedEvent, TopologyOpenedEvent


def within(seconds: float) -> AbstractContextManager[None]:
    """Give calls of the database up after so many seconds, here and in the database itself."""
    return pymongo.timeout(seconds)


class Availability(TopologyListener):
    """Follows what the driver finds out about the database in the background, every few seconds or at once.

    An outage first makes calls wait, as most are elections that are over in seconds. After `patience_s` new ones would
    wait for nothing and fill the threads of the driver: they are refused at once, until there is a primary again.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._away_since: float | None = None

    def check(self) -> None:
        """Raise `DependencyUnavailable` when there has been no primary for longer than calls wait for one."""
        since = self._away_since
        if since is not None and time.monotonic() - since > self._patience_s:
            raise DependencyUnavailable("the database does not answer")

    def opened(self, event: TopologyOpenedEvent) -> None:
        """Know nothing yet."""

    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        """Note since when there is no primary."""
        if event.new_description.has_writable_server():
            self._away_since = None
        elif self._away_since is None:
            self._away_since = time.monotonic()

    def closed(self, event: TopologyClosedEvent) -> None:
        """Nobody asks any more."""
