"""Interactions are found by who, what, where and when, in the order of time, page by page or as a stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.clickstream.calls import Refusal, create_all, refusal
from tests.clickstream.interactions.calls import (
    all_of,
    an_interaction,
    any_of,
    exported,
    ids,
    listed,
    match,
    none_of,
    record_all,
)
from tests.clickstream.samples import a_session
from tideline.clickstream.v1 import interaction_service_pb2 as pb
from tideline.clickstream.v1 import session_pb2, session_service_pb2
from tideline.clickstream.v1.interaction_pb2 import InteractionFilter
from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from tests.clickstream.conftest import Clock, Service
    from tideline.clickstream.v1.interaction_pb2 import Interaction
    from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceAsyncStub

ASCENDING = session_pb2.SORT_ORDER_ASCENDING
DESCENDING = session_pb2.SORT_ORDER_DESCENDING
TYPES = ("view", "click", "purchase")


def some(start: datetime) -> list[Interaction]:
    """Sixty, two at each time: of three users, five objects, three queries, some of them of one of two sessions."""
    found = []
    for number in range(60):
        session_id = f"s{number % 2}" if number % 3 == 0 else ""
        found.append(
            an_interaction(
                f"i{number:02}",
                f"o{number % 5}",
                interaction_types=[TYPES[number % 3]] if number % 7 else ["click", "share"],
                session_id=session_id,
                user_id="ann" if session_id else f"u{number % 3}",
                query_text="red shoes" if session_id else f"q{number % 4}",
                occurred_at=start + timedelta(minutes=number // 2),
            )
        )
    return found


async def record_some(service: Service, clock: Clock) -> list[Interaction]:
    await create_all(service.sessions, [a_session("s0"), a_session("s1")])
    recorded = some(clock.time - timedelta(hours=1))
    await record_all(service.interactions, recorded)
    # Those of one time are in the order of their session, and then their id.
    return sorted(recorded, key=lambda one: (one.occurred_at.ToDatetime(), one.session_id, one.interaction_id))


async def test_interactions_are_listed_in_either_order_of_time_whatever_the_page_size(
    service: Service, clock: Clock
) -> None:
    expected = ids(await record_some(service, clock))
    for page_size in (0, 1, 7, 20, 30, 60, 61):
        assert ids(await listed(service.interactions, order=ASCENDING, page_size=page_size)) == expected
        assert ids(await listed(service.interactions, order=DESCENDING, page_size=page_size)) == expected[::-1]
    assert ids(await listed(service.interactions)) == expected[::-1]
    assert ids(await exported(service.interactions)) == expected


async def test_each_field_of_a_match_narrows_it(service: Service, clock: Clock) -> None:
    recorded = await record_some(service, clock)
    start = clock.time - timedelta(hours=1)
    begin, end = start + timedelta(minutes=5), start + timedelta(minutes=20)
    cases: list[tuple[InteractionFilter, Callable[[Interaction], bool]]] = [
        (match(), lambda _: True),
        (match(feature_ids=["o1"]), lambda one: one.feature_id == "o1"),
        (match(feature_ids=["o1", "o2"]), lambda one: one.feature_id in {"o1", "o2"}),
        (match(user_ids=["ann"]), lambda one: one.user_id == "ann"),
        (match(session_ids=["s1"]), lambda one: one.session_id == "s1"),
        (match(query_texts=["q1", "red shoes"]), lambda one: one.query_text in {"q1", "red shoes"}),
        (match(interaction_types=["share", "purchase"]), lambda one: bool({"share", "purchase"} & {*types(one)})),
        (match(occurred_from=begin, occurred_before=end), lambda one: begin <= at(one) < end),
        (
            match(user_ids=["ann"], feature_ids=["o0"], occurred_before=end),
            lambda one: one.user_id == "ann" and one.feature_id == "o0" and at(one) < end,
        ),
        (match(user_ids=["nobody"]), lambda _: False),
        (none_of(match(user_ids=["ann"])), lambda one: one.user_id != "ann"),
        (none_of(match()), lambda _: False),
        (
            any_of(match(user_ids=["u1"]), all_of(match(feature_ids=["o0"]), none_of(match(session_ids=["s0"])))),
            lambda one: one.user_id == "u1" or (one.feature_id == "o0" and one.session_id != "s0"),
        ),
    ]
    for which, takes in cases:
        expected = ids([one for one in recorded if takes(one)])
        assert ids(await listed(service.interactions, filter=which, order=ASCENDING, page_size=4)) == expected
        assert ids(await exported(service.interactions, filter=which)) == expected


def at(one: Interaction) -> datetime:
    return one.occurred_at.ToDatetime(UTC)


def types(one: Interaction) -> list[str]:
    return list(one.interaction_types)


MATCHES = st.builds(
    match,
    feature_ids=st.lists(st.sampled_from(["o0", "o1", "o2"]), max_size=2, unique=True),
    user_ids=st.lists(st.sampled_from(["ann", "u1", "u2"]), max_size=2, unique=True),
    query_texts=st.lists(st.sampled_from(["q1", "q2", "red shoes"]), max_size=1),
    interaction_types=st.lists(st.sampled_from([*TYPES, "share"]), max_size=2, unique=True),
)
FILTERS = st.recursive(
    MATCHES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda filters: all_of(*filters))
        | st.lists(inner, min_size=1, max_size=3).map(lambda filters: any_of(*filters))
        | inner.map(none_of)
    ),
    max_leaves=6,
)


def takes(which: InteractionFilter, one: Interaction) -> bool:
    kind = which.WhichOneof("kind")
    if kind == "all_of":
        return all(takes(each, one) for each in which.all_of.filters)
    if kind == "any_of":
        return any(takes(each, one) for each in which.any_of.filters)
    if kind == "none_of":
        return not takes(which.none_of, one)
    wanted = which.match
    return (
        (not wanted.feature_ids or one.feature_id in wanted.feature_ids)
        and (not wanted.user_ids or one.user_id in wanted.user_ids)
        and (not wanted.query_texts or one.query_text in wanted.query_texts)
        and (not wanted.interaction_types or bool({*wanted.interaction_types} & {*types(one)}))
    )


def depth(which: InteractionFilter) -> int:
    filters = [*which.all_of.filters, *which.any_of.filters]
    if which.WhichOneof("kind") == "none_of":
        filters.append(which.none_of)
    return 1 + max(map(depth, filters), default=0)


async def test_any_combination_of_filters_takes_what_it_says(service: Service, clock: Clock) -> None:
    recorded = await record_some(service, clock)
    tried: list[InteractionFilter] = []

    @given(which=FILTERS.filter(lambda which: depth(which) <= 8))
    @examples(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def collect(which: InteractionFilter) -> None:
        tried.append(which)

    collect()
    for which in tried:
        expected = ids([one for one in recorded if takes(which, one)])
        assert ids(await listed(service.interactions, filter=which, order=ASCENDING, page_size=50)) == expected


def nested(levels: int) -> InteractionFilter:
    which = match(user_ids=["ann"])
    for _ in range(levels - 1):
        which = none_of(which)
    return which


async def test_filters_are_nested_eight_deep_at_most(interactions: InteractionServiceAsyncStub) -> None:
    assert await listed(interactions, filter=nested(8)) == []
    refused = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "filter")
    assert await refusal(listed(interactions, filter=nested(9))) == refused
    assert await refusal(exported(interactions, filter=nested(9))) == refused
    wide = any_of(*[any_of(*[match(user_ids=["x"])] * 32)] * 8)
    assert await refusal(listed(interactions, filter=wide)) == refused
    with pytest.raises(grpc.aio.AioRpcError, match="nested more than 8 deep"):
        await listed(interactions, filter=nested(9))


async def test_a_filter_says_which_kind_it_is(interactions: InteractionServiceAsyncStub) -> None:
    empty = all_of(match(), InteractionFilter())
    refused = await refusal(listed(interactions, filter=empty))
    assert (refused.reason, refused.field) == ("INVALID_FIELD", "filter.all_of.filters[1].kind")


async def test_irrelevant_sessions_and_noise_are_left_out_unless_wanted(
    service: Service, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    recorded = await record_some(service, clock)
    await service.sessions.MarkSessionIrrelevant(
        session_service_pb2.MarkSessionIrrelevantRequest(session_id="s0", reason="test")
    )
    noisy = {"_id.e": {"$in": ["i01", "i03"]}}
    database["session_events"].update_many(noisy, {"$set": {"noise": ["too_fast"]}})
    left = ids([one for one in recorded if one.session_id != "s0" and one.interaction_id not in {"i01", "i03"}])
    for page_size in (1, 3, 100):
        assert ids(await listed(service.interactions, order=ASCENDING, page_size=page_size)) == left
    assert ids(await exported(service.interactions)) == left
    assert ids(await listed(service.interactions, order=ASCENDING, include_excluded=True)) == ids(recorded)
    everything = await exported(service.interactions, include_excluded=True)
    assert {one.interaction_id: list(one.noise) for one in everything if one.noise} == {
        "i01": ["too_fast"],
        "i03": ["too_fast"],
    }


async def test_a_page_token_is_good_for_its_own_request_only(service: Service, clock: Clock) -> None:
    await record_some(service, clock)
    request = pb.ListInteractionsRequest(filter=match(user_ids=["ann"]), page_size=1)
    token = (await service.interactions.ListInteractions(request)).next_page_token
    refused = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN", "page_token")
    for other in (
        pb.ListInteractionsRequest(filter=match(user_ids=["bob"]), page_token=token),
        pb.ListInteractionsRequest(filter=match(user_ids=["ann"]), order=ASCENDING, page_token=token),
        pb.ListInteractionsRequest(filter=match(user_ids=["ann"]), include_excluded=True, page_token=token),
    ):
        assert await refusal(service.interactions.ListInteractions(other)) == refused


async def test_ids_that_are_long_in_json_fit_into_page_tokens(service: Service) -> None:
    session_id = "\x01" * 512
    await create_all(service.sessions, [a_session(session_id)])
    names = ["\x01" * 511 + end for end in "ab"]
    await record_all(service.interactions, [an_interaction(name, session_id=session_id) for name in names])
    assert ids(await listed(service.interactions, order=ASCENDING, page_size=1)) == names


async def test_a_page_fits_into_what_clients_take(service: Service) -> None:
    sent = []
    for number in range(30):
        interaction = an_interaction(f"i{number:02}")
        interaction.metadata.update({"padding": "x" * 250_000})
        sent.append(interaction)
    await record_all(service.interactions, sent)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        plain = InteractionServiceStub(channel)
        assert ids(await listed(plain, page_size=1000, order=ASCENDING)) == ids(sent)
        assert ids(await exported(plain)) == ids(sent)


@pytest.mark.parametrize("order", [ASCENDING, DESCENDING])
async def test_no_question_walks_through_the_collection_or_sorts_what_an_index_has_in_order(
    service: Service, clock: Clock, profiled: None, order: session_pb2.SortOrder.ValueType
) -> None:
    await record_some(service, clock)
    start = clock.time - timedelta(minutes=50)
    for which in (
        match(),
        match(user_ids=["ann"]),
        match(user_ids=["ann", "u1"]),
        match(feature_ids=["o1"]),
        match(session_ids=["s1"]),
        match(session_ids=["s0", "s1"], feature_ids=["o1"]),
        match(query_texts=["q1"]),
        match(occurred_from=start, occurred_before=start + timedelta(minutes=9)),
        match(interaction_types=["purchase"]),
        any_of(match(user_ids=["ann"]), match(feature_ids=["o1"])),
        all_of(match(user_ids=["ann"]), none_of(match(interaction_types=["view"]))),
        none_of(match(user_ids=["ann"])),
    ):
        await listed(service.interactions, filter=which, order=order, page_size=5)
        await exported(service.interactions, filter=which)
    await service.interactions.GetInteraction(
        pb.GetInteractionRequest(key=pb.InteractionKey(interaction_id="i00", session_id="s0"))
    )
    await service.interactions.DeleteInteraction(
        pb.DeleteInteractionRequest(key=pb.InteractionKey(interaction_id="i00", session_id="s0"))
    )
