"""Objects and queries that stand out, and what users consumed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.clickstream.calls import push
from tests.clickstream.signals.calls import click, done, scope, searched
from tests.clickstream.signals.test_what_counts import alone
from tests.clickstream.worker import mark_irrelevant
from tideline.clickstream.v1 import interaction_pb2, interaction_service_pb2
from tideline.clickstream.v1 import signal_service_pb2 as pb

if TYPE_CHECKING:
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import CaughtUp, Clock, Service
    from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceAsyncStub

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Events of other days may come in, and changes of strengths are seen at once."""
    return settings.model_copy(update={"max_age": 60 * DAY, "strengths_max_age": timedelta(0)})


async def skipped(signals: SignalServiceAsyncStub, **fields: Any) -> list[tuple[str, int, int]]:
    request = pb.ListSkippedObjectsRequest(**{"min_impressions": 1, **fields})
    answer = await signals.ListSkippedObjects(request)
    assert all(each.skip_rate.value == each.skips / each.impressions for each in answer.objects)
    return [(each.object_id, each.impressions, each.skips) for each in answer.objects]


async def queries(signals: SignalServiceAsyncStub, **fields: Any) -> list[tuple[str, int, float, int]]:
    answer = await signals.ListQueries(pb.ListQueriesRequest(**{"min_sessions": 1, **fields}))
    return [(each.query_text, each.sessions, each.ctr.value, each.zero_result_sessions) for each in answer.queries]


async def top(signals: SignalServiceAsyncStub, **fields: Any) -> list[tuple[str, float, int]]:
    answer = await signals.ListTopObjects(pb.ListTopObjectsRequest(**fields))
    return [(each.object_id, pytest.approx(each.score), each.count) for each in answer.objects]


