"""How far an import has got, in a file, so that another run goes on from there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Progress:
    """What became of the items so far, in the order in which they are found."""

    done: int = 0
    """Items that were dealt with."""
    sessions_recorded: int = 0
    sessions_known: int = 0
    """Sessions that had been recorded before, with the same content."""
    interactions_recorded: int = 0
    interactions_known: int = 0
    standing_alone: int = 0
    """Of the interactions: whose session was not there."""
    passed_over: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    rejected_bytes: int = 0
    """How long the file of rejected lines is."""


class Checkpoint:
    """A file that says how far an import has got."""

    def __init__(self, path: Path, job: str) -> None:
        """`job` says what is imported from where to where: a checkpoint of another job is none."""
        self._path = path
        self._job = job

    def load(self) -> Progress:
        """Return how far the last run has got; nowhere when there was none."""
        try:
            kept = json.loads(self._path.read_text())
        except FileNotFoundError:
            return Progress()
        return Progress(**kept["progress"]) if kept["job"] == self._job else Progress()

    def save(self, progress: Progress) -> None:
        """Keep how far it has got; whoever reads it finds either this or what was there before."""
        written = self._path.with_name(self._path.name + ".new")
        written.write_text(json.dumps({"job": self._job, "progress": asdict(progress)}))
        written.replace(self._path)

    def remove(self) -> None:
        """Forget it: the import is complete."""
        self._path.unlink(missing_ok=True)
