"""Inputs to fine-tune on, in the types of whoever trains: items and queries are theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tideline.clickstream.v1 import training_service_pb2 as pb
    from tideline.clickstream.v1.session_pb2 import SearchQuery

ItemT = TypeVar("ItemT")
QueryT = TypeVar("QueryT")


@dataclass(frozen=True, slots=True)
class Acted(Generic[ItemT]):
    """An item that something was done with, and how much that says for it."""

    item: ItemT
    importance: float
    event_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Example(Generic[ItemT, QueryT]):
    """A search: what was shown in shown order, with its ranks; what was acted on, most important first; the rest."""

    session_id: str
    query: QueryT
    results: tuple[ItemT, ...]
    ranks: tuple[int, ...]
    events: tuple[Acted[ItemT], ...]
    not_events: tuple[ItemT, ...]
    is_irrelevant: bool
    batch_id: str


class SessionConverter(Generic[ItemT, QueryT]):
    """Turns `FineTuningInput` messages into examples."""

    def __init__(
        self,
        item: Callable[[str], ItemT | None],
        query: Callable[[SearchQuery, Sequence[float]], QueryT | None],
    ) -> None:
        """`item` looks an object up by its id; `query` reads a query and its vector, which may be empty.

        None is for what is not there any more: such an item is left out of its examples, such a query has none.
        """
        self._item = item
        self._query = query

    def convert(self, given: pb.FineTuningInput) -> Example[ItemT, QueryT] | None:
        """Return the example; None when there is no query."""
        query = self._query(given.query, given.query_vector)
        if query is None:
            return None
        ids = {*given.result_object_ids, *(event.object_id for event in given.events)}
        items = {object_id: item for object_id in ids if (item := self._item(object_id)) is not None}
        shown = [(i, r) for i, r in zip(given.result_object_ids, given.ranks, strict=True) if i in items]
        return Example(
            session_id=given.session_id,
            query=query,
            results=tuple(items[object_id] for object_id, _ in shown),
            ranks=tuple(rank for _, rank in shown),
            events=tuple(
                Acted(items[event.object_id], event.importance, tuple(event.event_types))
                for event in given.events
                if event.object_id in items
            ),
            not_events=tuple(items[each] for each in given.not_event_object_ids if each in items),
            is_irrelevant=given.is_irrelevant,
            batch_id=given.batch_id,
        )

    def convert_all(self, given: Iterable[pb.FineTuningInput]) -> Iterator[Example[ItemT, QueryT]]:
        """Yield the examples one after the other, as they are streamed."""
        for each in given:
            example = self.convert(each)
            if example is not None:
                yield example
