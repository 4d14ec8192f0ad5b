"""Each rule of noise by itself: what breaks it, and what people do that does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clickstream_service.domain.noise import (
    RULES,
    Act,
    NoiseLimits,
    fast_clicks,
    impossible_order,
    judge,
    rate,
    same_position,
    source,
    user_agent,
)

LIMITS = NoiseLimits()
START = datetime(2026, 1, 1, tzinfo=UTC)


def act(at_s: float, **fields: Any) -> Act:
    return Act(
        **{
            "session_id": "s",
            "event_id": f"{at_s}",
            "at": START + timedelta(seconds=at_s),
            "object_id": f"o{at_s}",
            "types": ("click",),
            **fields,
        }
    )


def test_what_says_that_it_comes_from_a_simulation_is_noise() -> None:
    acts = [act(0, source="simulation"), act(10, source="web"), act(20)]
    assert source(acts, LIMITS) == {0}
    assert source(acts, NoiseLimits(sources=frozenset({"web"}))) == {1}


def test_programs_are_known_by_their_user_agent() -> None:
    people = "mozilla/5.0 (x11; linux x86_64; rv:128.0) gecko/20100101 firefox/128.0"
    assert user_agent([act(0, user_agent="googlebot/2.1"), act(1, user_agent=people), act(2)], LIMITS) == {0}


def test_more_events_within_a_minute_than_a_person_does_are_noise_and_those_before_are_not() -> None:
    calm = [act(-100.0 - number * 10) for number in range(5)]
    burst = [act(number * 0.4) for number in range(121)]
    acts = sorted((*calm, *burst), key=lambda each: each.at)
    assert rate(acts, LIMITS) == set(range(5, 126))
    assert rate(acts[:-1], LIMITS) == set()


def test_clicks_one_after_the_other_without_time_to_read_are_noise_but_a_double_click_is_none() -> None:
    assert fast_clicks([act(1.0), act(1.1), act(1.2), act(1.3)], LIMITS) == {1, 2, 3}
    assert fast_clicks([act(1.0, object_id="a"), act(1.1, object_id="a"), act(1.2, object_id="a")], LIMITS) == set()
    assert fast_clicks([act(1.0), act(1.1), act(5.0), act(5.1)], LIMITS) == set()


def test_clicks_right_after_their_search_each_time_are_noise() -> None:
    acts = [act(number * 30.0 + 0.05, session_at=START + timedelta(seconds=number * 30)) for number in range(3)]
    assert fast_clicks(acts, LIMITS) == {0, 1, 2}
    assert fast_clicks(acts[:2], LIMITS) == set()


def test_a_visitor_who_clicks_at_one_position_only_is_noise_unless_it_is_the_first() -> None:
    def clicks(position: int) -> list[Act]:
        return [act(number * 60.0, session_id=f"s{number % 10}", position=position) for number in range(30)]

    assert same_position(clicks(4), LIMITS) == set(range(30))
    assert same_position(clicks(0), LIMITS) == set()
    assert same_position(clicks(4)[1:], LIMITS) == set()
    assert same_position([*clicks(4), act(9_999.0, position=2)], LIMITS) == set()


def test_a_purchase_before_the_object_was_seen_is_noise_unless_it_was_not_seen_in_that_session_at_all() -> None:
    purchase = act(1, object_id="a", types=("purchase",))
    view = act(2, object_id="a", types=("view",))
    assert impossible_order([purchase, view], LIMITS) == {0}
    assert impossible_order([purchase], LIMITS) == set()
    assert impossible_order([act(0, object_id="a"), purchase, view], LIMITS) == set()
    assert impossible_order([purchase, act(2, object_id="a", session_id="other")], LIMITS) == set()


def test_events_name_all_rules_that_they_break() -> None:
    acts = [act(number * 0.01, source="bot") for number in range(4)]
    judged = judge(reversed(acts), LIMITS)
    assert [each for each, _ in judged] == acts
    assert judged[0][1] == ("source",)
    assert judged[3][1] == ("fast_clicks", "source")


@given(
    st.lists(
        st.builds(
            act,
            st.floats(0, 500),
            session_id=st.sampled_from(["", "s", "t"]),
            object_id=st.sampled_from(["", "a", "b"]),
            types=st.sampled_from([("click",), ("view",), ("purchase",), ("click", "purchase")]),
            position=st.none() | st.integers(0, 2),
        ),
        max_size=40,
    )
)
def test_every_rule_names_places_that_there_are_and_the_order_in_which_events_come_does_not_matter(
    acts: list[Act],
) -> None:
    for rule in RULES.values():
        assert rule(sorted(acts, key=lambda each: each.at), LIMITS) <= set(range(len(acts)))
    distinct = list(dict.fromkeys(acts))
    assert dict(judge(distinct, LIMITS)) == dict(judge(reversed(distinct), LIMITS)) or len(
        {(each.at, each.session_id, each.event_id) for each in distinct}
    ) < len(distinct)