async def test_an_object_is_passed_over_when_something_below_it_was_clicked_and_it_was_not(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    await searched(service, "s1", click("c", "c"), meta={"surface": "web"})
    await searched(service, "s2", click("c1", "a"), click("c2", "c"))
    await searched(service, "s3", click("c", "a"))
    await searched(service, "s4")
    await caught_up()
    assert await skipped(signals) == [("b", 4, 2), ("a", 4, 1)]
    assert await skipped(signals, max_rank=1) == [("a", 4, 1)]
    assert await skipped(signals, min_impressions=5) == []
    assert await skipped(signals, limit=1) == [("b", 4, 2)]
    assert await skipped(signals, scope=scope(surface="web")) == [("a", 1, 1), ("b", 1, 1)]


async def test_queries_are_listed_by_how_few_of_their_searches_led_to_a_click(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    for number in range(3):
        await searched(service, f"bad{number}", search_query={"text": "blue shoes"})
    await searched(service, "zero", search_query={"text": "shoooes $x"}, objects=())
    for number in range(4):
        clicks = [click("c")] if number < 2 else []
        await searched(service, f"good{number}", *clicks, search_query={"text": "red shoes"}, meta={"device": "tv"})
    await searched(service, "no text", search_query={"structured": {}})
    await caught_up()
    blue, none, red = ("blue shoes", 3, 0, 0), ("shoooes $x", 1, 0, 1), ("red shoes", 4, 0.5, 0)
    assert await queries(signals) == [blue, none]
    assert await queries(signals, max_ctr=0.5) == [blue, none]
    assert await queries(signals, max_ctr=0.51) == [red, blue, none]
    assert await queries(signals, max_ctr=1) == [red, blue, none]
    assert await queries(signals, zero_results=True) == [none]
    assert await queries(signals, min_sessions=2) == [blue]
    assert await queries(signals, min_sessions=0) == []
    assert await queries(signals, max_ctr=1, scope=scope(segment="device", segment_value="tv")) == [red]


async def test_texts_that_differ_in_anything_are_different_queries(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    texts = {"Red", "red", "red ", "x" * 16_000}
    for number, text in enumerate(texts):
        await searched(service, f"s{number}", search_query={"text": text})
    await caught_up()
    assert {text for text, *_ in await queries(signals)} == texts


async def test_objects_rank_by_the_strengths_in_force(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    long = timedelta(seconds=40)
    await searched(service, "s1", click("1", "a"), click("2", "b", dwell=long), done("3", "purchase", object_id="b"))
    await searched(service, "s2", done("1", "click", "negative_feedback", object_id="c"), done("2", "view"))
    await alone(service, "i1", "share", feature_id="d")
    await alone(service, "i2", "zero_results", feature_id="")
    await caught_up()
    # A long click is one signal, the stronger of the two; a view weighs nothing, and what weighs nothing is left out.
    assert await top(signals) == [("b", 4, 2), ("a", 1, 1), ("d", 1, 1)]
    assert await top(signals, interaction_types=["click"]) == [("a", 1, 1), ("b", 1, 1), ("c", 1, 1)]
    assert await top(signals, interaction_types=["negative_feedback", "share"]) == [("d", 1, 1), ("c", -1, 1)]
    assert await top(signals, interaction_types=["view"]) == [("a", 0, 1)]
    assert await top(signals, limit=1) == [("b", 4, 2)]
    update = interaction_service_pb2.UpdateStrengthsRequest()
    update.strengths.add(interaction_type="share", level=interaction_pb2.STRENGTH_LEVEL_STRONG, weight=9)
    await service.interactions.UpdateStrengths(update)
    assert (await top(signals))[0] == ("d", 9, 1)


async def test_a_changed_threshold_of_long_views_counts_for_what_was_there_before(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    await searched(service, "s1", click("1", "a", dwell=timedelta(seconds=10)))
    await caught_up()
    assert await top(signals) == [("a", 1, 1)]
    await service.interactions.UpdateStrengths(
        interaction_service_pb2.UpdateStrengthsRequest(long_view_threshold=Duration(seconds=5))
    )
    await caught_up()
    while await top(signals) == [("a", 1, 1)]:
        await caught_up()
    assert await top(signals) == [("a", 2, 1)]


async def test_an_interaction_counts_half_after_each_half_life(
    service: Service, signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    end = clock.time + 30 * timedelta(minutes=1)
    middle = clock.time
    await alone(service, "new", "click", feature_id="new", occurred_at=middle)
    for number in range(3):
        await alone(service, f"old{number}", "click", feature_id="old", occurred_at=middle - 48 * HOUR)
    await caught_up()
    week = scope(end - 7 * DAY, end)
    assert await top(signals, scope=week) == [("old", 3, 3), ("new", 1, 1)]
    found = await top(signals, scope=week, half_life=Duration(seconds=24 * 3600))
    newest = 0.5 ** (0.5 / 24)
    assert found == [("new", newest, 1), ("old", 3 * newest / 4, 3)]
    # With a slow decay whole days are as old as their middle, which is near enough.
    [(_, old, _), (_, new, _)] = await top(signals, scope=week, half_life=Duration(seconds=14 * 24 * 3600))
    assert new.expected == pytest.approx(1, rel=0.05)
    assert old.expected == pytest.approx(3 * 0.5 ** (2 / 14), rel=0.05)


async def test_the_hours_at_both_ends_of_a_window_are_exact(
    service: Service, signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    midnight = clock.time.replace(hour=0, minute=0)
    times = [midnight + hours * HOUR for hours in (-50, -49, -24, -1, 0, 1, 2, 3)]
    for number, at in enumerate(times):
        await alone(service, f"i{number}", "click", occurred_at=at)
    await caught_up()
    for since, before in [(1, 7), (0, 8), (2, 4), (4, 6), (3, 3)]:
        ends = [*times, times[-1] + HOUR]
        found = await top(signals, scope=scope(ends[since], ends[before]))
        assert found == ([("a", before - since, before - since)] if before > since else [])


async def test_trending_ranks_by_growth_and_not_by_size(
    service: Service, signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    start = clock.time.replace(minute=0) - 3 * HOUR
    counts = {"steady": (40, 40), "rising": (5, 20), "first": (0, 1), "gone": (20, 0)}
    for object_id, (before, now) in counts.items():
        earlier = [click(f"b{each}", object_id, created_at=start - HOUR) for each in range(before)]
        later = [click(f"n{each}", object_id, created_at=start + HOUR) for each in range(now)]
        await searched(service, object_id)
        await push(service.sessions, object_id, [*earlier, *later])
    await caught_up()
    window = scope(start, start + 3 * HOUR)
    answer = await signals.ListTopObjects(pb.ListTopObjectsRequest(scope=window, trending=True))
    found = [(each.object_id, each.score, each.count, each.previous_score) for each in answer.objects]
    assert found == [("rising", 20, 20, 5), ("first", 1, 1, 0), ("steady", 40, 40, 40)]
    assert await top(signals, scope=window) == [("steady", 40, 40), ("rising", 20, 20), ("first", 1, 1)]


async def test_a_user_has_consumed_what_more_than_a_look_was_taken_at(
    service: Service,
    signals: SignalServiceAsyncStub,
    clock: Clock,
    database: Database[dict[str, Any]],
) -> None:
    await searched(service, "s1", click("1", "a"), done("2", "view", "share", object_id="a"), done("3", "view"))
    await searched(service, "s2", click("1", "b", created_at=clock.time + timedelta(seconds=9)))
    await searched(service, "other", click("1", "c"), user_id="bert")
    await searched(service, "bot", click("1", "d"))
    await searched(service, "noisy", click("1", "e"))
    await mark_irrelevant(service, "bot")
    database.session_events.update_one({"_id": {"s": "noisy", "e": "1"}}, {"$set": {"noise": ["too_fast"]}})
    await alone(service, "i1", "bookmark", feature_id="f", occurred_at=clock.time - 40 * DAY)
    await alone(service, "i2", "zero_results", feature_id="")

    async def consumed(**fields: Any) -> list[tuple[str, list[str], int]]:
        answer = await signals.ListConsumedObjects(pb.ListConsumedObjectsRequest(user_id="ann", **fields))
        times = [each.last_at.ToMicroseconds() for each in answer.objects]
        assert times == sorted(times, reverse=True)
        return [(each.object_id, list(each.interaction_types), each.count) for each in answer.objects]

    # At once: these are read from the events themselves.
    assert await consumed() == [("b", ["click"], 1), ("a", ["click", "share"], 2)]
    assert await consumed(days=41) == [("b", ["click"], 1), ("a", ["click", "share"], 2), ("f", ["bookmark"], 1)]
    assert await consumed(interaction_types=["view"]) == [("a", ["view"], 2)]
    assert await consumed(limit=1) == [("b", ["click"], 1)]
