"""How much of everything a workload takes, on paper: unit costs times how often (`python -m deploy.sizing --help`).

Unit costs are those that `python -m tests.benchmarks.unit_costs` prints; `SIZING.md` says what they were measured on.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, fields

MONTH_S = 30 * 24 * 3600
KB, TB = 1e3, 1e12


@dataclass(frozen=True)
class Workload:
    """What there is to do. Its fields are the arguments of the command."""

    users: float = 100e6
    """Users who come in a month."""
    events: float = 10e9
    """Events in a month."""
    events_per_session: float = 5
    """How many of them come after one search."""
    peak: float = 4
    """How many times the mean the busiest minute has."""
    months_kept: float = 3
    """How long sessions and events are kept (CLICKSTREAM_RETENTION)."""
    learned_per_month: float = 4
    """How often a user is learned from anew in a month."""
    copies_per_user: float = 50
    """Personal copies that a user has."""
    dimension: float = 384
    """Numbers in a vector."""
    members: float = 3
    """Members of each replica set."""
    busy: float = 0.6
    """How much of a core is planned with at the peak."""


# CPU in microseconds of one thing, and bytes of one thing on disk, compressed, with its indexes.
SESSION_CPU, SESSION_MONGO_CPU = 350, 140
EVENT_CPU, EVENT_MONGO_CPU = 292, 56
CALL_CPU, CALL_MONGO_CPU = 1_010, 326
COUNTED_CPU, COUNTED_MONGO_CPU = 128, 115
SUBMITTED_CPU, SUBMITTED_MONGO_CPU = 644, 248
LEARNED_CPU, LEARNED_CLICKSTREAM_CPU, LEARNED_MONGO_CPU = 22_900, 11_200, 7_200
SESSION_BYTES = 4_351
EVENT_BYTES = 874
CONTRIBUTION_BYTES = 436
QUEUED_BYTES = 302
LEASE_BYTES = 671
COPY_BYTES_BESIDE_VECTOR = 200


def needs(work: Workload) -> list[tuple[str, str]]:
    """Return what it takes, as rows of a table."""
    sessions = work.events / work.events_per_session
    per_s, sessions_per_s = work.events / MONTH_S, sessions / MONTH_S
    # What comes with each event: its session, its part of the signals, its submission.
    shares = 1 / work.events_per_session
    beside = COUNTED_CPU + shares * (SESSION_CPU + SUBMITTED_CPU)
    beside_mongo = COUNTED_MONGO_CPU + shares * (SESSION_MONGO_CPU + SUBMITTED_MONGO_CPU)
    learned_per_s = work.users * work.learned_per_month / MONTH_S
    learning_clickstream = learned_per_s * LEARNED_CLICKSTREAM_CPU / 1e6

    def cores(event_cpu: float) -> float:
        return work.peak * per_s * (event_cpu + beside) / 1e6 + learning_clickstream

    streamed, called = (math.ceil(cores(each) / work.busy) for each in (EVENT_CPU, CALL_CPU))
    mongo = work.peak * per_s * (EVENT_MONGO_CPU + beside_mongo) / 1e6 + learned_per_s * LEARNED_MONGO_CPU / 1e6
    disk = work.months_kept * (
        work.events * EVENT_BYTES + sessions * (SESSION_BYTES + CONTRIBUTION_BYTES + QUEUED_BYTES)
    ) + (work.users * LEASE_BYTES)
    copies = work.users * work.copies_per_user
    copy = work.dimension * 4 + COPY_BYTES_BESIDE_VECTOR
    workers = math.ceil(learned_per_s * LEARNED_CPU / 1e6 / work.busy)
    return [
        ("events a second, mean and peak", f"{per_s:,.0f}, {per_s * work.peak:,.0f}"),
        ("sessions a second, mean and peak", f"{sessions_per_s:,.0f}, {sessions_per_s * work.peak:,.0f}"),
        ("replicas of the clickstream service, events streamed one a message", f"{streamed:,}"),
        ("... with a call for each event", f"{called:,}"),
        ("cores for the primaries of MongoDB, at the peak", f"{math.ceil(mongo / work.busy):,}"),
        ("disk in MongoDB, one copy", f"{disk / TB:,.1f} TB"),
        (f"... of {work.members:.0f} members", f"{disk * work.members / TB:,.1f} TB"),
        ("users learned from a second, mean", f"{learned_per_s:,.0f}"),
        ("workers of the improvement service, one core each", f"{workers:,}"),
        ("personal copies", f"{copies / 1e9:,.1f} billion"),
        ("... in Milvus, one copy, without an index over their vectors", f"{copies * copy / TB:,.1f} TB"),
    ]


def table(work: Workload) -> str:
    rows = [f"| {what} | {how_much} |" for what, how_much in needs(work)]
    return "\n".join(["| what it takes | |", "|---|---|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for each in fields(Workload):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=float, default=each.default)
    print(table(Workload(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
