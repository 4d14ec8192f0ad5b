"""The services as they are started and called: what settings, flags and files make of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from clickstream_service.app import running
from clickstream_service.config import Settings
from improvement_service.config import Settings as ImprovementSettings
from improvement_service.feedback.client import ClickstreamClient
from tests.security.guarded import lines_of, put
from tideline.cli import main
from tideline.errors import Misconfigured, TidelineError
from tideline.rpc.channels import Access
from tideline.rpc.security import refuse_exposure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.security.certificates import Authority


@pytest.fixture
def files(authority: Authority, tmp_path: Path, keys_file: Path) -> dict[str, str]:
    """Settings of a service that is protected, by the names that they have in the environment."""
    certificate, key = authority.sign("server").write(tmp_path, "server")
    return {"TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key), "AUTH_KEYS_FILE": str(keys_file)}


@asynccontextmanager
async def serve(
    mongo_uri: str, database: str, *flags: str, **settings: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    ours = {"MONGO_URI": mongo_uri, "MONGO_DATABASE": database, **settings}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tideline.cli", "serve", "clickstream", *flags),
        env={**os.environ, **{f"CLICKSTREAM_{name}": value for name, value in ours.items()}},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def said(process: asyncio.subprocess.Process, message: str) -> dict[str, Any]:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        entry: dict[str, Any] = json.loads(line)
        if entry["message"] == message:
            return entry
    raise AssertionError(f"the service ended without saying {message!r}")


async def test_a_service_that_other_machines_reach_does_not_start_unprotected(
    mongo_uri: str, database_name: str, files: dict[str, str]
) -> None:
    everywhere = {"LISTEN": "0.0.0.0:0"}
    async with serve(mongo_uri, database_name, **everywhere) as process:
        cause = (await said(process, "cannot start"))["cause"]
        assert await process.wait() == 1
    for name in (
        "CLICKSTREAM_LISTEN=0.0.0.0:0",
        "CLICKSTREAM_TLS_CERT_FILE",
        "CLICKSTREAM_AUTH_KEYS_FILE",
        "--insecure",
    ):
        assert name in cause
    async with serve(mongo_uri, database_name, **everywhere, **files) as process:
        assert (await said(process, "serving"))["port"]
    async with serve(mongo_uri, database_name, "--insecure", **everywhere) as process:
        assert (await said(process, "serving"))["port"]


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "shop.example:1", "*:1", ":1", "[::ffff:10.0.0.1]:1"]
)
def test_neither_tls_nor_authentication_is_enough_by_itself(listen: str, files: dict[str, str]) -> None:
    given = {name.lower(): value for name, value in files.items()}
    keys = given.pop("auth_keys_file")
    for settings in (Settings(), Settings(**given), ImprovementSettings(auth_keys_file=keys)):
        with pytest.raises(Misconfigured, match="--insecure"):
            refuse_exposure(settings, listen)
    refuse_exposure(Settings(**given, auth_keys_file=keys), listen)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:1", "[::1]:1", "127.8.9.1:1", "unix:/run/tideline"])
def test_on_ones_own_machine_nothing_is_needed(listen: str) -> None:
    refuse_exposure(Settings(), listen)


@pytest.mark.parametrize(
    "settings",
    [
        {"tls_cert_file": "x"},
        {"tls_client_ca_file": "x"},
        {"auth_certificate_roles": {"x": ["client"]}},
        {"auth_jwks": "x"},
        {"auth_jwks": "x", "auth_jwt_audience": "x", "auth_jwt_issuer": "x", "auth_jwt_algorithms": ["HS256"]},
        {"auth_jwks": "x", "auth_jwt_audience": "x", "auth_jwt_issuer": "x", "auth_jwt_algorithms": ["none"]},
    ],
)
def test_settings_that_protect_by_halves_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Settings(**settings)


def test_what_is_wrong_with_a_setting_is_told_without_the_secrets_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSTREAM_MONGO_URI", "nonsense://user:geheim@host")
    with pytest.raises(ValueError, match="mongo_uri") as refused:
        Settings()
    assert "geheim" not in str(refused.value)


async def test_the_other_service_and_the_commands_reach_a_protected_one(
    files: dict[str, str], authority: Authority, keys_file: Path, new_key: Callable[..., str],
    mongo_uri: str, database_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    settings = Settings(
        mongo_uri=mongo_uri,
        mongo_database=database_name,
        listen="127.0.0.1:0",
        stop_grace=timedelta(0),
        **{name.lower(): value for name, value in files.items()},
    )
    ca, token = authority.write(tmp_path), tmp_path / "token"
    put(token, new_key("internal") + "\n")
    async with running(settings) as port:
        address = f"localhost:{port}"
        client = ClickstreamClient(address, timedelta(seconds=10), Access(ca_file=str(ca), token_file=token))
        assert await client.requeue_users(["u1"]) == 0
        assert [user async for user in client.lease("w", timedelta(minutes=1), 10, lambda _: None)] == []

        erase = ["erase", "u1", "--address", address, "--ca-file", str(ca)]
        assert await asyncio.to_thread(main, erase) == 1
        assert "no valid credentials" in capsys.readouterr().err
        assert await asyncio.to_thread(main, [*erase, "--token-file", str(token)]) == 1
        assert "is for the roles admin" in capsys.readouterr().err
        # A token is read again for each call: it may be renewed, or change.
        put(token, new_key("admin"))
        assert await asyncio.to_thread(main, [*erase, "--token-file", str(token)]) == 0
        assert await client.requeue_users(["u1"]) == 0
        put(keys_file, "")
        with pytest.raises(TidelineError) as refused:
            await client.requeue_users(["u1"])
        assert refused.value.reason == "UNAUTHENTICATED"
        await client.close()


def test_a_key_that_the_command_makes_is_printed_once_and_its_hash_is_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new"
    create = ["key", "create", "--role", "client", "--file", str(file)]
    assert main([*create, "--name", "shop", "--role", "internal", "--tenant", "acme"]) == 0
    shown = capsys.readouterr().out.strip()
    (line,) = lines_of(file)
    assert shown.startswith("tl_")
    assert shown.split("_", 2)[2] not in line
    assert line.split()[:4] == [shown.split("_")[1], "shop", "client,internal", "acme"]
    assert file.stat().st_mode & 0o077 == 0
    put(file, line.strip())  # without the end of its line
    assert main([*create, "--name", "other"]) == 0
    assert [one.split()[1] for one in lines_of(file)] == ["shop", "other"]
    assert main([*create, "--name", "two words"]) == 1
    assert main([*create, "--name", "x", "--tenant", "../x"]) == 1
    assert len(lines_of(file)) == 2


@pytest.mark.parametrize("access", [{"token_file": "token"}, {"cert_file": "cert", "key_file": "key"}])
async def test_credentials_never_travel_in_the_clear(
    access: dict[str, str], authority: Authority, tmp_path: Path, keys_file: Path
) -> None:
    certificate, key = authority.sign("x").write(tmp_path, "x")
    put(tmp_path / "token", "secret")
    given = {"token": tmp_path / "token", "cert": certificate, "key": key}
    chosen = Access(**{name: given[value] for name, value in access.items()})
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(3))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, chosen.aio_channel(f"localhost:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/x/y")(b"", timeout=20)
    # A TLS handshake, not a call in the clear, which would begin with PRI.
    assert heard[0][:2] == b"\x16\x03"
