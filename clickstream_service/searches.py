"""Reading what was searched for and what was done about it, to learn from it."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from clickstream_service.domain.training import Search, Selection


class Order(Enum):
    """In which order sessions are read."""

    QUERY = auto()
    """By the key of the query, then by id; sessions without a query are left out."""
    TIME = auto()
    """Oldest first."""
    BATCH = auto()
    """By their number in the batch that is asked for."""


class SearchStore(Protocol):
    """Where sessions and events are kept."""

    def searches(self, selection: Selection, order: Order) -> AsyncGenerator[list[Search], None]:
        """Yield the selected sessions and what counts of their events, some at a time, in flat memory."""
