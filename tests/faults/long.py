"""The long fault run: `python -m tests.faults.long --events 5000000 --kills 100`.

Writers in processes of their own record sessions and stream events through two replicas of the clickstream service on a
replica set of three; meanwhile members of the set and replicas of the service are killed, or stopped for a while. At
the end everything that was acknowledged is looked for. Exit code 1 when anything was lost or is there twice.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

from deploy.local.replica_set import ReplicaSet
from deploy.local.service import Service
from deploy.local.stack import stop_on_sigterm
from tests.faults.ingest import EVENTS_A_SESSION, Progress, Writer, found, longest_gap

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.sharedctypes import Synchronized

DATABASE = "long_faults"
PATIENCE_S = 900.0
"""A member that was killed first applies again what it had not yet in its files, and catches up: minutes under load."""
STOPPED_FOR_S = (1.0, 6.0)
KINDS = ("kill the primary", "kill a service", "stop the primary", "stop a service")
WEIGHTS = (50, 30, 10, 10)


def write(
    name: str,
    addresses: Sequence[str],
    first: int,
    sessions: int,
    until: float,
    written: Synchronized[int],
    results: Any,
) -> None:
    """One process of writers; `written` counts the events that it has seen acknowledged."""
    progress = Progress()

    async def report() -> None:
        while True:
            written.value = progress.events
            await asyncio.sleep(0.2)

    async def main() -> None:
        reporting = asyncio.create_task(report())
        writer = Writer(name, addresses, progress, first=first)
        writer.until = until
        await writer.write(sessions)
        reporting.cancel()
        written.value = progress.events

    asyncio.run(main())
    results.put(progress)


class Faults:
    """Kills and stops, one after the other."""

    def __init__(self, mongo: ReplicaSet, services: Sequence[Service], seed: int) -> None:
        self._mongo = mongo
        self._services = services
        self._chance = random.Random(seed)
        self.done: dict[str, int] = dict.fromkeys(KINDS, 0)

    def one(self) -> str:
        """Let one thing go wrong, and wait until it is right again; returns which."""
        kind = self._chance.choices(KINDS, WEIGHTS)[0]
        self.done[kind] += 1
        service = self._chance.choice(self._services)
        if kind == "kill the primary":
            self._mongo.wait_until_whole()
            primary = self._mongo.wait_for_primary()
            self._mongo.kill(primary)
            time.sleep(self._chance.uniform(0, 2))
            self._mongo.restart(primary)
            self._mongo.wait_for_primary()
        elif kind == "stop the primary":
            self._mongo.wait_until_whole()
            primary = self._mongo.wait_for_primary()
            self._mongo.freeze(primary)
            time.sleep(self._chance.uniform(*STOPPED_FOR_S))
            self._mongo.thaw(primary)
        elif kind == "kill a service":
            service.kill()
            service.start()
        else:
            os.kill(service.process.pid, signal.SIGSTOP)
            time.sleep(self._chance.uniform(*STOPPED_FOR_S))
            os.kill(service.process.pid, signal.SIGCONT)
        return kind


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(folder: Path, events: int, kills: int, *, writers: int, seconds: float, seed: int) -> bool:
    """Returns whether nothing was lost and nothing is there twice."""
    sessions = -(-events // EVENTS_A_SESSION // writers)
    in_all = sessions * writers * EVENTS_A_SESSION
    spawn = multiprocessing.get_context("spawn")
    with ReplicaSet(folder, patience=PATIENCE_S) as mongo:
        settings = {"MONGO_URI": mongo.uri, "MONGO_DATABASE": DATABASE}
        services = [Service("clickstream", folder / f"service{number}", settings) for number in range(2)]
        for service in services:
            service.start()
        addresses = [service.address for service in services]
        results = spawn.Queue()
        began = time.monotonic()
        until = began + seconds
        counters = [spawn.Value("q", 0) for _ in range(writers)]
        processes = [
            spawn.Process(
                target=write, args=(f"w{number}", addresses, number, sessions, until, counter, results), daemon=True
            )
            for number, counter in enumerate(counters)
        ]
        for process in processes:
            process.start()
        faults, done = Faults(mongo, services, seed), 0
        while (written := sum(counter.value for counter in counters)) < in_all:
            part = max(written / in_all, (time.monotonic() - began) / seconds)
            if done < kills and done + 0.5 <= part * (kills + 1):
                at = time.monotonic()
                kind = faults.one()
                done += 1
                say(
                    f"{time.monotonic() - began:7.0f} s  {written:>9,} events  {done:>3}. {kind}, "
                    f"which took {time.monotonic() - at:.1f} s"
                )
            else:
                time.sleep(0.2)
            if time.monotonic() > until:
                break
        progresses = [results.get(timeout=300) for _ in processes]
        for process in processes:
            process.join()
        took = time.monotonic() - began
        mongo.wait_until_whole()
        stopped = [service.stop() for service in services]
        with MongoClient[dict[str, Any]](mongo.uri) as client:
            what = found(client[DATABASE], [one for progress in progresses for one in progress.sessions])
    gap = longest_gap([at for progress in progresses for at in progress.acknowledged_at])
    for line in (
        f"faults               {done}: " + ", ".join(f"{count} x {kind}" for kind, count in faults.done.items()),
        f"acknowledged         {sum(progress.events for progress in progresses):,} events in {took:,.0f} s",
        f"in the database      {what.events:,} events of {what.sessions:,} sessions",
        f"calls repeated       {sum(progress.broken for progress in progresses):,}",
        f"lost                 {what.lost}",
        f"duplicated           {what.duplicated}",
        f"longest gap          {gap:.1f} s in which no write was acknowledged to anybody",
        f"services ended with  {stopped}",
    ):
        say(line)
    return not (what.lost or what.duplicated)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=5_000_000)
    arguments.add_argument("--kills", type=int, default=100)
    arguments.add_argument("--writers", type=int, default=4, help="processes that write (default: %(default)s)")
    arguments.add_argument("--seconds", type=float, default=7_200, help="stop writing after (default: %(default)s)")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--folder", type=Path, help="data and logs; a temporary folder otherwise")
    chosen = arguments.parse_args()
    stop_on_sigterm()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        return (
            0
            if run(
                folder, chosen.events, chosen.kills, writers=chosen.writers, seconds=chosen.seconds, seed=chosen.seed
            )
            else 1
        )


if __name__ == "__main__":
    sys.exit(main())
