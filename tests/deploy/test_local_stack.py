"""The stack on one machine: it comes up, ends without a trace in whatever way, and finds its data again."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from deploy.local.client import Client
from deploy.local.processes import Process, StartFailed
from deploy.local.stack import Stack
from deploy.local.world import World
from tideline.clickstream.v1 import session_pb2, session_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

PATIENCE_S = 60
"""How long to wait for processes to end before saying that they do not."""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_running_when_the_stack_is_ended(how: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.local.stack", "--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stack:
        assert stack.stdout
        for line in stack.stdout:
            if line.startswith("ready"):
                break
        started = descendants(stack.pid)
        assert len(started) >= 3, "mongod and two services at least"
        with watched(started) as still_running:
            stack.send_signal(how)
            assert still_running() == []


async def test_data_are_found_again_by_the_next_start_in_the_same_folder(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        async with Client(stack.clickstream.address, stack.improvement.address) as client:
            await client.create_collection("things", small_world())
            session = session_pb2.Session(session_id="s1", user_id="u1")
            await client.sessions.CreateSession(session_service_pb2.CreateSessionRequest(session=session))
    with Stack(tmp_path) as stack:
        async with Client(stack.clickstream.address, stack.improvement.address) as client:
            results = await client.search("things", small_world().query_vectors[0], limit=1)
            assert [result.object_id for result in results] == ["thing-1"]
            found = await client.sessions.GetSession(session_service_pb2.GetSessionRequest(session_id="s1"))
            assert found.session.user_id == "u1"


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


def descendants(pid: int) -> set[int]:
    """The processes that `pid` has started, and those that they have started."""
    children: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        children.update(int(child) for child in (task / "children").read_text().split())
    return children.union(*(descendants(child) for child in children))


@contextmanager
def watched(pids: Collection[int]) -> Iterator[Callable[[], list[int]]]:
    """Yields a function that waits until all of them have ended, and returns those that have not."""
    with ExitStack() as files:
        waiting = {os.pidfd_open(pid): pid for pid in pids}
        for file in waiting:
            files.callback(os.close, file)

        def still_running() -> list[int]:
            while waiting and (ended := select.select(list(waiting), [], [], PATIENCE_S)[0]):
                for file in ended:
                    del waiting[file]
            return list(waiting.values())

        yield still_running


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
