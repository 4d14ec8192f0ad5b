"""A run while more and more sessions wait to be learned from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

from deploy.local.client import Client
from deploy.local.mongod import Mongod
from deploy.local.stack import Stack
from tests.benchmarks.learning import stored
from tests.faults.slow_readers import memory_mb

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


async def pending_sessions(
    folder: Path, like: Mapping[str, stored.Written], milvus: str, sessions: int
) -> dict[str, float]:
    """Have a new worker learn from so many sessions in one run; returns what that took of time and of memory."""
    home = folder / f"pending-{sessions}"
    home.mkdir()
    with Mongod(home, cache_gb=1) as mongod, MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as mongo:
        stored.fill(like, mongo["tideline_clickstream"], sessions, pending=True)
        mongo.admin.command("fsync")
        with Stack(home / "stack", mongo_uri=mongod.uri, milvus=milvus) as stack:
            async with Client(stack.clickstream.address, stack.improvement.address) as client:
                await stored.make_collection(client)
                began = time.perf_counter()
                run = await client.run(lambda _: None)
                took = time.perf_counter() - began
                if run.users.settled != sessions // stored.SESSIONS_A_USER:
                    raise RuntimeError(f"not all users were settled: {run.users}")
                return {
                    "the worker's memory at its peak, MiB": memory_mb(stack.improvement.process.pid, "VmHWM"),
                    "a session of the run, ms": 1000 * took / sessions,
                }
