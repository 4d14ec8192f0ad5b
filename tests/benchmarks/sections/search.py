"""Personalised search beside a bare search of the same vectors, and whether it finds what it has to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from pymilvus import MilvusClient

from deploy.local.client import Client
from deploy.local.stack import Stack
from improvement_service.vectors import schema
from tests.benchmarks.harness import Row, Table, interleaved
from tests.benchmarks.learning.milvus import kind, milvus
from tests.benchmarks.learning.shoppers import COLLECTION, Shoppers

if TYPE_CHECKING:
    from improvement_service.adjust.evidence import Floats
    from tests.benchmarks.harness import Bench

LIMIT = 20
EF = 64


async def tables(bench: Bench) -> list[Table]:
    """Return how long searches take, and how many were wrong."""
    return [await _latency(bench), await _correctness(bench)]


async def _latency(bench: Bench) -> Table:
    shoppers = Shoppers(objects=20_000 if bench.quick else 200_000, users=10 if bench.quick else 40, copies=400)
    folder = bench.folder / "latency"
    folder.mkdir()
    a_round = bench.amount(400)
    seen: dict[str, list[float]] = {"p99 bare": [], "p99 personalised": []}
    with milvus(folder) as uri, Stack(folder, milvus=uri if uri.startswith("http") else "lite") as stack:
        async with Client(stack.clickstream.address, stack.improvement.address) as client:
            await shoppers.learn(client)
            if not uri.startswith("http"):
                return Table("Latency", [Row("personalised / bare", "no Milvus server is installed")])
            bare = MilvusClient(uri)
            (name,) = [name for name in bare.list_collections() if not name.endswith(schema.OF_USERS)]
            rng = np.random.default_rng(5)

            async def of_bare() -> float:
                took = []
                for user in rng.integers(shoppers.users, size=a_round):
                    query = shoppers.query_of(user, rng)
                    began = time.perf_counter()
                    bare.search(
                        name, [query], filter=schema.SEARCHED, limit=LIMIT, output_fields=["object_id", "payload"],
                        search_params={"params": {"ef": EF}}, consistency_level="Session",
                    )  # fmt: skip
                    took.append(time.perf_counter() - began)
                seen["p99 bare"].append(float(np.quantile(took, 0.99)))
                return float(np.median(took))

            async def of_ours() -> float:
                took = []
                for user in rng.integers(shoppers.users, size=a_round):
                    query = shoppers.query_of(user, rng)
                    began = time.perf_counter()
                    found = await client.search(COLLECTION, query, user_id=f"user {user}", limit=LIMIT)
                    took.append(time.perf_counter() - began)
                    if len(found) != LIMIT or not any(one.personal for one in found):
                        raise RuntimeError("a search was not personalised")
                seen["p99 personalised"].append(float(np.quantile(took, 0.99)))
                return float(np.median(took))

            p50 = await interleaved({"bare": of_bare, "personalised": of_ours}, bench.rounds)
            bare.close()
    p99 = type(p50)({name: values[1:] for name, values in seen.items()})
    described = ", ".join(f"{name} {1000 * p50.median(name):.1f} ms" for name in ("bare", "personalised"))
    slow = ", ".join(f"{name} {1000 * p99.median(name):.1f} ms" for name in seen)
    what = f"personalised / bare Milvus search, {shoppers.objects:,} x {shoppers.dimension}, HNSW"
    text = (
        f"{shoppers.users} users with {shoppers.copies} copies each, all of which apply here; {LIMIT} results. "
        f"Bare: `MilvusClient.search` with the same filter and ef={EF} on a {kind(uri)}; personalised: `Search`."
    )
    rows = [
        p50.ratio("personalised", "bare").at_most(f"{what}, p50", 1.5, 1.1, described),
        p99.ratio("p99 personalised", "p99 bare").at_most(f"{what}, p99", 2.5, 1.5, slow),
    ]
    return Table("Latency", rows, text)


async def _correctness(bench: Bench) -> Table:
    shoppers = Shoppers(objects=2_000, users=20, copies=100)
    checks = 1_000 if bench.quick else 10_000
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
    gated = float(query @ shoppers.queries[user]) >= shoppers.gate
    scores = (view if gated else shoppers.vectors) @ query
    best = np.sort(scores)[::-1][:LIMIT]
    got = [(int(one.object_id.split()[1]), one.score) for one in found]  # type: ignore[attr-defined]
    if len({number for number, _ in got}) != LIMIT:
        return False
    return bool(
        np.allclose([score for _, score in got], best, atol=1e-5)
        and np.allclose([scores[number] for number, _ in got], best, atol=1e-5)
    )
