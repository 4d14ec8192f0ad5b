"""Who may call what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from tests.security.guarded import ERASE, METHODS, NOT_OURS, SEARCH, channel_to, guarded, reason
from tideline.rpc.authorisation import allowed_to

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROLES = ("client", "internal", "admin")
# Methods that differ from the rest of their service are below.
BY_SERVICE = {
    "SessionService": {"client"},
    "InteractionService": {"client"},
    "SearchService": {"client"},
    "BatchService": {"internal"},
    "FeedbackService": {"internal"},
    "ImprovementService": {"internal"},
    "TrainingService": {"internal"},
    "PropensityService": {"internal"},
    "SignalService": {"internal"},
    "ObjectService": {"internal"},
    "PrivacyService": set(),
}
EXCEPT = {
    # The improvement service records the searches that it serves.
    "CreateSession": {"client", "internal"},
    # Reading what was recorded is no more than what pipelines get in batches.
    **dict.fromkeys(("GetSession", "ListSessions", "ListSessionEvents"), frozenset({"client", "internal"})),
    **dict.fromkeys(("GetInteraction", "ListInteractions", "ExportInteractions"), frozenset({"client", "internal"})),
    "GetStrengths": {"client", "internal"},
    "UseSessionForImprovement": {"client", "internal"},
    # What a shop shows, or leaves out.
    **dict.fromkeys(("ListTopObjects", "ListConsumedObjects"), frozenset({"client", "internal"})),
    **dict.fromkeys(("GetCollection", "ListCollections", "GetObjects"), frozenset({"client", "internal"})),
    # What changes things for everybody.
    **dict.fromkeys(("UpdateStrengths", "PutMonitor", "DeleteMonitor", "PauseSchedule", "ResumeSchedule"), frozenset()),
    **dict.fromkeys(("CreateCollection", "DeleteCollection"), frozenset()),
}


def _expected(method: str) -> frozenset[str]:
    service, name = method.rsplit(".", 1)[1].split("/")
    return frozenset({"admin"}) | EXCEPT.get(name, BY_SERVICE[service])


@pytest.mark.parametrize("method", METHODS)
def test_every_rpc_of_every_service_has_a_rule(method: str) -> None:
    assert allowed_to(method), f"{method} has to say `option (tideline.common.v1.allowed_to) = ROLE_...;`"


async def test_every_rpc_lets_its_roles_call_it_and_no_other(keys_file: Path, new_key: Callable[..., str]) -> None:
    keys = {role: new_key(role, name=role) for role in ROLES}
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        for method in METHODS:
            answers = {role: await reason(channel, method, key) for role, key in keys.items()}
            assert answers == {role: "" if role in _expected(method) else "PERMISSION_DENIED" for role in ROLES}, method
            assert await reason(channel, method) == "UNAUTHENTICATED", method


async def test_a_caller_may_do_what_any_of_its_roles_may(keys_file: Path, new_key: Callable[..., str]) -> None:
    key = new_key("client", "internal")
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        for method in METHODS:
            expected = "" if _expected(method) & {"client", "internal"} else "PERMISSION_DENIED"
            assert await reason(channel, method, key) == expected, method


async def test_a_method_that_has_no_rule_is_refused_to_everybody(keys_file: Path, new_key: Callable[..., str]) -> None:
    key = new_key("admin")
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        assert await reason(channel, NOT_OURS, key) == "PERMISSION_DENIED"
        assert await reason(channel, NOT_OURS) == "UNAUTHENTICATED"
    async with guarded() as server, channel_to(server) as channel:
        assert await reason(channel, NOT_OURS) == "PERMISSION_DENIED"
        assert await reason(channel, ERASE) == ""


@pytest.mark.parametrize("method", [f"{SEARCH}Better", "/tideline.improvement.v1.NoService/Search", "/Search", "/"])
async def test_a_method_that_is_not_there_is_not_there_for_anybody(
    method: str, keys_file: Path, new_key: Callable[..., str]
) -> None:
    key = new_key("admin")
    async with guarded(auth_keys_file=keys_file) as server, channel_to(server) as channel:
        assert await reason(channel, method, key) == "UNIMPLEMENTED"
        assert await reason(channel, method) == "UNIMPLEMENTED"


async def test_health_is_for_everybody_and_reflection_only_where_everybody_may_call(
    keys_file: Path, new_key: Callable[..., str]
) -> None:
    health, reflection = (
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    )
    for settings, expected in (
        ({"auth_keys_file": keys_file}, grpc.StatusCode.UNIMPLEMENTED),
        ({"auth_keys_file": keys_file, "reflection": True}, grpc.StatusCode.OK),
        ({}, grpc.StatusCode.OK),
        ({"reflection": False}, grpc.StatusCode.UNIMPLEMENTED),
    ):
        async with guarded(**settings) as server, channel_to(server) as channel:
            await channel.unary_unary(health)(b"")
            call = channel.stream_stream(reflection)(iter(()))
            assert await call.code() == expected
