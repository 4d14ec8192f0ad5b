"""The service config that clients are given: what it names is there, and only what is safe is retried."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.faults.calling import methods
from tideline.client import OPTIONS, AsyncImprovement, Improvement
from tideline.errors import DependencyUnavailable, MessageTooLarge, TidelineError
from tideline.improvement.v1 import improvement_service_pb2 as pb
from tideline.improvement.v1.improvement_service_pb2_grpc import (
    ImprovementServiceServicer,
    ImprovementServiceStub,
    add_ImprovementServiceServicer_to_server,
)
from tideline.rpc.details import reason_of
from tideline.rpc.server import Server
from tideline.rpc.status import RETRIED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CONFIG_TEXT = resources.files("tideline").joinpath("service_config.json").read_text()
CONFIG = json.loads(CONFIG_TEXT)
NAMES = {f"/{name['service']}/{name['method']}": entry for entry in CONFIG["methodConfig"] for name in entry["name"]}


def test_every_call_that_ends_by_itself_has_a_deadline() -> None:
    ends = {method.path for method in methods() if not method.descriptor.server_streaming}
    assert {path for path, entry in NAMES.items() if entry.get("timeout")} == ends


def test_no_stream_has_a_deadline_since_nobody_knows_how_long_it_lasts() -> None:
    assert not NAMES.keys() & {method.path for method in methods() if method.descriptor.server_streaming}


def test_what_the_contract_says_can_be_repeated_is_retried_and_nothing_else() -> None:
    safe = {
        method.path
        for method in methods()
        if method.descriptor.GetOptions().idempotency_level and not method.descriptor.server_streaming
    }
    assert {path for path, entry in NAMES.items() if entry.get("retryPolicy")} == safe


def test_what_is_retried_by_status_is_what_the_services_push_back_by() -> None:
    retried = {code.name for code in RETRIED}
    policies = [entry["retryPolicy"] for entry in CONFIG["methodConfig"] if "retryPolicy" in entry]
    assert all(set(policy["retryableStatusCodes"]) == retried for policy in policies)


async def test_a_call_that_nobody_answers_ends_at_the_deadline_of_the_service_config() -> None:
    in_a_hurry = (("grpc.service_config", CONFIG_TEXT.replace('"10s"', '"0.1s"')), *OPTIONS[1:])
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=in_a_hurry) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await ImprovementServiceStub(channel).GetSchedule(pb.GetScheduleRequest())
    assert failure.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


class FailsFirst(ImprovementServiceServicer):
    """Answers when it has failed as often as there are errors."""

    def __init__(self, errors: Sequence[TidelineError]) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: object) -> pb.GetScheduleResponse:  # noqa: ARG002
        self._fail()
        return pb.GetScheduleResponse()

    async def RunImprovement(self, request: pb.RunImprovementRequest, context: object) -> pb.RunImprovementResponse:  # noqa: ARG002
        self._fail()
        return pb.RunImprovementResponse()

    def _fail(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


FailsFirst.__abstractmethods__ = frozenset()  # the other methods are not called


@asynccontextmanager
async def failing(*errors: TidelineError) -> AsyncIterator[tuple[FailsFirst, str]]:
    servicer, server = FailsFirst(errors), Server()
    add_ImprovementServiceServicer_to_server(servicer, server.grpc)
    port = server.listen("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(0)


def an_outage() -> DependencyUnavailable:
    """A failure that is over soon."""
    error = DependencyUnavailable("down")
    error.retry_after_s = 0.02
    return error


async def test_a_call_that_is_safe_to_repeat_comes_through_when_the_service_fails_at_first() -> None:
    async with failing(an_outage(), an_outage()) as (servicer, address), AsyncImprovement(address) as client:
        await client.runs.GetSchedule(pb.GetScheduleRequest())
        assert servicer.calls == 3


async def test_the_same_goes_for_calls_that_block() -> None:
    async with failing(an_outage()) as (servicer, address):
        with Improvement(address) as client:
            await asyncio.to_thread(client.runs.GetSchedule, pb.GetScheduleRequest())
        assert servicer.calls == 2


async def test_a_call_that_must_not_be_repeated_is_left_to_its_caller() -> None:
    async with failing(an_outage()) as (servicer, address), AsyncImprovement(address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await client.runs.RunImprovement(pb.RunImprovementRequest())
        assert reason_of(failure.value) == "DEPENDENCY_UNAVAILABLE"
        assert servicer.calls == 1


async def test_what_would_fail_again_is_not_retried_though_its_status_is() -> None:
    async with failing(MessageTooLarge("large")) as (servicer, address), AsyncImprovement(address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await client.runs.GetSchedule(pb.GetScheduleRequest())
        assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert servicer.calls == 1
