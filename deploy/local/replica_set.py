"""A MongoDB of several members on this machine, any of which can be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from deploy.local.mongod import REPLICA_SET, mongod_command
from deploy.local.processes import Process, StartFailed, free_port

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS: Final = 3
SETTINGS: Final = {
    # A member that is silent for so long is taken for dead; 10 s unless told.
    "electionTimeoutMillis": 2_000,
    "heartbeatIntervalMillis": 500,
    "heartbeatTimeoutSecs": 2,
}


class ReplicaSet:
    """Members by number, each with its data in a folder of its own and a port that it keeps."""

    def __init__(self, folder: Path, *, members: int = MEMBERS, cache_gb: float = 0.25, patience: float = 60.0) -> None:
        """Start all and wait until one is primary; `patience` is in seconds. Raises `StartFailed`."""
        self._folder = folder
        self._cache_gb = cache_gb
        self._patience = patience
        self.ports = [free_port() for _ in range(members)]
        self._processes: list[Process] = []
        try:
            for number in range(members):
                self._processes.append(self._start(number))
            self._initiate()
            self.wait_for_primary()
        except BaseException:
            self.stop()
            raise

    @property
    def uri(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"mongodb://{hosts}/?replicaSet={REPLICA_SET}"

    def primary(self) -> int | None:
        """The number of the member that is primary by its own account; None while there is none."""
        for number in range(len(self.ports)):
            if self._hello(number).get("isWritablePrimary"):
                return number
        return None

    def wait_for_primary(self) -> int:
        return self._wait_until("there is no primary", self.primary)

    def wait_until_whole(self) -> None:
        """Wait until every member is primary or secondary: another one can be killed then, and a majority is left."""

        def whole() -> int | None:
            states = [self._hello(number) for number in range(len(self.ports))]
            ready = all(state.get("isWritablePrimary") or state.get("secondary") for state in states)
            return 0 if ready and any(state.get("isWritablePrimary") for state in states) else None

        self._wait_until("the set is not whole", whole)

    def kill(self, number: int) -> None:
        """End a member at once, as a power cut would."""
        self._processes[number].kill()

    def restart(self, number: int) -> None:
        """Start a member that was killed; it catches up by itself."""
        self._processes[number] = self._start(number)

    def freeze(self, number: int) -> None:
        os.kill(self._processes[number].pid, signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        os.kill(self._processes[number].pid, signal.SIGCONT)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, number: int) -> Process:
        data = self._folder / f"mongo{number}"
        data.mkdir(parents=True, exist_ok=True)
        # The less there is to apply again after a kill, the sooner a member is back; every 60 s unless told.
        command = [*mongod_command(data, self.ports[number], self._cache_gb), "--syncdelay", "10"]
        return Process(command, self._folder / f"mongod{number}.log")

    def _initiate(self) -> None:
        members = [{"_id": number, "host": f"127.0.0.1:{port}"} for number, port in enumerate(self.ports)]
        config = {"_id": REPLICA_SET, "members": members, "settings": SETTINGS}
        listening = range(len(self.ports))
        self._wait_until("mongod does not listen", lambda: 0 if all(map(self._hello, listening)) else None)
        with self._client(0) as client:
            client.admin.command("replSetInitiate", config)

    def _wait_until(self, otherwise: str, find: Any) -> int:
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            found: int | None = find()
            if found is not None:
                return found
            time.sleep(0.1)
        raise StartFailed(f"{otherwise} within {self._patience:g} s")

    def _hello(self, number: int) -> dict[str, Any]:
        with contextlib.suppress(PyMongoError), self._client(number) as client:
            return client.admin.command("hello")
        return {}

    def _client(self, number: int) -> MongoClient[dict[str, Any]]:
        address = f"mongodb://127.0.0.1:{self.ports[number]}/?directConnection=true"
        return MongoClient(address, serverSelectionTimeoutMS=500, socketTimeoutMS=1_000, connectTimeoutMS=500)
