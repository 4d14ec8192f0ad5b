"""Metrics over time: what they are taken from, where, and how sure they are."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest

from clickstream_service.domain.propensity import Propensities, PropensityAssumption, PropensityMethod, RankPropensity
from clickstream_service.storage.mongo_propensities import MongoPropensities
from tests.clickstream.calls import refusal
from tests.clickstream.signals.calls import Metric, click, done, metric, scope, searched, values
from tideline.clickstream.v1 import signal_service_pb2 as pb

if TYPE_CHECKING:
    from clickstream_service.storage.database import Database as Connection
    from tests.clickstream.conftest import CaughtUp, Clock, Service
    from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceAsyncStub

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def test_each_metric_is_taken_from_what_was_recorded(
    service: Service, signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    await searched(service, "none", objects=())
    await searched(service, "unclicked", done("r", "query_refinement"))
    at = clock.time + timedelta(seconds=4)
    await searched(
        service,
        "clicked",
        click("c", "b", created_at=at, dwell=timedelta(seconds=10)),
        click("later", "a", created_at=at + MINUTE, dwell=timedelta(seconds=20)),
    )
    await searched(service, "bought", click("c", created_at=clock.time + timedelta(seconds=2)), done("p", "purchase"))
    await caught_up()
    assert await values(signals) == {
        "SESSIONS": 4,
        "CTR": 0.5,
        "ZERO_RESULT_RATE": 0.25,
        "REFINEMENT_RATE": 0.25,
        "CONVERSION_RATE": 0.25,
        "FIRST_CLICK_RANK": 1.5,
        "TIME_TO_FIRST_CLICK": 3,
        "DWELL": 15,
        "EVENTS": 5,
    }


async def test_before_anything_is_recorded_counts_are_zero_and_the_rest_is_absent(
    signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    await caught_up()
    assert {name for name, value in (await values(signals)).items() if value is not None} == {"SESSIONS", "EVENTS"}
    ctr = await metric(signals, Metric.SIGNAL_METRIC_CTR)
    assert not ctr.HasField("value")
    assert (ctr.low, ctr.high, ctr.count) == (0, 0, 0)


async def test_a_search_with_clicks_but_no_list_of_results_did_find_something(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    await searched(service, "s1", click("c"), objects=())
    await searched(service, "s2", done("z", "zero_results"))
    await caught_up()
    assert (await values(signals))["ZERO_RESULT_RATE"] == 0.5
    # The clicked object was nowhere in a list, so it has no rank.
    assert (await values(signals))["FIRST_CLICK_RANK"] is None


async def test_a_rate_comes_with_wilsons_interval_and_a_mean_with_students(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    for number in range(10):
        clicked = [click("c", "ab"[number], dwell=timedelta(seconds=3 * number + 1))] if number < 2 else []
        await searched(service, f"s{number}", *clicked)
    await caught_up()
    ctr = await metric(signals, Metric.SIGNAL_METRIC_CTR)
    assert (ctr.value, ctr.count) == (0.2, 10)
    assert (ctr.low, ctr.high) == (pytest.approx(0.0567, abs=1e-4), pytest.approx(0.5098, abs=1e-4))
    dwell = await metric(signals, Metric.SIGNAL_METRIC_DWELL)
    # The mean of 1 and 4, with 12.7062 x 2.1213 / sqrt(2) on both sides.
    assert (dwell.value, dwell.count) == (2.5, 2)
    assert (dwell.low, dwell.high) == (pytest.approx(2.5 - 19.0593, abs=1e-3), pytest.approx(2.5 + 19.0593, abs=1e-3))


async def test_one_observation_says_nothing_of_how_sure_a_mean_is(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    await searched(service, "s1", click("c", "b"))
    await caught_up()
    rank = await metric(signals, Metric.SIGNAL_METRIC_FIRST_CLICK_RANK)
    assert (rank.value, rank.low, rank.high, rank.count) == (2, -math.inf, math.inf, 1)


async def test_a_click_counts_in_the_hour_of_its_search_and_as_an_event_in_its_own(
    service: Service, signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    start = clock.time - 30 * MINUTE
    await searched(service, "s1", created_at=clock.time - HOUR)
    await searched(service, "s2", click("late", created_at=clock.time), created_at=clock.time - HOUR)
    await caught_up()
    asked = pb.GetMetricsRequest(
        scope=scope(start - HOUR, start + HOUR),
        metrics=[Metric.SIGNAL_METRIC_CTR, Metric.SIGNAL_METRIC_EVENTS],
        step="SIGNAL_STEP_HOUR",
    )
    ctr, events = (await signals.GetMetrics(asked)).series
    assert [point.at.ToDatetime(start.tzinfo) for point in ctr.points] == [start - HOUR, start]
    assert [point.value.value for point in ctr.points] == [0.5, 0]
    assert not ctr.points[1].value.HasField("value")
    assert [point.value.value for point in events.points] == [0, 1]


async def test_days_are_sums_of_their_hours(
    service: Service, signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    midnight = clock.time.replace(hour=0, minute=0)
    clock.time = midnight + 3 * HOUR
    for number, hours in enumerate((-2, -1, 0, 1, 2)):
        await searched(service, f"s{number}", created_at=midnight + hours * HOUR)
    await caught_up()
    request = pb.GetMetricsRequest(
        scope=scope(midnight - HOUR, midnight + 2 * HOUR),
        metrics=[Metric.SIGNAL_METRIC_SESSIONS],
        step="SIGNAL_STEP_DAY",
    )
    [series] = (await signals.GetMetrics(request)).series
    assert [point.at.ToDatetime(midnight.tzinfo) for point in series.points] == [midnight - 24 * HOUR, midnight]
    assert [point.value.value for point in series.points] == [1, 2]


async def test_surface_and_segment_narrow_a_signal_down_together(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    metas = [{"surface": "web", "device": "phone"}, {"surface": "web"}, {"surface": "app", "device": "phone"}, {}]
    for number, meta in enumerate([*metas, {"surface": ["odd"], "device": 2.0}, {"device": True}]):
        await searched(service, f"s{number}", meta=meta)
    await caught_up()

    async def count(**fields: str) -> float:
        return (await metric(signals, Metric.SIGNAL_METRIC_SESSIONS, scope(**fields))).value

    assert await count() == 6
    assert await count(surface="web") == 2
    assert await count(segment="surface", segment_value="web") == 2
    assert await count(segment="surface") == 3
    assert await count(surface="app", segment="surface", segment_value="web") == 0
    assert await count(segment="device", segment_value="phone") == 2
    assert await count(segment="device") == 2
    assert await count(segment="device", segment_value="2") == 1
    assert await count(segment="device", segment_value="true") == 1
    assert await count(surface="web", segment="device", segment_value="phone") == 1


async def test_a_long_segment_value_is_cut_off_where_a_question_can_reach_it(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    await searched(service, "s1", meta={"surface": "é" * 200})
    await caught_up()
    assert (await metric(signals, Metric.SIGNAL_METRIC_SESSIONS, scope(surface="é" * 128))).value == 1


async def test_a_question_that_cannot_be_answered_is_refused_naming_the_field(
    signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    await caught_up()
    now = clock.time

    async def refused(asked: pb.GetMetricsRequest) -> tuple[object, ...]:
        return tuple(await refusal(signals.GetMetrics(asked)))

    unknown = pb.GetMetricsRequest(scope=scope(segment="country"))
    assert await refused(unknown) == (INVALID, "UNKNOWN_SEGMENT", "scope.segment")
    without = pb.GetMetricsRequest(scope=scope(segment_value="de"))
    assert await refused(without) == (INVALID, "INVALID_FIELD", "scope.segment_value")
    backwards = pb.GetMetricsRequest(scope=scope(now, now - HOUR))
    assert await refused(backwards) == (INVALID, "INVALID_FIELD", "scope.before")
    fine = pb.GetMetricsRequest(scope=scope(now - timedelta(days=400), now), step="SIGNAL_STEP_HOUR")
    assert await refused(fine) == (INVALID, "INVALID_FIELD", "scope.from")


async def test_clicks_by_position_are_shown_as_counted_and_without_position_bias(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    for number, clicked in enumerate(["a", "a", "b", ""]):
        # Clicked twice, and something that was not shown: neither counts.
        events = [click("c1", clicked), click("c2", clicked), click("c3", "elsewhere")] if clicked else []
        await searched(service, f"s{number}", *events)
    await caught_up()
    answer = await signals.GetPositionMetrics(pb.GetPositionMetricsRequest(max_positions=4))
    rows = [(each.position, each.impressions, each.clicks, each.ctr.value) for each in answer.positions]
    assert rows == [(0, 4, 2, 0.5), (1, 4, 1, 0.25), (2, 4, 0, 0), (3, 0, 0, 0)]
    # With nothing estimated, a result at rank 2 is looked at half as often.
    assert answer.propensity_version == 0
    assert [each.debiased_ctr.value for each in answer.positions] == [0.5, 0.5, 0, 0]
    second = answer.positions[1]
    assert second.debiased_ctr.high == pytest.approx(2 * second.ctr.high)
    unknown = await refusal(signals.GetPositionMetrics(pb.GetPositionMetricsRequest(propensity_version=7)))
    assert tuple(unknown) == (grpc.StatusCode.NOT_FOUND, "VERSION_NOT_FOUND", "propensity_version")


async def test_positions_far_down_a_list_are_counted_up_to_the_hundredth(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    await searched(
        service, "s1", click("c1", "o99"), click("c2", "o100"), objects=[f"o{number}" for number in range(150)]
    )
    await caught_up()
    positions = (await signals.GetPositionMetrics(pb.GetPositionMetricsRequest(max_positions=100))).positions
    assert [each.impressions for each in positions] == [1] * 100
    assert [each.position for each in positions if each.clicks] == [99]


async def test_types_of_events_are_counted_most_frequent_first(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    await searched(service, "s1", done("1", "view", "own.type$"), done("2", "view"), done("3", "click"))
    await caught_up()
    types = (await signals.GetEventDistribution(pb.GetEventDistributionRequest())).types
    assert [(each.interaction_type, each.count) for each in types] == [("view", 2), ("click", 1), ("own.type$", 1)]


async def test_periods_are_compared_with_the_interval_of_their_difference(
    service: Service, signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    start = clock.time - 30 * MINUTE
    for number in range(20):
        earlier = clock.time - HOUR
        dwell = timedelta(seconds=10 + number % 3)
        was = [click("c", created_at=earlier, dwell=dwell)] if number < 4 else []
        await searched(service, f"was{number}", *was, created_at=earlier)
        now = [click("c", dwell=dwell + timedelta(seconds=5))] if number < 14 else []
        await searched(service, f"now{number}", *now)
    await caught_up()
    request = pb.ComparePeriodsRequest(
        scope=scope(start, start + HOUR),
        baseline=scope(start - HOUR, start),
        metrics=[
            Metric.SIGNAL_METRIC_CTR,
            Metric.SIGNAL_METRIC_SESSIONS,
            Metric.SIGNAL_METRIC_DWELL,
            Metric.SIGNAL_METRIC_ZERO_RESULT_RATE,
            Metric.SIGNAL_METRIC_FIRST_CLICK_RANK,
        ],
    )
    ctr, sessions, dwell_s, zero, rank = (await signals.ComparePeriods(request)).metrics
    # Newcombe's interval of 14/20 - 4/20.
    assert (ctr.value.value, ctr.baseline.value, ctr.difference.value) == (0.7, 0.2, pytest.approx(0.5))
    assert (ctr.difference.low, ctr.difference.high) == (
        pytest.approx(0.1924, abs=1e-3),
        pytest.approx(0.6952, abs=1e-3),
    )
    assert ctr.significant
    assert (sessions.difference.value, sessions.significant) == (0, False)
    assert dwell_s.difference.value == pytest.approx(5.1786, abs=1e-3)
    assert dwell_s.significant
    assert (zero.difference.value, zero.significant) == (0, False)
    assert (rank.difference.low, rank.difference.high, rank.significant) == (0, 0, False)


async def test_what_is_missing_in_one_period_is_not_compared(
    service: Service, signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    await searched(service, "s1", click("c"))
    await caught_up()
    request = pb.ComparePeriodsRequest(
        scope=scope(clock.time, clock.time + HOUR),
        baseline=scope(clock.time - HOUR, clock.time),
        metrics=[Metric.SIGNAL_METRIC_CTR, Metric.SIGNAL_METRIC_DWELL],
    )
    for compared in (await signals.ComparePeriods(request)).metrics:
        assert not compared.difference.HasField("value")
        assert not compared.significant


async def test_the_newest_estimate_takes_position_bias_out_once_there_is_one(
    service: Service, signals: SignalServiceAsyncStub, connection: Connection, clock: Clock, caught_up: CaughtUp
) -> None:
    await searched(service, "s1", click("c", "b"))
    await caught_up()
    for version, surface, second in [(1, "", 0.25), (2, "web", 0.8)]:
        ranks = tuple(RankPropensity(rank, theta, 0, 1, 1, 1) for rank, theta in ((1, 1.0), (2, second)))
        estimate = Propensities(
            version=version,
            surface=surface,
            device="",
            ranks=ranks,
            method=PropensityMethod.REGRESSION_EM,
            assumption=PropensityAssumption.RELEVANCE_OF_OBJECT,
            session_count=1,
            effective_sample_size=1,
            below_floor=False,
            trust_corrected=False,
            background=0,
            created_at=clock.time,
        )
        assert await MongoPropensities(connection).add(estimate)

    async def debiased(**fields: object) -> tuple[int, float]:
        answer = await signals.GetPositionMetrics(pb.GetPositionMetricsRequest(**fields))
        return answer.propensity_version, answer.positions[1].debiased_ctr.value

    assert await debiased() == (1, 4)
    assert await debiased(propensity_version=2) == (2, 1.25)
    assert (await debiased(scope=scope(surface="web")))[0] == 2
