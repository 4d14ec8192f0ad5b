"""Several processes of a service on one port, which share its connections (SO_REUSEPORT): one uses one core.

A client's connection stays with one of them, so a client that alone makes most of the calls needs several connections.
Each has limits of its own. They are replicas to each other: whatever holds for replicas holds for them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog

from tideline.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SHARED: Final = "TIDELINE_SHARES_PORT"
"""Set for a process that shares its port with others, and ends when its standard input does."""
STARTING_S: Final = 30.0
"""A process that fails, and is not killed, this soon is not started anew, and the others are stopped."""
PAUSE_S: Final = 1.0
"""How long after its end a process is started anew."""
ENDED_BY_SIGTERM: Final = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes: by the signal's own doing, or as `tideline` has it."""

_log = structlog.get_logger(__name__)


def shares_port() -> bool:
    """Say whether this is one of several processes."""
    return SHARED in os.environ


@contextmanager
def binding(address: str) -> Iterator[None]:
    """Around taking an address; raises `Misconfigured` where it cannot be had, which gRPC says with `RuntimeError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise Misconfigured(f"cannot listen on {address}: it is taken, or not this machine's") from error


def reserve(address: str) -> tuple[socket.socket, str]:
    """Take the port of `address` for processes that share it; returns what holds it, and the address with the port.

    Raises `Misconfigured` when it is taken: others could only tell by the calls that they miss.
    """
    host, port = _parts(address)
    with binding(address):
        with _bound(host, port, shared=False) as alone:
            port = alone.getsockname()[1]
        holder = _bound(host, port, shared=True)
    return holder, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def nth(address: str, number: int) -> str:
    """Return what the process of this number listens on by itself: the first on `address`, others on the next ports."""
    if not address or not number:
        return address
    host, port = address.rsplit(":", 1)
    return f"{host}:{int(port) + number if int(port) else 0}"


async def supervise(arguments: Sequence[str], environments: Sequence[Mapping[str, str]]) -> int:
    """Run `tideline` with these arguments in a process for each environment until told to stop; returns the exit code.

    One that ends by itself is started anew; but when one cannot start in the first place, all are stopped.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    codes = await asyncio.gather(*(_keep(arguments, environment, stop) for environment in environments))
    return max(codes)


async def _keep(arguments: Sequence[str], environment: Mapping[str, str], stop: asyncio.Event) -> int:
    told = asyncio.create_task(stop.wait())
    give_up_until = asyncio.get_running_loop().time() + STARTING_S
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tideline.cli", *arguments),
            env={**os.environ, **environment, SHARED: "1"},
            # It ends with this process, however that ends: nobody holds the other end of the pipe then.
            stdin=asyncio.subprocess.PIPE,
            # Ctrl-C reaches the whole group; who stops when is decided here.
            start_new_session=True,
        )
        ended = asyncio.create_task(process.wait())
        await asyncio.wait([told, ended], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            process.terminate()
            code = await ended
            # One that had not begun to serve ends by the signal itself, which is what it was told.
            return 0 if code in ENDED_BY_SIGTERM else code
        code = ended.result()
        if code > 0 and asyncio.get_running_loop().time() < give_up_until:
            stop.set()
        if stop.is_set():
            return code
        _log.error("a process ended and is started anew", code=code)
        await asyncio.wait([told], timeout=PAUSE_S)
        if stop.is_set():
            return 0


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise Misconfigured("several processes share a port: it needs an address like 127.0.0.1:50051")
    return host.strip("[]"), int(port)


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Connections that were closed just now do not matter.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
    except BaseException:
        taken.close()
        raise
    return taken
