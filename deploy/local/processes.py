"""Child processes that never outlive their parent, and the free ports they listen on (Linux)."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIRST_PORT = 10_000
ATTEMPTS = 100
"""So many ports are tried."""
TETHER = Path(__file__).with_name("tether.py")

# A tether is tied to the thread that starts the child. This one lives as long as the process does, so a stack
# may be started from a thread that ends.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")


class StartFailed(RuntimeError):
    """A process ended, or did not get healthy, while it was being started."""


class Process:
    """A running command whose output goes to `log`; it is killed when this process ends in whatever way."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Start `command` with `environment` on top of this process's own."""
        self.name = Path(command[0]).name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        tethered = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command]
        with log.open("ab") as output:
            self._popen = _starter.submit(
                subprocess.Popen,
                tethered,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                # Ctrl-C in a terminal reaches the whole group: who started the child decides when it stops.
                start_new_session=True,
            ).result()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def running(self) -> bool:
        return self._popen.poll() is None

    def check(self) -> None:
        """Raise `StartFailed`, with the end of the log, when the process has ended."""
        if not self.running():
            raise StartFailed(f"{self.name} ended with status {self._popen.returncode}:\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, grace: float = 20.0) -> int:
        """Ask the process to end (SIGTERM), kill it after `grace` seconds; returns its exit status."""
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._popen.wait(grace)
        return self.kill()

    def kill(self) -> int:
        self._popen.kill()
        return self.wait()

    def wait(self) -> int:
        return self._popen.wait()


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago; who binds it may still lose a race.

    Not one of those that the system gives to outgoing connections: whoever restarts on the same port, say after it was
    killed, would lose it to any connection that is made meanwhile.
    """
    given_away = _first_given_away()
    above = given_away if given_away >= FIRST_PORT + ATTEMPTS else 65_536
    for port in random.sample(range(FIRST_PORT, above), k=ATTEMPTS):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StartFailed("no port of the loopback interface is free")


def _first_given_away() -> int:
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
