"""Inputs to fine-tune on, in the types of whoever trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.clickstream.training.calls import inputs
from tideline.training import Acted, Example, SessionConverter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.clickstream.training.calls import Log
    from tideline.clickstream.v1.session_pb2 import SearchQuery
    from tideline.clickstream.v1.training_service_pb2_grpc import TrainingServiceAsyncStub


@dataclass(frozen=True)
class Product:
    title: str


CATALOGUE = {object_id: Product(object_id.upper()) for object_id in "abd"}


def words(query: SearchQuery, vector: Sequence[float]) -> tuple[str, ...] | None:
    assert not vector
    return tuple(query.text.split()) or None


async def test_sessions_become_examples_of_ones_own_types(training: TrainingServiceAsyncStub, log: Log) -> None:
    await log.search("s1", "abcd", ["d", ("d", "share"), "c", "a"])
    await log.search("s2", "ab", ["a"], query="")
    converter = SessionConverter[Product, tuple[str, ...]](CATALOGUE.get, words)
    (example,) = converter.convert_all(await inputs(training))
    assert example == Example(
        session_id="s1",
        query=("red", "shoes"),
        results=(Product("A"), Product("B"), Product("D")),
        ranks=(1, 2, 4),
        events=(Acted(Product("D"), 2.0, ("click", "share")), Acted(Product("A"), 1.0, ("click",))),
        not_events=(Product("B"),),
        is_irrelevant=False,
        batch_id=example.batch_id,
    )
