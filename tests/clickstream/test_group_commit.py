"""What comes in while a write is under way goes out together in the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickstream_service.storage import group_commit
from clickstream_service.storage.group_commit import GroupCommit, Limits
from tideline.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDE = Limits(items_per_write=100, bytes_per_write=1000, waiting_items=1000, waiting_bytes=10_000)


class Disk:
    """Somewhere to write to, as slowly as a test wants; a number is as large as it is, and 13 cannot be written."""

    def __init__(self) -> None:
        self.writes: list[list[int]] = []
        self.ready = asyncio.Event()
        self.ready.set()

    async def write(self, items: Sequence[int]) -> list[str]:
        self.writes.append(list(items))
        await self.ready.wait()
        if 13 in items:
            raise ValueError("unlucky")
        return [f"<{item}>" for item in items]

    def group_commit(self, limits: Limits = WIDE) -> GroupCommit[int, str]:
        return GroupCommit(self.write, lambda item: item, limits)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_callers_that_wait_share_a_write_and_get_their_own_results() -> None:
    disk = Disk()
    disk.ready.clear()
    commit = disk.group_commit()
    calls = [asyncio.create_task(commit.submit(items)) for items in ([1], [2, 3], [], [4])]
    await turns()
    disk.ready.set()
    assert await asyncio.gather(*calls) == [["<1>"], ["<2>", "<3>"], [], ["<4>"]]
    assert disk.writes in ([[1], [2, 3, 4]], [[1, 2, 3, 4]])


@given(
    callers=st.lists(st.lists(st.integers(1, 12), max_size=20), max_size=10),
    items=st.integers(1, 8),
    nbytes=st.integers(1, 40),
)
async def test_no_write_is_larger_than_allowed_and_no_result_is_lost(
    callers: list[list[int]], items: int, nbytes: int
) -> None:
    disk = Disk()
    commit = disk.group_commit(Limits(items, nbytes, 10_000, 10_000))
    results = await asyncio.gather(*map(commit.submit, callers))
    assert results == [[f"<{item}>" for item in given] for given in callers]
    assert sorted(item for write in disk.writes for item in write) == sorted(
        item for given in callers for item in given
    )
    # An item that is larger than a write goes alone.
    assert all(len(write) <= items and (sum(write) <= nbytes or len(write) == 1) for write in disk.writes)


async def test_a_caller_that_leaves_before_the_write_takes_its_items_along() -> None:
    disk = Disk()
    disk.ready.clear()
    commit = disk.group_commit()
    first = asyncio.create_task(commit.submit([1]))
    await turns()
    second, third = (asyncio.create_task(commit.submit([item])) for item in (2, 3))
    await turns()
    second.cancel()
    disk.ready.set()
    assert await first == ["<1>"]
    assert await third == ["<3>"]
    assert disk.writes == [[1], [3]]


async def test_a_caller_that_leaves_during_the_write_does_not_hurt_the_others() -> None:
    disk = Disk()
    disk.ready.clear()
    commit = disk.group_commit()
    first = asyncio.create_task(commit.submit([1]))
    await turns()
    second = asyncio.create_task(commit.submit([2]))
    await turns()
    first.cancel()
    await turns()
    disk.ready.set()
    assert await second == ["<2>"]
    assert disk.writes == [[1], [2]]


async def test_items_that_cannot_be_written_fail_their_own_caller_only() -> None:
    disk = Disk()
    disk.ready.clear()
    commit = disk.group_commit()
    calls = [asyncio.create_task(commit.submit(items)) for items in ([1], [2], [13, 3], [4])]
    await turns()
    disk.ready.set()
    first, second, third, fourth = await asyncio.gather(*calls, return_exceptions=True)
    assert (first, second, fourth) == (["<1>"], ["<2>"], ["<4>"])
    assert isinstance(third, ValueError)
    assert await commit.submit([5]) == ["<5>"]


async def test_beyond_what_may_wait_callers_are_refused_or_wait_when_they_can() -> None:
    for limits in (Limits(1, 1000, 2, 10_000), Limits(1, 1000, 1000, 4)):
        disk = Disk()
        disk.ready.clear()
        commit = disk.group_commit(limits)
        under_way = asyncio.create_task(commit.submit([2]))
        await turns()
        waiting = [asyncio.create_task(commit.submit([2])) for _ in range(2)]
        await turns()
        with pytest.raises(Overloaded):
            await commit.submit([2])
        patient = asyncio.create_task(commit.submit([7], patient=True))
        await turns()
        disk.ready.set()
        assert await asyncio.gather(under_way, *waiting, patient) == [["<2>"], ["<2>"], ["<2>"], ["<7>"]]
        assert disk.writes == [[2], [2], [2], [7]]


async def test_closing_writes_what_waits() -> None:
    disk = Disk()
    disk.ready.clear()
    commit = disk.group_commit()
    calls = [asyncio.create_task(commit.submit([item])) for item in (1, 2, 3)]
    await turns()
    closing = asyncio.create_task(commit.settled())
    await turns()
    assert not closing.done()
    disk.ready.set()
    await closing
    assert sorted(item for write in disk.writes for item in write) == [1, 2, 3]
    assert await asyncio.gather(*calls) == [["<1>"], ["<2>"], ["<3>"]]


async def test_a_lull_begins_a_moment_after_the_last_write(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    commit = disk.group_commit()
    await commit.lull()
    await commit.submit([1])
    monkeypatch.setattr(group_commit, "LULL_S", 3600.0)
    too_soon = asyncio.create_task(commit.lull())
    await turns()
    assert not too_soon.done()
    too_soon.cancel()
    monkeypatch.setattr(group_commit, "LULL_S", 0.0)
    await commit.lull()
    disk.ready.clear()
    writing = asyncio.create_task(commit.submit([2]))
    await turns()
    lull = asyncio.create_task(commit.lull())
    await turns()
    assert not lull.done()
    disk.ready.set()
    await asyncio.gather(writing, lull)
