"""How often one caller may call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.security.guarded import EVENTS, SCHEDULE, SEARCH, channel_to, guarded, reason
from tideline.errors import RateLimited
from tideline.rpc import rate_limit
from tideline.rpc.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def test_who_calls_too_often_is_told_when_to_come_again_and_others_are_not_slowed_down(
    keys_file: Path, new_key: Callable[..., str]
) -> None:
    greedy, modest = new_key("client", "internal", name="greedy"), new_key("client", name="modest")
    limits = {"rate_limit_per_second": 0.01, "rate_limit_burst": 3}
    async with guarded(auth_keys_file=keys_file, **limits) as server, channel_to(server) as channel:
        assert [await reason(channel, method, greedy) for method in (SEARCH, EVENTS, SCHEDULE)] == ["", "", ""]
        assert await reason(channel, EVENTS, greedy) == "RATE_LIMITED"
        assert await reason(channel, SEARCH, modest) == ""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(SEARCH)(b"", metadata=[("authorization", f"Bearer {greedy}")])
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    details = [detail.TypeName() for detail in rpc_status.from_call(refused.value).details]
    assert error_details_pb2.RetryInfo.DESCRIPTOR.full_name in details


def test_a_bucket_fills_as_time_goes_by() -> None:
    now = 0.0
    limit = RateLimit(10, 3, lambda: now)
    taken = []
    for step in range(100):
        now = step / 40
        try:
            limit.take("x")
        except RateLimited:
            continue
        taken.append(now)
    # Three at once, and one every 100 ms.
    assert taken[:3] == [0, 0.025, 0.05]
    assert len(taken) == 3 + 24
    now += 3600
    for _ in range(3):
        limit.take("x")
    with pytest.raises(RateLimited):
        limit.take("x")


def test_memory_does_not_grow_with_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "MOST_CALLERS", 10)
    limit = RateLimit(0.001, 1, lambda: 0.0)
    for number in range(100):
        limit.take(f"caller-{number}")
    assert len(limit._full_at) == 10
    with pytest.raises(RateLimited):
        limit.take("caller-99")
