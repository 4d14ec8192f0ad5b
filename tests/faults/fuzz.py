"""Mutated requests over every RPC of both services: `python -m tests.faults.fuzz --count 100000`.

Each request is made from its seed and its number alone, and sent as it is on the wire to services in processes of their
own. Asserted: both live, every answer is OK or a refusal that the contract knows, every refusal carries an ErrorInfo,
and what was refused for what it says has written nothing. Prints how each method answered.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message_factory import GetMessageClass
from pymongo import MongoClient

from deploy.local.stack import Stack
from tests.faults import hostile_requests
from tests.faults.calling import Code, Method, answer, methods
from tideline.clickstream.v1 import session_pb2, session_service_pb2, training_service_pb2
from tideline.client import AsyncClickstream, AsyncImprovement
from tideline.improvement.v1 import improvement_service_pb2, object_pb2, object_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOR_WHAT_IT_SAYS: Final = {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}
AT_ONCE: Final = 24
A_ROUND: Final = 5_000
SELDOM: Final = {
    "CreateCollection": 0.2,
    "DeleteCollection": 0.05,
    "DeleteUserVectors": 0.1,
    "EraseUser": 0.02,
    "MarkSessionIrrelevant": 0.05,
    "RunImprovement": 0.1,
    "WatchRun": 0.1,
}
"""How often, against the others, methods are called that make Milvus work for long, or leave little to work on."""
WRITTEN: Final = {
    "clickstream": ("sessions", "session_events", "session_batches", "sessions_for_improvement", "strengths"),
    "improvement": ("search_indexes",),
}
"""Collections that nothing but requests writes to."""


@dataclass
class Fuzz:
    """Sends requests to running services and judges the answers."""

    stack: Stack
    seed: int
    database: str = "tideline"
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)
    refused: list[tuple[Method, bytes]] = field(default_factory=list)
    judged: int = 0
    compared: int = 0

    async def run(self, count: int) -> None:
        """Send `count` requests; `found` then holds what is wrong with the answers."""
        services = {"clickstream": self.stack.clickstream, "improvement": self.stack.improvement}
        options = [("grpc.max_receive_message_length", -1)]
        self._channels = {
            name: (
                grpc.aio.insecure_channel(service.address, options=options),
                grpc.insecure_channel(service.address, options=options),
            )
            for name, service in services.items()
        }
        known = list(methods())
        weights = [SELDOM.get(method.descriptor.name, 1.0) for method in known]
        alive = [(service, service.process) for service in services.values()]
        for start in range(0, count, A_ROUND):
            numbers = iter(range(start, min(start + A_ROUND, count)))
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._some(numbers, known, weights))
            await self._replay()
            dead = [service.name for service, process in alive if not process.running()]
            if dead:
                self.found.append(f"{dead} died between requests {start} and {start + A_ROUND}")
                break
        for channel, blocking in self._channels.values():
            await channel.close()
            blocking.close()

    async def _some(self, numbers: Iterator[int], known: Sequence[Method], weights: Sequence[float]) -> None:
        for number in numbers:
            chance = random.Random(f"{self.seed}/{number}")
            [method] = chance.choices(known, weights)
            kind = GetMessageClass(method.descriptor.input_type)
            several = chance.randint(1, 4) if method.descriptor.client_streaming else 1
            raw = [hostile_requests.hostile(kind, chance) for _ in range(several)]
            code = await self._send(method, raw)
            if (
                code in FOR_WHAT_IT_SAYS
                and not method.reads
                and several == 1
                and not method.descriptor.client_streaming
            ):
                self.refused.append((method, raw[0]))

    async def _send(self, method: Method, raw: Sequence[bytes]) -> grpc.StatusCode:
        code, complaint = await answer(self._channels[method.service], method, raw)
        self.counts[method.path, code.name] += 1
        if complaint:
            self.found.append(f"{method.path} {complaint}: {[each.hex() for each in raw]}")
        return code

    async def _replay(self) -> None:
        """Send again what was refused for what it says, and look whether anything is written."""
        refused, self.refused = self.refused, []
        self.judged += len(refused)
        turn = asyncio.Semaphore(AT_ONCE)

        async def again(method: Method, raw: bytes) -> bool:
            async with turn:
                code, _ = await answer(self._channels[method.service], method, [raw])
                return code in FOR_WHAT_IT_SAYS

        for _ in range(3):
            before = await self._settled()
            still = await asyncio.gather(*(again(method, raw) for method, raw in refused))
            if all(still):
                self.compared += len(refused)
                if await self._settled() != before:
                    self.found.append(f"{len(refused)} refused requests have written something")
                return
            # What was refused for the state of things at that time.
            refused = [request for request, kept in zip(refused, still, strict=True) if kept]

    async def _settled(self) -> dict[str, dict[str, str]]:
        """Hashes of what is stored, once nothing changes any more."""
        before: dict[str, dict[str, str]] = {}
        while before != (now := await asyncio.to_thread(self._hashes)):
            before = now
            await asyncio.sleep(0.5)
        return before

    def _hashes(self) -> dict[str, dict[str, str]]:
        with MongoClient[dict[str, Any]](self.stack.mongo_uri) as client:
            return {
                name: client[f"{self.database}_{name}"].command("dbHash", collections=list(collections))["collections"]
                for name, collections in WRITTEN.items()
            }

    def table(self) -> str:
        """How each method answered."""
        codes = sorted({code for _, code in self.counts})
        lines = ["".join([f"{'method':52}", *(f"{code.lower():>20}" for code in codes)])]
        for path in sorted({path for path, _ in self.counts}):
            name = path.rpartition(".")[2]
            lines.append("".join([f"{name:52}", *(f"{self.counts[path, code]:20,}" for code in codes)]))
        totals = (sum(self.counts[path, code] for path, of in self.counts if of == code) for code in codes)
        return "\n".join([*lines, "".join([f"{'all':52}", *(f"{total:20,}" for total in totals)])])


async def prepare(stack: Stack) -> None:
    """Put something there to ask for."""
    words = hostile_requests.WORDS
    async with AsyncClickstream(stack.clickstream.address) as clickstream:
        session = session_pb2.Session(session_id="s1", user_id="ann")
        created = await clickstream.sessions.CreateSession(session_service_pb2.CreateSessionRequest(session=session))
        words["batch_id"] = (created.session.batch_id,)
        asked = training_service_pb2.CreateTrainingSnapshotRequest()
        words["snapshot_id"] = ("", (await clickstream.training.CreateTrainingSnapshot(asked)).snapshot.snapshot_id)
    async with AsyncImprovement(stack.improvement.address) as improvement:
        some = [object_pb2.Object(object_id=each, parts=[object_pb2.Part(vector=[1, 2, 3, 4])]) for each in "abcde"]
        for name in ("products", "kept"):
            collection = object_pb2.Collection(
                name=name, dimension=hostile_requests.VECTOR, metric=object_pb2.METRIC_COSINE
            )
            await improvement.objects.CreateCollection(
                object_service_pb2.CreateCollectionRequest(collection=collection)
            )
            await improvement.objects.UpsertObjects(
                iter([object_service_pb2.UpsertObjectsRequest(collection=name, objects=some)])
            )
        run = (await improvement.runs.RunImprovement(improvement_service_pb2.RunImprovementRequest())).run
        words["run_id"] = (run.run_id,)


SETTINGS: Final = {"SNAPSHOT_SETTLE": "0.05", "ERASURE_GRACE": "0.05", "ERASURE_PATIENCE": "0"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), clickstream_settings=SETTINGS) as stack:
        fuzz = Fuzz(stack, chosen.seed)
        began = time.monotonic()

        async def run() -> None:
            await prepare(stack)
            await fuzz.run(chosen.count)

        asyncio.run(run())
        print(fuzz.table())  # noqa: T201
        took_s = time.monotonic() - began
        print(f"{chosen.count:,} requests with seed {chosen.seed} in {took_s:,.0f} s: {len(fuzz.found)} faults")  # noqa: T201
        print(f"{fuzz.compared:,} of {fuzz.judged:,} refused calls that might write, sent again: nothing written")  # noqa: T201
    for each in fuzz.found[:50]:
        print(each[:2_000])  # noqa: T201
    sys.exit(1 if fuzz.found else 0)


if __name__ == "__main__":
    main()
