"""API keys as credentials."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.security.guarded import (
    ERASE,
    EVENTS,
    EXPORT,
    SCHEDULE,
    SEARCH,
    UPSERT,
    channel_to,
    guarded,
    lines_of,
    put,
    reason,
    remove,
)
from tideline.errors import Misconfigured
from tideline.rpc import api_keys, identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("method", [SEARCH, EVENTS, UPSERT, EXPORT])
async def test_a_call_without_a_key_is_refused_and_with_one_accepted(
    method: str, keys_file: Path, new_key: Callable[..., str]
) -> None:
    key = new_key("client", "internal")
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        assert await reason(channel, method) == "UNAUTHENTICATED"
        assert server.callers == []
        assert await reason(channel, method, key) == ""
        assert await reason(channel, method, f"{key[:-1]}{'A' if key[-1] != 'A' else 'B'}") == "UNAUTHENTICATED"


async def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(
    keys_file: Path, new_key: Callable[..., str]
) -> None:
    key, other = new_key("client"), new_key("client")
    (_, key_id, secret), (_, _, other_secret) = key.split("_", 2), other.split("_", 2)
    bad = [
        f"tl_{key_id}_{other_secret}", f"tl_{'0' * 16}_{secret}", f"tl_{key_id}_", f"tl_{key_id}", "tl__", secret,
        f"{key} ", "a.b.c", key.upper(), f"{key}{'x' * 2_000}",
    ]  # fmt: skip
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        # What surrounds a key is no part of it.
        assert await reason(channel, SEARCH, f"{key} ") == ""
        said = set()
        for shown in set(bad) - {f"{key} "}:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(SEARCH)(b"", metadata=[("authorization", f"Bearer {shown}")])
            said.add((refused.value.code(), refused.value.details()))
        for metadata in ([("authorization", key)], [("authorization", f"Basic {key}")], [("authorization", "")]):
            assert await reason(channel, SEARCH, metadata=metadata) == "UNAUTHENTICATED"
        twice = [("authorization", f"Bearer {key}")] * 2
        assert await reason(channel, SEARCH, metadata=twice) == "UNAUTHENTICATED"
    assert said == {(grpc.StatusCode.UNAUTHENTICATED, "no valid credentials")}


async def test_a_key_whose_line_is_removed_is_refused_by_the_next_call(
    keys_file: Path, new_key: Callable[..., str]
) -> None:
    kept, revoked = new_key("client"), new_key("client")
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        assert await reason(channel, SEARCH, revoked) == ""
        lines = [line for line in lines_of(keys_file) if revoked.split("_")[1] not in line]
        put(keys_file, "".join(lines))
        assert await reason(channel, SEARCH, revoked) == "UNAUTHENTICATED"
        assert await reason(channel, SEARCH, kept) == ""
        added = new_key("client")
        assert await reason(channel, SEARCH, added) == ""


async def test_roles_that_are_changed_in_the_file_hold_for_the_next_call(
    keys_file: Path, new_key: Callable[..., str]
) -> None:
    key = new_key("admin")
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        assert await reason(channel, ERASE, key) == ""
        put(keys_file, "".join(lines_of(keys_file)).replace(" admin ", " client "))
        assert await reason(channel, ERASE, key) == "PERMISSION_DENIED"


async def test_a_bad_new_file_leaves_the_keys_as_they_were(keys_file: Path, new_key: Callable[..., str]) -> None:
    key = new_key("client")
    good = "".join(lines_of(keys_file))
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        for bad in ("nonsense\n", good.replace("client", "emperor"), good.replace("$argon2id$", "$plain$")):
            put(keys_file, bad)
            assert await reason(channel, SEARCH, key) == ""
        remove(keys_file)
        assert await reason(channel, SEARCH, key) == ""
        put(keys_file, "# all are gone\n")
        assert await reason(channel, SEARCH, key) == "UNAUTHENTICATED"


async def test_a_key_is_verified_once_for_all_calls_of_some_minutes(
    keys_file: Path, new_key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = []
    fits = api_keys._fits
    monkeypatch.setattr(api_keys, "_fits", lambda hashed, secret: verified.append(hashed) or fits(hashed, secret))
    key = new_key("client")
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        assert set(await asyncio.gather(*(reason(channel, SEARCH, key) for _ in range(50)))) == {""}
        assert len(verified) == 1
        now = time.monotonic()
        monkeypatch.setattr(api_keys.time, "monotonic", lambda: now + 301)
        assert await reason(channel, SEARCH, key) == ""
        assert len(verified) == 2


async def test_calls_at_the_same_time_are_each_by_their_own_caller(
    keys_file: Path, new_key: Callable[..., str]
) -> None:
    keys = [new_key("internal", name=f"caller-{number}") for number in range(5)]
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        answers = await asyncio.gather(*(reason(channel, SCHEDULE, key) for key in keys * 4))
        assert set(answers) == {""}
        assert sorted(caller.subject for caller in server.callers) == sorted(f"key:caller-{n}" for n in [*range(5)] * 4)
    assert identity.current() == identity.ANYBODY


def test_files_of_keys_hold_no_keys(keys_file: Path, new_key: Callable[..., str]) -> None:
    secret = new_key("client").split("_", 2)[2]
    assert secret not in keys_file.read_text()


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "line\nbreak"])
def test_a_name_that_would_break_a_line_is_no_name(name: str) -> None:
    with pytest.raises(Misconfigured):
        api_keys.create(name, frozenset({"client"}), "")
