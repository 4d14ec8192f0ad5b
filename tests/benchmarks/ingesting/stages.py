"""What an event and a session cost the service, stage by stage: `python -m tests.benchmarks.ingesting.stages`.

CPU time of one thread, in microseconds an item, of the functions that the service runs, on calls of 100 events and
of 100 sessions with 20 results; the least of many repetitions, since whatever else runs only ever adds to it.
`write` is what the driver takes to have a mongod insert what is encoded; `rules` is what applying the rules in the
protos would cost, which `validate` is in place of.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bson
from pymongo import MongoClient

from clickstream_service.domain.session import Recorded, Session
from clickstream_service.rpc import checks, convert, outcomes
from clickstream_service.storage import documents
from clickstream_service.storage.event_sorting import Arrival, Search, sorted_out
from deploy.local.mongod import Mongod
from tests.benchmarks.ingesting import workload
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.rpc.validation import first_violation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymongo.collection import Collection

    Stages = dict[str, float]

ITEMS = 100
REPETITIONS = 40


def least_us(work: Callable[[], object], repetitions: int = REPETITIONS) -> float:
    """Return microseconds of CPU an item."""
    best = float("inf")
    for _ in range(repetitions):
        began = time.thread_time_ns()
        work()
        best = min(best, time.thread_time_ns() - began)
    return best / 1000 / ITEMS


def write_us(written: Sequence[dict[str, Any]], encode: float, collection: Collection[dict[str, Any]]) -> float:
    """Return microseconds of CPU an item, beside `encode` for encoding it."""
    fresh = itertools.count()

    def insert() -> None:
        collection.insert_many([document | {"_id": next(fresh)} for document in written], ordered=False)

    renamed = least_us(lambda: [document | {"_id": 0} for document in written])
    return least_us(insert, REPETITIONS) - encode - renamed


def of_events(collection: Collection[dict[str, Any]]) -> Stages:
    [sent] = workload.pushes(itertools.repeat("session"), 1, ITEMS)
    request, now = pb.PushEventsRequest.FromString(sent), datetime.now(UTC)
    events: list[Any] = convert.checked_events_from_pb("session", request.events, now)
    shown = {result.object_id: result.rank for result in workload.a_session("session").search_results}
    searches = {"session": Search(shown, "ann", "red shoes", now.replace(year=2020), "")}
    arrivals = [Arrival(event, allow_missing=False) for event in events]
    stored, first = sorted_out(arrivals, searches, frozenset(), now)
    written = list(first.values())
    validate = least_us(lambda: [checks.plainly_valid_event(event) for event in request.events])
    encode = least_us(lambda: [bson.encode(document) for document in written])
    return {
        "parse": least_us(lambda: pb.PushEventsRequest.FromString(sent)),
        "validate": validate,
        "convert": least_us(lambda: convert.checked_events_from_pb("session", request.events, now)) - validate,
        "document": least_us(lambda: sorted_out(arrivals, searches, frozenset(), now)),
        "encode": encode,
        "write": write_us(written, encode, collection),
        "answer": least_us(
            lambda: pb.PushEventsResponse(outcomes=outcomes.of_events(request.events, stored)).SerializeToString()
        ),
        "(rules)": least_us(lambda: [first_violation(event) for event in request.events]),
    }


def of_sessions(collection: Collection[dict[str, Any]]) -> Stages:
    [sent] = workload.creations(1, ITEMS)
    request, now = pb.BatchCreateSessionsRequest.FromString(sent), datetime.now(UTC)
    sessions = [_session(convert.session_from_pb(session, now)) for session in request.sessions]
    recorded = [Recorded(True, session.session_id, "batch", 1, now) for session in sessions]
    written = [documents.from_session(session, "batch", 1, now) for session in sessions]
    validate = least_us(lambda: [checks.plainly_valid_session(session) for session in sessions])
    encode = least_us(lambda: [bson.encode(document) for document in written])
    return {
        "parse": least_us(lambda: pb.BatchCreateSessionsRequest.FromString(sent)),
        "validate": validate,
        "convert": least_us(lambda: [convert.checked_session_from_pb(session, now) for session in request.sessions])
        - validate,
        "document": least_us(lambda: [documents.from_session(session, "batch", 1, now) for session in sessions]),
        "encode": encode,
        "write": write_us(written, encode, collection),
        "answer": least_us(
            lambda: pb.BatchCreateSessionsResponse(
                outcomes=outcomes.of_sessions(request.sessions, recorded)
            ).SerializeToString()
        ),
        "(rules)": least_us(lambda: [first_violation(session) for session in request.sessions]),
    }


def _session(session: object) -> Session:
    assert isinstance(session, Session)
    return session


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Mongod(Path(folder)) as mongod, MongoClient(mongod.uri) as mongo:
        database = mongo["stages"]
        for name, stages in (("an event", of_events(database.events)), ("a session", of_sessions(database.sessions))):
            own = sum(took for stage, took in stages.items() if not stage.startswith("("))
            print(f"{name}: {own:.1f} us:", ", ".join(f"{stage} {took:.2f}" for stage, took in stages.items()))  # noqa: T201


if __name__ == "__main__":
    main()
