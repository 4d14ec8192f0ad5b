"""Users with many copies, learned from one search or from many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deploy.local.client import Recorded
from tests.benchmarks.learning.evidence import unit
from tideline.clickstream.v1 import session_pb2
from tideline.improvement.v1 import object_pb2, object_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from deploy.local.client import Client
    from improvement_service.adjust.evidence import Floats

COLLECTION = "bench"
A_CALL = 500
A_STREAM = 10_000


class Shoppers:
    """`objects` in a collection, and `users` who have `copies` of them.

    A user searched once for each of `searches`, taken in turns, for different things: was shown as many objects as make
    up the copies, and clicked the first and the last.
    """

    dimension = 384
    gate = 0.6

    def __init__(self, *, objects: int, users: int, copies: int, searches: Sequence[int] = (1,)) -> None:
        rng = np.random.default_rng(2)
        self.objects, self.users, self.copies = objects, users, copies
        # As embeddings are: around some topics, not spread evenly.
        topics = unit(rng.standard_normal((50, self.dimension)))
        self.topic = rng.integers(50, size=objects)
        self.vectors = unit(topics[self.topic] + 0.06 * rng.standard_normal((objects, self.dimension)))
        self.queries = [
            unit(topics[(user + np.arange(count)) % 50] + 0.03 * rng.standard_normal((count, self.dimension)))
            for user in range(users)
            for count in [searches[user % len(searches)]]
        ]
        """Of each user, [searches, D]."""

    def query_of(self, user: int, rng: np.random.Generator, spread: float = 0.3) -> Floats:
        """Return a query [D] like one that the user was learned from, at about `spread` from it."""
        away = spread * rng.standard_normal(self.dimension) / np.sqrt(self.dimension)
        query: Floats = unit((rng.choice(self.queries[user]) + away)[None])[0]
        return query

    async def learn(self, client: Client) -> None:
        """Fill the collection, record the searches and have them learned from."""
        collection = object_pb2.Collection(name=COLLECTION, dimension=self.dimension, metric=object_pb2.METRIC_COSINE)
        await client.objects.CreateCollection(object_service_pb2.CreateCollectionRequest(collection=collection))
        for start in range(0, self.objects, A_STREAM):
            await client.objects.UpsertObjects(self._upserts(range(start, min(start + A_STREAM, self.objects))))
        await client.record([one for user in range(self.users) for one in self._searched(user)], lambda _: None)
        run = await client.run(lambda _: None)
        if run.users.settled != self.users or run.vectors_moved < 0.9 * self.users * self.copies:
            raise RuntimeError(f"the users were not learned from: {run}")

    async def view(self, client: Client, user: int) -> Floats:
        """Return the vectors of all objects as the user has them, [objects, D]."""
        view = self.vectors.copy()
        for start in range(0, self.objects, A_CALL):
            ids = [f"object {number}" for number in range(start, min(start + A_CALL, self.objects))]
            request = object_service_pb2.GetObjectsRequest(
                collection=COLLECTION, object_ids=ids, user_id=f"user {user}"
            )
            for one in (await client.objects.GetObjects(request)).objects:
                view[int(one.object.object_id.split()[1])] = one.object.parts[0].vector
        return view

    def _searched(self, user: int) -> Iterator[Recorded]:
        shown = self.copies // len(self.queries[user])
        for number, query in enumerate(self.queries[user]):
            nearest = np.argsort(-(self.vectors @ query))[:shown]
            session = session_pb2.Session(
                session_id=f"session {user} {number}",
                user_id=f"user {user}",
                collection=COLLECTION,
                query_vector=query.tolist(),
                search_results=[session_pb2.SearchResult(object_id=f"object {one}") for one in nearest],
            )
            yield Recorded(session, (0, shown - 1))

    async def _upserts(self, numbers: range) -> AsyncIterator[object_service_pb2.UpsertObjectsRequest]:
        for start in range(numbers.start, numbers.stop, A_CALL):
            objects = [
                object_pb2.Object(
                    object_id=f"object {number}", parts=[object_pb2.Part(vector=self.vectors[number].tolist())]
                )
                for number in range(start, min(start + A_CALL, numbers.stop))
            ]
            yield object_service_pb2.UpsertObjectsRequest(collection=COLLECTION, objects=objects)
