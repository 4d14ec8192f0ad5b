"""One experiment: people search, click what they like, the service learns; does their next search get better?"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from deploy.local.clicks import SHOWN, clicked_places
from deploy.local.client import Client, Recorded, each
from deploy.local.measure import TOP
from deploy.local.world import ROLES, User, World
from tideline.clickstream.v1 import session_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

Ranking = list[int]
"""Rows of items, best first."""


@dataclass(frozen=True)
class Arm:
    """One way to try it: a collection, with the adjuster it learns with, and a seed that decides who clicks what."""

    collection: str
    seed: int
    known_as: str = "{user_id}"
    """What users are called in this arm. Arms at the same services need different names: people are learned from once
    for all collections, so they would share their sessions."""
    surface: str = ""
    """Where its searches are made; examination is estimated by surface."""

    def user_id(self, user: User) -> str:
        return self.known_as.format(user_id=user.user_id)


class Experiment:
    """The people of a world in one or more arms, at running services."""

    def __init__(self, client: Client, world: World) -> None:
        self._client = client
        self._world = world
        self._rows = {item["object_id"]: row for row, item in enumerate(world.items)}
        self.queries = sorted({query for user in world.users for query in _queries(user)})
        """Each query that somebody has."""
        self.searches = sum(len(_queries(user)) for user in world.users)
        """How many searches `personal_rankings` makes."""

    async def base_rankings(self, collection: str, advance: Callable[[int], None]) -> dict[int, Ranking]:
        """What everybody is shown for each query that somebody has."""

        async def search(query: int) -> Ranking:
            ranking = await self._search(collection, query, "", SHOWN)
            advance(1)
            return ranking

        return dict(zip(self.queries, await each(search, self.queries), strict=True))

    def sessions(self, arm: Arm, shown: dict[int, Ranking], repeats: int) -> list[Recorded]:
        """Each user types each learned query `repeats` times and clicks by taste and place."""
        recorded = []
        for user in self._world.users:
            for query in user.queries["train"]:
                for repeat in range(repeats):
                    chance = Random(f"{arm.seed}/{user.user_id}/{query}/{repeat}")
                    clicked = clicked_places(shown[query], user.relevant[query], chance)
                    session_id = f"{arm.collection}/{arm.user_id(user)}/{query}/{repeat}"
                    session = self._session(session_id, arm, user, query, shown[query])
                    recorded.append(Recorded(session, clicked))
        return recorded

    async def personal_rankings(self, arm: Arm, advance: Callable[[int], None]) -> list[dict[int, Ranking]]:
        """What each user is shown now for each of the user's queries."""

        async def search(asked: tuple[str, int]) -> Ranking:
            user_id, query = asked
            ranking = await self._search(arm.collection, query, user_id, TOP)
            advance(1)
            return ranking

        asked = [(arm.user_id(user), query) for user in self._world.users for query in _queries(user)]
        rankings = iter(await each(search, asked))
        return [{query: next(rankings) for query in _queries(user)} for user in self._world.users]

    async def _search(self, collection: str, query: int, user_id: str, limit: int) -> Ranking:
        vector = self._world.query_vectors[query]
        results = await self._client.search(collection, vector, user_id=user_id, limit=limit)
        return [self._rows[result.object_id] for result in results]

    def _session(self, session_id: str, arm: Arm, user: User, query: int, shown: Ranking) -> session_pb2.Session:
        session = session_pb2.Session(
            session_id=session_id,
            user_id=arm.user_id(user),
            collection=arm.collection,
            search_query=session_pb2.SearchQuery(text=self._world.queries[query]),
            query_vector=self._world.query_vectors[query].tolist(),
            search_results=[
                session_pb2.SearchResult(object_id=self._world.items[row]["object_id"], rank=rank)
                for rank, row in enumerate(shown, start=1)
            ],
        )
        if arm.surface:
            session.search_meta["surface"] = arm.surface
        return session


def _queries(user: User) -> list[int]:
    return list(dict.fromkeys(query for role in ROLES for query in user.queries[role]))
