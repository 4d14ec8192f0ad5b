"""A Milvus server of one's own: 2.3.5 from the package `milvus`, which wants an environment to itself."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from deploy.local.processes import Process, StartFailed, free_port

LAUNCHER = Path(__file__).with_name("milvus_launcher.py")
REPOSITORY = Path(__file__).parents[2]
ATTEMPTS = 2


def milvus_server_command() -> Path | None:
    """The installed `milvus-server`: TIDELINE_MILVUS_SERVER, else the one that `make test` installs, if it has."""
    command = Path(os.environ.get("TIDELINE_MILVUS_SERVER") or REPOSITORY / ".venv-milvus" / "bin" / "milvus-server")
    return command if command.exists() else None


class MilvusServer:
    """A running standalone Milvus with its data in `folder`."""

    def __init__(self, folder: Path, *, patience: float = 120.0) -> None:
        """Start and wait until it is healthy, at most `patience` seconds. Raises `StartFailed`."""
        self._folder = folder
        self._patience = patience
        self._ended = False
        for attempts_left in reversed(range(ATTEMPTS)):
            self._ports = [free_port() for _ in range(4)]
            try:
                self.start()
            except StartFailed:
                # Only one that ended by itself may have lost a port to somebody else.
                if not self._ended or not attempts_left:
                    raise
            else:
                return

    def start(self) -> None:
        """Start, again if it was killed, on the same ports and with the data there were. Raises `StartFailed`."""
        command = milvus_server_command()
        if command is None:
            raise StartFailed("no milvus-server: run `make test` once, or set TIDELINE_MILVUS_SERVER")
        self._ended = False
        data = str(self._folder.resolve() / "milvus")
        launch = [str(command.with_name("python")), str(LAUNCHER), data, *map(str, self._ports)]
        self._process = Process(launch, self._folder / "milvus.log")
        try:
            self._wait(time.monotonic() + self._patience)
        except BaseException:
            self._ended = not self._process.running()
            self._process.kill()
            raise

    def healthy(self) -> bool:
        """Whether it runs and says, within some seconds, that all of it is well."""
        return self._process.running() and self._says_healthy()

    def kill(self) -> None:
        """End at once, as a power cut would."""
        self._process.kill()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        # With collections loaded it may never end by itself. Nothing is lost: what was acknowledged is in its log.
        self._process.stop(grace=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            self._process.check()
            if self._says_healthy():
                return
            time.sleep(0.1)
        raise StartFailed(f"Milvus did not become healthy in time:\n{self._process.tail()}")

    def _says_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[1]}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
