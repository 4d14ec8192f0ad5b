"""What one more of the same costs when there is a lot of it already: the exponent of cost against stored amount."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from tests.benchmarks.harness import Row, Table
from tests.benchmarks.learning.crowd import copied_users
from tests.benchmarks.learning.milvus import milvus, of_stack
from tests.benchmarks.learning.pending import pending_sessions
from tests.benchmarks.learning.stored import SESSIONS_A_USER, stored_events, written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.benchmarks.harness import Bench

MOST = 0.1


async def tables(bench: Bench) -> AsyncIterator[Table]:
    """Yield costs at growing amounts of stored events, of sessions that wait, and of users with copies.

    A quick look is at stored events only.
    """
    events = (1_000, 10_000) if bench.quick else (10_000, 100_000, 1_000_000, 5_000_000)
    began = time.perf_counter()
    like = await written(bench.folder)
    stored = [await stored_events(bench.folder, like, amount, 10 if bench.quick else 40) for amount in events]
    text = (
        "Each amount is filled by the driver with documents as the service writes them, in a database of its own; then "
        f"services start and are measured by their RPCs. Filled and measured in {time.perf_counter() - began:.0f} s."
    )
    yield Table("By stored events", _rows(events, stored), text)
    if bench.quick:
        return
    sessions = (1_000, 10_000, 100_000)
    with milvus(bench.folder) as uri:
        runs = [await pending_sessions(bench.folder, like, of_stack(uri), amount) for amount in sessions]
    yield Table(f"By sessions that wait ({SESSIONS_A_USER} a user), with a new worker each", _rows(sessions, runs))
    users = (1_000, 10_000, 100_000)
    crowds = await copied_users(bench.folder, users, objects=10_000, searches=300)
    yield Table("By users with copies (5 each, D=64, 10,000 objects)", _rows(users, crowds))


def _rows(amounts: Sequence[int], costs: Sequence[dict[str, float]]) -> list[Row]:
    rows = []
    for name in costs[0]:
        values = [cost[name] for cost in costs]
        # The slope in logarithms: cost ~ amount ** exponent.
        exponent = float(np.polyfit(np.log(amounts), np.log(values), 1)[0])
        behind = ", ".join(f"{amount:,}: {value:.3g}" for amount, value in zip(amounts, values, strict=True))
        rows.append(Row(name, f"exponent {exponent:+.3f}", f"<= {MOST}", "", behind, exponent <= MOST))
    return rows
