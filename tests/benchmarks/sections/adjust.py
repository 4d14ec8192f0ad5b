"""Adjusting vectors, and the whole cycle around it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from improvement_service.adjust import registry
from improvement_service.domain.index import Aggregation, Metric
from tests.benchmarks.harness import Table, interleaved
from tests.benchmarks.learning import autograd_loop, evidence
from tests.benchmarks.learning.cycle import cycle_table
from tests.benchmarks.learning.milvus import milvus
from tests.benchmarks.learning.upserts import upsert_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.benchmarks.harness import Bench, Measure, Row

SESSIONS = 400
"""About as many vectors as a run moves at once."""
LOOP_SESSIONS = 20
ASKED = {384: ((25, 100), (10, 30)), 1024: ((15, 60), None)}


async def tables(bench: Bench) -> AsyncIterator[Table]:
    """Yield the adjusters, and the cycle with what it is made of."""
    dimensions = list(ASKED)[:1] if bench.quick else ASKED
    rows = [row for dimension in dimensions for row in await _adjusters(bench, dimension)]
    yield Table(f"Adjusters ({SESSIONS} sessions of {evidence.ITEMS} items of 1 to 4 parts, CPU)", rows)
    with milvus(bench.folder) as uri:
        cycle = await cycle_table(bench, uri)
        yield Table(cycle.title, [*cycle.rows, await upsert_row(bench, uri)], cycle.text)


async def _adjusters(bench: Bench, dimension: int) -> list[Row]:
    given = evidence.sessions(SESSIONS, dimension)
    torch_based, bounded = (
        registry.load(name, Metric.COSINE, Aggregation.MIN, device="cpu")
        for name in ("torch_based", "bounded_rotation")
    )
    _same(torch_based.adjust(given), autograd_loop.descend(given, LOOP_SESSIONS, evidence.ITEMS))
    names = ("autograd loop", "torch_based", "bounded_rotation")
    sessions = len(given.queries)
    measured = await interleaved(
        dict(
            zip(
                names,
                (
                    _rate(LOOP_SESSIONS, autograd_loop.descend, given, LOOP_SESSIONS, evidence.ITEMS),
                    _rate(sessions, torch_based.adjust, given),
                    _rate(sessions, bounded.adjust, given),
                ),
                strict=True,
            )
        ),
        bench,
    )
    behind = "sessions/s: " + ", ".join(f"{name} {measured.median(name):,.0f}" for name in names)
    loop, rotation = ASKED[dimension]
    rows = [
        measured.ratio("torch_based", "autograd loop").row(
            f"`torch_based` / a per-session autograd loop of the same mathematics, D={dimension}", *loop, behind
        )
    ]
    if rotation:
        ratio = measured.ratio("bounded_rotation", "torch_based")
        rows.append(ratio.row(f"`bounded_rotation` / `torch_based`, D={dimension}", *rotation, behind))
    return rows


def _same(moved: np.ndarray, loop: np.ndarray) -> None:
    """Make sure that both compute the same, but where a gradient is nearly 0: AdamW makes a whole step of its sign."""
    if np.isclose(moved[: len(loop)], loop, atol=1e-3).mean() < 0.999:
        raise RuntimeError("the loop computes something else")


def _rate(count: int, work: Callable[..., Any], *arguments: Any) -> Measure:
    async def measure() -> float:
        began = time.perf_counter()
        await asyncio.to_thread(work, *arguments)
        return count / (time.perf_counter() - began)

    return measure
