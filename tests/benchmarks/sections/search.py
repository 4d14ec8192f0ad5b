"""Personalised search beside a bare search of the same vectors, and whether it finds what it has to."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import grpc
import numpy as np
from pymilvus import MilvusClient

from deploy.local.client import Client
from deploy.local.stack import Stack
from improvement_service.vectors import schema
from tests.benchmarks.harness import Rounds, Row, Table, interleaved
from tests.benchmarks.learning.milvus import kind as kind_of
from tests.benchmarks.learning.milvus import milvus, of_stack
from tests.benchmarks.learning.shoppers import COLLECTION, Shoppers
from tideline.improvement.v1.search_service_pb2 import SearchRequest
from tideline.improvement.v1.search_service_pb2_grpc import SearchServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable

    from improvement_service.adjust.evidence import Floats
    from tests.benchmarks.harness import Bench, Measure

    Search = Callable[[int, Floats], None]

LIMIT = 20
EF = 64
COPIES = 400
SEARCHES = (20, 1)
"""How many searches the copies of a user were learned from; users of each kind take turns."""


async def tables(bench: Bench) -> list[Table]:
    """Return how long searches take, and how many were wrong."""
    return [await _latency(bench), await _correctness(bench)]


async def _latency(bench: Bench) -> Table:
    shoppers = Shoppers(
        objects=2_000 if bench.quick else 200_000, users=10 if bench.quick else 40, copies=COPIES, searches=SEARCHES
    )
    folder = bench.folder / "latency"
    folder.mkdir()
    with milvus(folder) as uri, Stack(folder, milvus=of_stack(uri)) as stack:
        async with Client(stack.clickstream.address, stack.improvement.address) as client:
            await shoppers.learn(client)
            if not uri.startswith("http"):
                return Table("Latency", [Row("personalised / bare", "no Milvus server is installed")])
        latencies = _Latencies(shoppers, bench.amount(400), bare_search(uri))
        with grpc.insecure_channel(stack.improvement.address) as channel:
            p50 = await interleaved(latencies.measures(SearchServiceStub(channel)), bench)
    text = (
        f"{shoppers.objects:,} x {shoppers.dimension}, HNSW; {shoppers.users} users with {COPIES} copies each, learned "
        f"from {SEARCHES[0]} searches, of which a query concerns one, or all from one, which hides the {COPIES} "
        f"nearest originals; {LIMIT} results. Bare: `MilvusClient.search` with the same filter and ef={EF} on a "
        f"{kind_of(uri)}; personalised: `Search`; both by clients that block."
    )
    rows = []
    for count in SEARCHES:
        copies = f"{COPIES} copies from {count} searches" if count > 1 else f"{COPIES} copies from one search"
        for what, rounds, most, aim in (("p50", p50, 1.5, 1.1), ("p99", latencies.p99(), 2.5, 1.5)):
            name = f"{count} searches"
            behind = ", ".join(f"{one} {1000 * rounds.median(one):.1f} ms" for one in ("bare", "without a user", name))
            rows.append(rounds.ratio(name, "bare").at_most(f"personalised, {copies} / bare, {what}", most, aim, behind))
    return Table("Latency", rows, text)


def bare_search(uri: str) -> Search:
    """Return what searches the originals by the driver alone."""
    client = MilvusClient(uri)
    (name,) = [name for name in client.list_collections() if not name.endswith(schema.OF_USERS)]

    def search(_user: int, query: Floats) -> None:
        client.search(
            name, [query], filter=schema.SEARCHED, limit=LIMIT, output_fields=["object_id", "payload"],
            search_params={"params": {"ef": EF}}, consistency_level="Session",
        )  # fmt: skip

    return search


class _Latencies:
    """Times searches of users whose copies come from few or many searches."""

    def __init__(self, shoppers: Shoppers, a_round: int, bare: Search) -> None:
        self._shoppers, self._a_round, self._bare = shoppers, a_round, bare
        self._rng = np.random.default_rng(5)
        self._slow: dict[str, list[float]] = {}

    def measures(self, searches: SearchServiceStub) -> dict[str, Measure]:
        """Return what yields the median of a round, by name."""

        def of_user(user: int, query: Floats) -> None:
            request = SearchRequest(collection=COLLECTION, query_vector=query, user_id=f"user {user}", limit=LIMIT)
            found = searches.Search(request).results
            if len(found) != LIMIT or not any(one.personal for one in found):
                raise RuntimeError("a search was not personalised")

        def of_nobody(_user: int, query: Floats) -> None:
            searches.Search(SearchRequest(collection=COLLECTION, query_vector=query, limit=LIMIT))

        users = {f"{count} searches": (kind, of_user) for kind, count in enumerate(SEARCHES)}
        works: dict[str, tuple[int, Search]] = {"bare": (0, self._bare), "without a user": (0, of_nobody), **users}
        return {name: partial(self._measure, name, kind, work) for name, (kind, work) in works.items()}

    def p99(self) -> Rounds:
        """Return what the slowest hundredth of each round took; the first one does not count."""
        return Rounds({name: values[1:] for name, values in self._slow.items()})

    async def _measure(self, name: str, kind: int, work: Search) -> float:
        took = []
        for user in self._rng.choice(np.arange(kind, self._shoppers.users, len(SEARCHES)), size=self._a_round):
            query = self._shoppers.query_of(user, self._rng)
            began = time.perf_counter()
            work(user, query)
            took.append(time.perf_counter() - began)
        self._slow.setdefault(name, []).append(float(np.quantile(took, 0.99)))
        return float(np.median(took))


async def _correctness(bench: Bench) -> Table:
    shoppers = Shoppers(objects=2_000, users=3 if bench.quick else 20, copies=100)
    checks = 200 if bench.quick else 10_000
    folder = bench.folder / "correctness"
    folder.mkdir()
    wrong = personal = 0
    with Stack(folder) as stack:
        async with Client(stack.clickstream.address, stack.improvement.address) as client:
            await shoppers.learn(client)
            views = [await shoppers.view(client, user) for user in range(shoppers.users)]
            rng = np.random.default_rng(6)
            for _ in range(checks):
                user = int(rng.integers(shoppers.users))
                query = shoppers.query_of(user, rng, spread=float(rng.uniform(0, 2)))
                found = await client.search(COLLECTION, query, user_id=f"user {user}", limit=LIMIT)
                wrong += not _right(found, query, shoppers, views[user], user)
                personal += any(one.personal for one in found)
    row = Row(
        f"wrong results in {checks:,} random searches, against brute force over all the user has",
        str(wrong), "0", "0", f"{personal:,} of them had copies among the results", wrong == 0,
    )  # fmt: skip
    return Table("Correctness", [row], "Milvus Lite, exact index; near, far and unrelated queries.")


def _right(found: object, query: Floats, shoppers: Shoppers, view: Floats, user: int) -> bool:
    """Whether the results are the best of the user's view, allowing for ties within float32."""
    gated = float((shoppers.queries[user] @ query).max()) >= shoppers.gate
    scores = (view if gated else shoppers.vectors) @ query
    best = np.sort(scores)[::-1][:LIMIT]
    got = [(int(one.object_id.split()[1]), one.score) for one in found]  # type: ignore[attr-defined]
    if len({number for number, _ in got}) != LIMIT:
        return False
    return bool(
        np.allclose([score for _, score in got], best, atol=1e-5)
        and np.allclose([scores[number] for number, _ in got], best, atol=1e-5)
    )
