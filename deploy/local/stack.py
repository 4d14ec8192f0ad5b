"""All of Tideline on one machine: MongoDB, Milvus and both services, with their data under one folder.

`python -m deploy.local.stack` starts it, prints the addresses and waits for Ctrl-C. Data in the folder are found again
by the next start. Nothing is left running, in whatever way the stack ends. Databases that are there already are used
instead when TIDELINE_MONGO_URI and TIDELINE_MILVUS_URI name them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deploy.local.milvus_server import MilvusServer
from deploy.local.mongod import Mongod
from deploy.local.processes import StartFailed, free_port
from deploy.local.protection import Protection
from deploy.local.service import Service
from tideline.rpc.channels import NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tideline.rpc.channels import Access

LITE = "lite"
SERVER = "server"
NO_SETTINGS: Mapping[str, str] = {}


class Stack:
    """The running whole; a context manager. `clickstream` and `improvement` can be killed and started again."""

    def __init__(
        self,
        folder: Path,
        *,
        mongo_uri: str | None = None,
        milvus: str = LITE,
        database: str = "tideline",
        clickstream_settings: Mapping[str, str] = NO_SETTINGS,
        improvement_settings: Mapping[str, str] = NO_SETTINGS,
        secure: bool = False,
    ) -> None:
        """Start nothing yet.

        `milvus` is "lite" (a file, kept by the improvement service), "server" (one of its own) or the URI of a server.
        With `secure`, both talk TLS and ask for keys; `protection` says where these are then.
        Settings are named as the services name them, without their prefix: `{"SECONDS_INTERVAL": "60"}`.
        """
        self.folder = folder.resolve()
        self._milvus = milvus
        self.database = database
        self._settings = (clickstream_settings, improvement_settings)
        self._running = ExitStack()
        self.protection = Protection(self.folder / "secure") if secure else None
        self.mongo_uri = mongo_uri or ""
        self.milvus_uri = ""

    @classmethod
    def from_environment(cls, folder: Path, milvus: str = LITE, *, secure: bool = False) -> Self:
        """A stack that uses what TIDELINE_MONGO_URI and TIDELINE_MILVUS_URI name, and starts what they leave out."""
        return cls(
            folder,
            mongo_uri=os.environ.get("TIDELINE_MONGO_URI"),
            milvus=os.environ.get("TIDELINE_MILVUS_URI") or milvus,
            secure=secure,
        )

    def start(self) -> None:
        """Start everything and wait until it is healthy; raises `StartFailed`, and then nothing is left running."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as starting:
            if not self.mongo_uri:
                self.mongo_uri = starting.enter_context(Mongod(self.folder)).uri
            self.milvus_uri = self._start_milvus(starting)
            clickstream, improvement = self._settings
            # Each service asks the other one, so one of the addresses has to be known before anybody has it.
            improvement_address = f"127.0.0.1:{free_port()}"
            self.clickstream = Service(
                "clickstream",
                self.folder,
                {
                    "MONGO_URI": self.mongo_uri,
                    "MONGO_DATABASE": f"{self.database}_clickstream",
                    "IMPROVEMENT_ADDRESS": improvement_address,
                    **self._protecting("improvement"),
                    **clickstream,
                },
                self.access,
            )
            self.clickstream.start()
            starting.callback(self.clickstream.stop)
            self.improvement = Service(
                "improvement",
                self.folder,
                {
                    "MONGO_URI": self.mongo_uri,
                    "MONGO_DATABASE": f"{self.database}_improvement",
                    "MILVUS_URI": self.milvus_uri,
                    "CLICKSTREAM_ADDRESS": self.clickstream.address,
                    **self._protecting("clickstream"),
                    **improvement,
                },
                self.access,
            )
            self.improvement.address = improvement_address
            self.improvement.start()
            starting.callback(self.improvement.stop)
            self._running = starting.pop_all()

    def stop(self) -> None:
        """Stop what was started, last first."""
        self._running.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def access(self) -> Access:
        """What it takes to call both services, and do everything."""
        return self.protection.access if self.protection is not None else NOTHING

    def addresses(self) -> dict[str, str]:
        secured = self.protection
        return {
            "clickstream": self.clickstream.address,
            "improvement": self.improvement.address,
            "MongoDB": self.mongo_uri,
            "Milvus": self.milvus_uri,
            "data and logs": str(self.folder),
            **({"CA": str(secured.ca), "API keys": str(secured.keys)} if secured is not None else {}),
        }

    def _protecting(self, other: str) -> dict[str, str]:
        return self.protection.settings(other) if self.protection is not None else {}

    def _start_milvus(self, starting: ExitStack) -> str:
        if self._milvus == LITE:
            return str(self.folder / "milvus.db")
        if self._milvus == SERVER:
            return starting.enter_context(MilvusServer(self.folder)).uri
        return self._milvus


def stop_on_sigterm() -> None:
    """Let SIGTERM unwind this process as Ctrl-C does, so that what it started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def main() -> None:
    arguments = argparse.ArgumentParser(description="Run all of Tideline on this machine until Ctrl-C.")
    arguments.add_argument(
        "--folder", type=Path, default=Path(".tideline"), help="data and logs (default: %(default)s)"
    )
    arguments.add_argument("--milvus", choices=[LITE, SERVER], default=LITE, help="Milvus Lite, or a Milvus server")
    arguments.add_argument("--secure", action="store_true", help="TLS and API keys, with a throwaway CA")
    chosen = arguments.parse_args()
    stop_on_sigterm()
    try:
        with Stack.from_environment(chosen.folder, chosen.milvus, secure=chosen.secure) as stack:
            for name, address in stack.addresses().items():
                print(f"{name:14}{address}", flush=True)
            print("ready; Ctrl-C stops it", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    except StartFailed as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
