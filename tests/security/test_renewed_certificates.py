"""Certificates that a client shows are read again when they change, over a channel that stays the same."""

from __future__ import annotations

import asyncio
import gc
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from improvement_service.feedback.client import ClickstreamClient
from tests.faults.backlog import until
from tests.faults.proxy import Proxy
from tests.security.certificates import Authority
from tests.security.guarded import EVENTS, EXPORT, SCHEDULE, UPSERT, guarded, reason
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub
from tideline.errors import DependencyUnavailable
from tideline.improvement.v1.improvement_service_pb2 import GetScheduleRequest
from tideline.improvement.v1.improvement_service_pb2_grpc import ImprovementServiceStub
from tideline.rpc.channels import Access

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.security.certificates import Signed

FIRST, SECOND = "certificate:first", "certificate:second"


@pytest.fixture
def mtls(authority: Authority, tmp_path: Path) -> dict[str, Any]:
    """Settings of a server that clients have to show a certificate."""
    certificate, key = authority.sign("server").write(tmp_path, "server")
    return {
        "tls_cert_file": certificate,
        "tls_key_file": key,
        "tls_client_ca_file": authority.write(tmp_path),
        "auth_certificate_roles": {"first": ["client", "internal"], "second": ["client", "internal"]},
    }


@pytest.fixture
def access(authority: Authority, tmp_path: Path) -> Access:
    """What a client begins with: a certificate of "first"."""
    folder = tmp_path / "client"
    folder.mkdir()
    certificate, key = authority.sign("first").write(folder, "own")
    return Access(str(authority.write(folder)), certificate, key)


def renew(access: Access, to: Signed) -> None:
    assert access.cert_file is not None
    assert access.key_file is not None
    access.cert_file.write_bytes(to.certificate)
    access.key_file.write_bytes(to.key)


async def lease_none(client: ClickstreamClient) -> None:
    assert [user async for user in client.lease("w", timedelta(minutes=1), 10, lambda _: None)] == []


async def test_a_service_whose_certificate_is_refused_goes_on_with_the_next_one(
    mtls: dict[str, Any], access: Access
) -> None:
    successor = Authority("another")
    async with guarded(**mtls) as server, Proxy(server.port) as network:
        client = ClickstreamClient(f"localhost:{network.port}", timedelta(seconds=10), access)
        await lease_none(client)
        # Who has a certificate of the old authority is not let in any more, once connected again.
        mtls["tls_client_ca_file"].write_bytes(successor.certificate)
        network.hang_up()
        network.heal()
        with pytest.raises(DependencyUnavailable):
            await lease_none(client)
        renew(access, successor.sign("second"))
        await lease_none(client)
        assert [caller.subject for caller in server.callers] == [FIRST, SECOND]
        await client.close()


async def test_a_certificate_that_has_expired_is_followed_by_a_new_one(
    mtls: dict[str, Any], access: Access, authority: Authority
) -> None:
    renew(access, authority.sign("first", lasts=timedelta(days=-1)))
    async with guarded(**mtls) as server, access.aio_channel(f"localhost:{server.port}") as channel:
        assert await reason(channel, SCHEDULE) == "UNAVAILABLE"
        renew(access, authority.sign("second"))
        for method in (SCHEDULE, EVENTS, UPSERT, EXPORT):
            assert await reason(channel, method) == ""
        assert {caller.subject for caller in server.callers} == {SECOND}


async def test_so_it_is_for_calls_that_block(mtls: dict[str, Any], access: Access, authority: Authority) -> None:
    renew(access, authority.sign("first", lasts=timedelta(days=-1)))
    async with guarded(**mtls) as server:
        with access.channel(f"localhost:{server.port}") as channel:
            ask, nothing = ImprovementServiceStub(channel).GetSchedule, GetScheduleRequest()
            with pytest.raises(grpc.RpcError):
                await asyncio.to_thread(ask, nothing, timeout=20)
            renew(access, authority.sign("second"))
            await asyncio.to_thread(ask, nothing, timeout=20)
            _, call = await asyncio.to_thread(ask.with_call, nothing, timeout=20)
            assert call.code() is grpc.StatusCode.OK
            await asyncio.to_thread(ask.future(nothing, timeout=20).result)
        assert [caller.subject for caller in server.callers] == [SECOND] * 3


async def test_calls_under_way_go_on_when_certificates_change(
    mtls: dict[str, Any], access: Access, authority: Authority
) -> None:
    done = asyncio.Event()

    async def nothing() -> AsyncIterator[Any]:
        await done.wait()
        for none in ():
            yield none

    async def never() -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    async with guarded(**mtls) as server:
        address = f"localhost:{server.port}"
        async with access.aio_channel(address) as channel:
            stream = SessionServiceStub(channel).StreamEvents
            under_way, left = stream(nothing()), stream(never())
            await until(lambda: len(server.callers) == 2)
            renew(access, authority.sign("second"))
            after = stream(nothing())
            await until(lambda: len(server.callers) == 3)
            gc.collect()
            done.set()
            for call in (under_way, after):
                assert len([answer async for answer in call]) == 3
        # Those that are left end with the channel, as always.
        assert await left.code() is grpc.StatusCode.CANCELLED
        assert [caller.subject for caller in server.callers] == [FIRST, FIRST, SECOND]


async def test_calls_that_block_go_on_when_certificates_change(
    mtls: dict[str, Any], access: Access, authority: Authority
) -> None:
    done, over = threading.Event(), threading.Event()

    def nothing() -> Iterator[Any]:
        done.wait()
        yield from ()

    def never() -> Iterator[Any]:
        over.wait()
        yield from ()

    async with guarded(**mtls) as server:
        with access.channel(f"localhost:{server.port}") as channel:
            stream = SessionServiceStub(channel).StreamEvents
            under_way, left = stream(nothing()), stream(never())
            await until(lambda: len(server.callers) == 2)
            renew(access, authority.sign("second"))
            after = stream(nothing())
            await until(lambda: len(server.callers) == 3)
            gc.collect()
            done.set()
            for call in (under_way, after):
                assert len(await asyncio.to_thread(list, call)) == 3
        assert left.code() is grpc.StatusCode.CANCELLED
        over.set()
        assert [caller.subject for caller in server.callers] == [FIRST, FIRST, SECOND]


async def test_new_files_are_taken_once_they_go_together(
    mtls: dict[str, Any], access: Access, authority: Authority
) -> None:
    second = authority.sign("second")
    assert access.cert_file is not None
    assert access.key_file is not None
    async with guarded(**mtls) as server, access.aio_channel(f"localhost:{server.port}") as channel:
        assert await reason(channel, SCHEDULE) == ""
        access.cert_file.write_bytes(second.certificate)  # the key is yet to come
        assert await reason(channel, SCHEDULE) == ""
        access.key_file.unlink()
        assert await reason(channel, SCHEDULE) == ""
        access.key_file.write_bytes(second.key)
        assert await reason(channel, SCHEDULE) == ""
        assert [caller.subject for caller in server.callers] == [FIRST, FIRST, FIRST, SECOND]
