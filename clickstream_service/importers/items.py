"""What an importer finds in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickstream_service.importers.source import Source
    from tideline.clickstream.v1.interaction_pb2 import Interaction
    from tideline.clickstream.v1.session_pb2 import Session


class BadLine(ValueError):
    """A line that cannot be read; says why."""


UNREADABLE: Final = (ValueError, TypeError, RecursionError)
"""What reading a line may raise, `BadLine` among them: a message refuses what does not fit into it in its own words."""


def why(error: Exception) -> str:
    """Say what is wrong with a line."""
    return str(error) if isinstance(error, BadLine) else "holds values that cannot be kept"


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A search to record."""

    line: int
    """Where it was found, counted from 1."""
    message: Session


@dataclass(frozen=True, slots=True)
class FoundInteraction:
    """An interaction to record."""

    line: int
    message: Interaction
    alone: Interaction | None = None
    """What to record instead when its session is not there."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that cannot be taken, as it is, and why."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A line that is nothing to record by itself."""

    line: int
    what: str
    """What it is, for the summary. Example: "queries that went on with one before"."""


Item: TypeAlias = FoundSession | FoundInteraction | Rejected | PassedOver


class Importer(Protocol):
    """Reads one format."""

    def read(self, source: Source) -> Iterator[Item]:
        """Yield what is in a file, always in the same order, a session before its interactions.

        Ids are made of the input, so that the same file twice is recorded once.
        """
