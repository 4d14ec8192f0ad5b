"""TLS, certificates of clients, and files that change while connections are made."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.security.certificates import Authority
from tests.security.guarded import ERASE, EVENTS, EXPORT, SCHEDULE, SEARCH, UPSERT, channel_to, guarded, reason
from tideline.errors import Misconfigured
from tideline.rpc.security import Security
from tideline.rpc.settings import SecuritySettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.security.certificates import Signed

BACKEND = "spiffe://shop/backend"


@pytest.fixture
def tls(authority: Authority, tmp_path: Path) -> dict[str, Any]:
    """Settings of a server with a certificate."""
    certificate, key = authority.sign("server").write(tmp_path, "server")
    return {"tls_cert_file": certificate, "tls_key_file": key}


@pytest.fixture
def mtls(tls: dict[str, Any], authority: Authority, tmp_path: Path) -> dict[str, Any]:
    """Settings of a server that clients have to show a certificate."""
    roles = {BACKEND: ["client"], "operator": ["admin"], "both": ["client", "internal"]}
    return {**tls, "tls_client_ca_file": authority.write(tmp_path), "auth_certificate_roles": roles}


def trusting(authority: Authority, own: Signed | None = None) -> grpc.ChannelCredentials:
    if own is None:
        return grpc.ssl_channel_credentials(authority.certificate)
    return grpc.ssl_channel_credentials(authority.certificate, own.key, own.certificate)


async def test_a_server_with_a_certificate_talks_tls_and_nothing_else(
    tls: dict[str, Any], authority: Authority, keys_file: Path, new_key: Callable[..., str]
) -> None:
    key = new_key("client")
    async with guarded(**tls, auth_keys_file=keys_file) as server:
        async with channel_to(server, trusting(authority)) as channel:
            assert await reason(channel, SEARCH) == "UNAUTHENTICATED"
            assert await reason(channel, SEARCH, key) == ""
        async with channel_to(server, trusting(Authority())) as channel:
            assert await reason(channel, SEARCH, key) == "UNAVAILABLE"
        async with channel_to(server) as channel:
            assert await reason(channel, SEARCH, key) == "UNAVAILABLE"


async def test_new_connections_are_met_with_the_new_certificate(
    tls: dict[str, Any], authority: Authority, tmp_path: Path
) -> None:
    async with guarded(**tls) as server, channel_to(server, trusting(authority)) as old:
        assert await reason(old, SEARCH) == ""
        successor = Authority("another")
        successor.sign("server").write(tmp_path, "server")
        async with channel_to(server, trusting(successor)) as channel:
            assert await reason(channel, SEARCH) == ""
        async with channel_to(server, trusting(authority)) as channel:
            assert await reason(channel, SEARCH) == "UNAVAILABLE"
        # Connections that are there go on.
        assert await reason(old, SEARCH) == ""


async def test_links_that_are_switched_over_are_followed(authority: Authority, tmp_path: Path) -> None:
    """As Kubernetes does with mounted secrets."""
    for signer in (authority, successor := Authority("another")):
        folder = tmp_path / ("first" if signer is authority else "second")
        folder.mkdir()
        signer.sign("server").write(folder, "tls")
    (tmp_path / "current").symlink_to("first")
    files = {"tls_cert_file": tmp_path / "current/tls.pem", "tls_key_file": tmp_path / "current/tls.key"}
    async with guarded(**files) as server:
        async with channel_to(server, trusting(authority)) as channel:
            assert await reason(channel, SEARCH) == ""
        (tmp_path / "next").symlink_to("second")
        (tmp_path / "next").replace(tmp_path / "current")
        async with channel_to(server, trusting(successor)) as channel:
            assert await reason(channel, SEARCH) == ""


async def test_a_bad_new_certificate_is_not_taken_and_a_good_one_after_it_is(
    tls: dict[str, Any], authority: Authority, tmp_path: Path
) -> None:
    successor = Authority("another")
    new = successor.sign("server")
    certificate, key = tls["tls_cert_file"], tls["tls_key_file"]
    async with guarded(**tls) as server:

        async def trusted(by: Authority) -> bool:
            async with channel_to(server, trusting(by)) as channel:
                return await reason(channel, SEARCH) == ""

        certificate.write_bytes(new.certificate)  # the key is yet to come
        assert await trusted(authority)
        key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")
        assert await trusted(authority)
        key.unlink()
        assert await trusted(authority)
        key.write_bytes(new.key)
        assert await trusted(successor)


async def test_a_client_without_a_certificate_of_ours_cannot_connect(
    mtls: dict[str, Any], authority: Authority
) -> None:
    async with guarded(**mtls) as server:
        for own in (
            None,
            Authority().sign("x", uri=BACKEND),
            authority.sign("x", uri=BACKEND, lasts=timedelta(days=-1)),
        ):
            async with channel_to(server, trusting(authority, own)) as channel:
                assert await reason(channel, SEARCH) == "UNAVAILABLE"
        assert server.callers == []


async def test_a_certificate_says_who_calls_in_calls_of_all_shapes(mtls: dict[str, Any], authority: Authority) -> None:
    both, stranger = authority.sign("both"), authority.sign("stranger")
    async with guarded(**mtls) as server:
        async with channel_to(server, trusting(authority, both)) as channel:
            for method in (SCHEDULE, EVENTS, UPSERT, EXPORT):
                assert await reason(channel, method) == ""
            assert {caller.subject for caller in server.callers} == {"certificate:both"}
            assert await reason(channel, ERASE) == "PERMISSION_DENIED"
        async with channel_to(server, trusting(authority, stranger)) as channel:
            for method in (SCHEDULE, EVENTS, UPSERT, EXPORT):
                assert await reason(channel, method) == "UNAUTHENTICATED"


async def test_the_uri_of_a_certificate_goes_before_its_common_name(mtls: dict[str, Any], authority: Authority) -> None:
    backend, pretender = authority.sign("operator", uri=BACKEND), authority.sign("operator", uri="spiffe://shop/other")
    async with guarded(**mtls) as server:
        async with channel_to(server, trusting(authority, backend)) as channel:
            assert await reason(channel, SEARCH) == ""
            assert await reason(channel, ERASE) == "PERMISSION_DENIED"
        async with channel_to(server, trusting(authority, pretender)) as channel:
            assert await reason(channel, ERASE) == "UNAUTHENTICATED"
        async with channel_to(server, trusting(authority, authority.sign("operator"))) as channel:
            assert await reason(channel, ERASE) == ""


async def test_a_bad_key_is_not_made_up_for_by_a_certificate(
    mtls: dict[str, Any], authority: Authority, keys_file: Path, new_key: Callable[..., str]
) -> None:
    key = new_key("internal")
    async with (
        guarded(**mtls, auth_keys_file=keys_file) as server,
        channel_to(server, trusting(authority, authority.sign("operator"))) as channel,
    ):
        assert await reason(channel, ERASE) == ""
        # The key says who calls, not the connection that it comes through.
        assert await reason(channel, ERASE, key) == "PERMISSION_DENIED"
        assert await reason(channel, ERASE, f"{key}x") == "UNAUTHENTICATED"
        answers = await asyncio.gather(*(reason(channel, SCHEDULE, shown) for shown in ("", key) * 5))
        assert set(answers) == {""}
        assert {caller.subject for caller in server.callers} == {"certificate:operator", "key:somebody"}


@pytest.mark.parametrize("bad", ["missing", "swapped", "another key"])
def test_a_server_does_not_begin_with_bad_files(
    bad: str, tls: dict[str, Any], authority: Authority, tmp_path: Path
) -> None:
    settings = dict(tls)
    if bad == "missing":
        settings["tls_key_file"] = tmp_path / "nowhere"
    elif bad == "swapped":
        settings = {"tls_cert_file": tls["tls_key_file"], "tls_key_file": tls["tls_cert_file"]}
    else:
        tls["tls_key_file"].write_bytes(authority.sign("server").key)
    with pytest.raises(Misconfigured) as refused:
        Security(SecuritySettings(**settings))
    assert "PRIVATE KEY" not in str(refused.value)
