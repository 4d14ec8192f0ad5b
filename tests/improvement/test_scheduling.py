"""The schedule goes on whatever becomes of the clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

import pytest
from apscheduler.schedulers import base
from apscheduler.triggers import interval

from improvement_service import scheduling

if TYPE_CHECKING:
    from typing import Self


class Stepped(datetime):
    """A clock that can be set."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + cls.ahead


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, interval, scheduling):
        monkeypatch.setattr(module, "datetime", Stepped)
    monkeypatch.setattr(Stepped, "ahead", timedelta(0))


@pytest.mark.parametrize("step", [timedelta(days=1), -timedelta(days=1)], ids=["forwards", "back"])
async def test_a_step_of_the_clock_neither_stops_the_schedule_nor_makes_up_for_what_was_never_missed(
    step: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: asyncio.Queue[None] = asyncio.Queue()

    async def tick() -> None:
        ticks.put_nowait(None)

    timer = scheduling.Timer(timedelta(seconds=0.2))
    with timer.calling(tick):
        await ticks.get()
        monkeypatch.setattr(Stepped, "ahead", step)
        for _ in range(3):
            await ticks.get()
        due = timer.next_at()
        assert due is not None
        assert abs(due - Stepped.now(UTC)) <= timedelta(seconds=10)
        # Once for all that a day would have been.
        assert ticks.qsize() <= 1
