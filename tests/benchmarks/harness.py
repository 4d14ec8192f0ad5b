"""Measuring things side by side: one after the other, round by round, so that all of them meet the same machine."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    Measure = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Bench:
    """How thoroughly to measure, and where to put things meanwhile."""

    quick: bool
    folder: Path

    @property
    def rounds(self) -> int:
        """How often each thing is measured; medians are over as many."""
        return 3 if self.quick else 7

    def amount(self, full: int) -> int:
        """How much to do in a round instead of `full`."""
        return max(1, full // 10) if self.quick else full


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table; `at_least` and `aim` are empty when nothing is asked for.

    `met` says whether `at_least` was reached, None when there is nothing to reach; `behind` has the numbers that the
    figure was made of.
    """

    figure: str
    reached: str
    at_least: str = ""
    aim: str = ""
    behind: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Some rows under a title, and what a reader has to know about them, in Markdown."""

    title: str
    rows: Sequence[Row]
    text: str = ""


@dataclass(slots=True)
class Rounds:
    """What each of several things reached, round by round, in their own unit."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.values[name])

    def ratio(self, name: str, to: str) -> Ratio:
        """Compare within each round, as the machine may be another one in the next."""
        return Ratio([a / b for a, b in zip(self.values[name], self.values[to], strict=True)])


@dataclass(frozen=True, slots=True)
class Ratio:
    """How one thing compares with another, in each round."""

    each: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.each)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.each):.2f}-{max(self.each):.2f})"

    def row(self, figure: str, at_least: float, aim: float | str, behind: str) -> Row:
        """Return the line for a table; nothing is asked for when `at_least` is 0."""
        asked = str(at_least) if at_least else ""
        return Row(figure, str(self), asked, str(aim), behind, self.median >= at_least if asked else None)

    def at_most(self, figure: str, most: float, aim: float, behind: str) -> Row:
        """Return the line of something that is to be small."""
        return Row(figure, str(self), f"<= {most}", f"<= {aim}", behind, self.median <= most)


async def interleaved(measures: Mapping[str, Measure], bench: Bench) -> Rounds:
    """Measure each in turn, round by round and in changing order, after a round that does not count.

    For a quick look all of them count: of three the median is not the first one, which is the slowest.
    """
    names, rounds = list(measures), bench.rounds
    if not bench.quick:
        for name in names:
            await measures[name]()
    found = Rounds({name: [] for name in names})
    for number in range(rounds):
        turn = number % len(names)
        print(f"round {number + 1} of {rounds}: {', '.join(names)}", file=sys.stderr)  # noqa: T201
        for name in names[turn:] + names[:turn]:
            found.values[name].append(await measures[name]())
    return found
