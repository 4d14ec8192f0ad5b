"""The stack on one machine: it comes up, ends without a trace in whatever way, and finds its data again."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from deploy.local.client import Client
from deploy.local.processes import Process, StartFailed
from deploy.local.world import World
from tideline.clickstream.v1 import session_pb2, session_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 60
"""How long to wait for processes to end before saying that they do not."""


async def test_a_killed_stack_leaves_no_process_behind_and_the_next_one_finds_its_data(tmp_path: Path) -> None:
    things = small_world()
    with running_stack(tmp_path) as stack:
        async with Client(stack.addresses["clickstream"], stack.addresses["improvement"]) as client:
            await client.create_collection("things", things)
            session = session_pb2.Session(session_id="s1", user_id="u1")
            await client.sessions.CreateSession(session_service_pb2.CreateSessionRequest(session=session))
        assert stack.left_running_after(signal.SIGKILL) == []

    with running_stack(tmp_path) as stack:
        async with Client(stack.addresses["clickstream"], stack.addresses["improvement"]) as client:
            results = await client.search("things", things.query_vectors[0], limit=1)
            assert [result.object_id for result in results] == ["thing-1"]
            found = await client.sessions.GetSession(session_service_pb2.GetSessionRequest(session_id="s1"))
            assert found.session.user_id == "u1"
        assert stack.left_running_after(signal.SIGTERM) == []


def test_a_process_lives_on_when_the_thread_that_started_it_ends(tmp_path: Path) -> None:
    started: list[Process] = []
    thread = threading.Thread(target=lambda: started.append(Process(["sleep", "1000"], tmp_path / "log")))
    thread.start()
    thread.join()
    assert started[0].running()
    assert started[0].stop() == -signal.SIGTERM


def test_a_process_that_ends_while_it_is_started_says_why(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "echo the port is taken; exit 3"], tmp_path / "log")
    process.wait()
    with pytest.raises(StartFailed, match="status 3:\nthe port is taken"):
        process.check()


@dataclass
class RunningStack:
    """`python -m deploy.local.stack` as a process, and a hold on every process that came of it."""

    process: subprocess.Popen[str]
    addresses: dict[str, str]
    waiting: dict[int, int]
    """Process ids by the file that tells when they end."""

    def left_running_after(self, how: signal.Signals) -> list[int]:
        """End the stack; the processes that have not ended even then."""
        self.process.send_signal(how)
        while self.waiting and (ended := select.select(list(self.waiting), [], [], PATIENCE_S)[0]):
            for file in ended:
                del self.waiting[file]
        return list(self.waiting.values())


@contextmanager
def running_stack(folder: Path) -> Iterator[RunningStack]:
    command = [sys.executable, "-m", "deploy.local.stack", "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, ExitStack() as end:
        end.callback(process.kill)
        addresses = {}
        assert process.stdout
        for line in process.stdout:
            if line.startswith("ready"):
                break
            name, address = line.rsplit(maxsplit=1)
            addresses[name] = address
        waiting = {os.pidfd_open(pid): pid for pid in [process.pid, *descendants(process.pid)]}
        for file in waiting:
            end.callback(os.close, file)
        assert len(waiting) >= 4, "the stack itself, mongod and two services at least"
        yield RunningStack(process, addresses, waiting)


def descendants(pid: int) -> set[int]:
    """The processes that `pid` has started, and those that they have started."""
    children: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # threads come and go
            children.update(int(child) for child in (task / "children").read_text().split())
    return children.union(*(descendants(child) for child in children))


def small_world() -> World:
    """Three things at right angles, and a query that is the second one."""
    return World(
        items=[{"object_id": f"thing-{number}", "title": f"Thing {number}"} for number in range(3)],
        queries=["the second one"],
        users=[],
        item_vectors=np.eye(3, dtype=np.float32),
        query_vectors=np.eye(3, dtype=np.float32)[1:2],
        simulated=True,
    )
