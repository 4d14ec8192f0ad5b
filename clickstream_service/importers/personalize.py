"""Interactions of AWS Personalize as CSV: each row stands alone, since there was no search.

USER_ID, ITEM_ID and TIMESTAMP (seconds since 1970) have to be there. EVENT_TYPE is `click` when there is none: a row is
by definition something positive. IMPRESSION gives the position; all other columns are metadata.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.importers import values
from clickstream_service.importers.items import UNREADABLE, BadLine, FoundInteraction, Item, Rejected, why
from clickstream_service.importers.source import Line
from tideline.clickstream.v1.interaction_pb2 import Interaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickstream_service.importers.names import Names
    from clickstream_service.importers.source import Source

_NEEDED: Final = ("USER_ID", "ITEM_ID", "TIMESTAMP")
_TAKEN: Final = {*_NEEDED, "EVENT_TYPE"}


class Personalize:
    """Reads interactions of Personalize."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def read(self, source: Source) -> Iterator[Item]:
        """Yield an interaction for each row; raises `BadLine` when the header is not that of interactions."""
        feed = _Feed(source)
        rows = csv.reader(feed.lines())
        header = [name.strip().upper() for name in next(rows, [])]
        missing = [name for name in _NEEDED if name not in header]
        if missing:
            raise BadLine(f"the header has no {', '.join(missing)}")
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield Rejected(feed.number, str(error), "")
                continue
            yield from feed.broken
            feed.broken.clear()
            if row is None:
                return
            line = _line(feed.number, row)
            try:
                if len(row) != len(header):
                    raise BadLine(f"has {len(row)} values where the header has {len(header)}")
                yield FoundInteraction(line.number, self._interaction(line, dict(zip(header, row, strict=True))))
            except UNREADABLE as error:
                yield Rejected(line.number, why(error), line.readable)

    def _interaction(self, line: Line, row: dict[str, Any]) -> Interaction:
        item = values.needed(row, "ITEM_ID")
        shown = [each for each in values.text(row, "IMPRESSION").split("|") if each]
        interaction = Interaction(
            interaction_id=values.id_of(line),
            feature_id=item,
            interaction_types=[self._names.type_of(values.text(row, "EVENT_TYPE") or "click")],
            position=shown.index(item) if item in shown else None,
            result_set_size=len(shown) or None,
            user_id=values.needed(row, "USER_ID"),
            occurred_at=values.timestamp(row, "TIMESTAMP", values.SECONDS),
        )
        rest = {name.lower(): value for name, value in row.items() if name not in _TAKEN}
        values.fill(interaction.metadata, {**rest, "impression": shown})
        return interaction


class _Feed:
    """Gives the lines of a file to the reader of CSV, and knows which it took last: a row is named after that."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.number = 0
        self.broken: list[Rejected] = []
        """What the reader did not get to see."""

    def lines(self) -> Iterator[str]:
        for line in self._source.lines():
            if line.text is None:
                self.broken.append(Rejected(line.number, "is not UTF-8", line.readable))
            else:
                self.number = line.number
                yield line.text + "\n"


def _line(number: int, row: list[str]) -> Line:
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(row)
    text = written.getvalue()
    return Line(number, text, text.encode())
