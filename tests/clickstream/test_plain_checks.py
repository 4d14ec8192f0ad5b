"""What is taken without applying the rules of the contract keeps them; what is common is taken so."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from buf.validate import validate_pb2
from hypothesis import given
from hypothesis import strategies as st

from clickstream_service.domain.session import Session
from clickstream_service.rpc.checks import PLAINLY_VALID, plainly_valid_event, plainly_valid_session
from clickstream_service.rpc.convert import checked_events_from_pb, checked_session_from_pb, session_from_pb
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import event_pb2, session_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.errors import InvalidField
from tideline.rpc.validation import first_violation

if TYPE_CHECKING:
    from google.protobuf.message import Message

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
# Around every limit, in characters of one byte and of four.
LONG = st.builds(
    lambda letter, length, tail: letter * length + tail,
    st.sampled_from(["a", "\U0001f9e6"]),
    st.sampled_from([0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 511, 512, 513]),
    st.sampled_from(["", "", "\0"]),
)
IDS = TEXTS | LONG
NUMBERS = st.sampled_from([-(2**31), -1, 0, 1, 2, 20, 2**31 - 1])
SECONDS = st.sampled_from([-1, 0, 1, 31_622_399, 31_622_400, 31_622_401, 2**40])
NANOS = st.sampled_from([-1, 0, 1, 999_999_999, 1_000_000_000])
SCORES = st.none() | st.floats()

EVENTS = st.builds(
    event_pb2.Event,
    event_id=IDS,
    object_id=IDS,
    event_types=st.lists(IDS | st.just("click"), max_size=3)
    | st.just(["click"])
    | st.just([f"t{n}" for n in range(17)]),
    position=st.none() | NUMBERS,
    dwell=st.none() | st.builds(lambda s, n: {"seconds": s, "nanos": n}, SECONDS, NANOS),
    flags=st.just([]) | st.lists(st.integers(-1, 9), max_size=17),
    weight=st.floats(),
)
RESULTS = st.builds(session_pb2.SearchResult, object_id=IDS, rank=NUMBERS, score=SCORES)
SESSIONS = st.builds(
    session_pb2.Session,
    session_id=IDS,
    user_id=IDS,
    search_query=st.none()
    | st.builds(
        lambda length: session_pb2.SearchQuery(text="\U0001f9e6" * length), st.sampled_from([0, 1, 4095, 4096, 4097])
    ),
    query_vector=st.lists(st.floats(width=32), max_size=3),
    search_results=st.lists(RESULTS, max_size=3)
    | st.builds(lambda n: n * [session_pb2.SearchResult(object_id="a")], st.sampled_from([1_000, 1_001])),
    sort_by=st.just([]) | st.builds(lambda f, o: [session_pb2.SortBy(field=f, order=o)], IDS, st.integers(-1, 4)),
    collection=st.just("") | IDS | st.sampled_from(["a", "a\n", "1", "é", "a" * 63, "a" * 64]),
    batch_id=st.just("") | IDS,
    session_number=NUMBERS,
    irrelevance=st.none()
    | st.builds(lambda n: session_pb2.Irrelevance(reason="a" * n), st.sampled_from([1, 1024, 1025])),
)

COUNTS = st.sampled_from([0, 1, 2, 1_000, 1_001, 10_000, 10_001])
REQUESTS = st.builds(
    lambda kind, session_id, count: kind(session_id=session_id, events=count * [event_pb2.Event()]),
    st.sampled_from([pb.PushEventsRequest, pb.StreamEventsRequest]),
    IDS,
    COUNTS,
) | st.builds(lambda count: pb.BatchCreateSessionsRequest(sessions=count * [session_pb2.Session()]), COUNTS)


@given(REQUESTS)
def test_a_request_that_is_not_held_to_the_rules_keeps_them(message: Message) -> None:
    if PLAINLY_VALID[type(message)](message):
        assert first_violation(message) is None


@given(EVENTS)
def test_an_event_is_refused_exactly_when_it_breaks_a_rule(message: event_pb2.Event) -> None:
    if plainly_valid_event(message):
        assert first_violation(message) is None
    violation = first_violation(message)
    [event] = checked_events_from_pb("s", [message], NOW)
    assert _said(event) == _said(violation)


@given(SESSIONS)
def test_a_session_is_refused_exactly_when_it_breaks_a_rule(message: session_pb2.Session) -> None:
    violation = first_violation(message)
    session = checked_session_from_pb(message, NOW)
    assert _said(session) == _said(violation)


def test_what_is_common_is_taken_without_applying_the_rules() -> None:
    assert plainly_valid_event(an_event("e1", position=3, dwell={"seconds": 2}))
    for request in (
        pb.PushEventsRequest(session_id="s1", events=[an_event("e1")]),
        pb.StreamEventsRequest(session_id="s1", events=[an_event("e1")]),
        pb.BatchCreateSessionsRequest(sessions=[a_session("s1")]),
    ):
        assert PLAINLY_VALID[type(request)](request)
    for session in (a_session("s1"), a_session("s1", query_vector=[0.1] * 384, collection="products", objects=())):
        made = session_from_pb(session, NOW)
        assert isinstance(made, Session)
        assert plainly_valid_session(made)


@pytest.mark.parametrize(
    ("message", "known"),
    [
        (event_pb2.Event(), {"event_id", "object_id", "event_types", "position", "dwell", "flags"}),
        (
            session_pb2.Session(),
            {"session_id", "user_id", "query_vector", "search_results", "sort_by", "collection", "batch_id"},
        ),
        (session_pb2.SearchResult(), {"object_id", "rank", "score"}),
        (session_pb2.SearchQuery(), {"text"}),
        (pb.PushEventsRequest(), {"session_id", "events"}),
        (pb.StreamEventsRequest(), {"session_id", "events"}),
        (pb.BatchCreateSessionsRequest(), {"sessions"}),
    ],
)
def test_every_field_with_a_rule_is_looked_at(message: Message, known: set[str]) -> None:
    """Whoever gives another field a rule has to look at it in `rpc/checks.py`, too."""
    fields = message.DESCRIPTOR.fields
    assert {field.name for field in fields if field.GetOptions().HasExtension(validate_pb2.field)} == known


def test_the_service_is_loaded_without_the_heavy_libraries() -> None:
    code = "import sys, clickstream_service.cli, clickstream_service.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "pymilvus", "numpy", "pyarrow", "scipy", "pandas"}.isdisjoint(loaded)


def _said(outcome: Any) -> tuple[str, str] | None:
    return (outcome.field, str(outcome)) if isinstance(outcome, InvalidField) else None
