"""Vectors that cannot be opened: which setting is wrong is said, in a line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from improvement_service.vectors.milvus import VectorStore
from tests.clickstream.privacy.keys import keys_file
from tideline.cli import main
from tideline.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys
from milvus_lite.server_manager import server_manager_instance
print(server_manager_instance.start_and_get_uri(sys.argv[1]), flush=True)
sys.stdin.read()
server_manager_instance.release_all()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[str]:
    """The path of vectors that another process has open."""
    path = str(tmp_path / "vectors.db")
    command = [sys.executable, "-W", "ignore", "-c", HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().startswith(b"unix:")
        yield path
        holder.communicate()


@pytest.mark.parametrize("command", ["rekey", "serve"])
async def test_vectors_that_another_process_has_open_are_left_alone(
    command: str,
    held: str,
    mongo_uri: str,
    database_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("IMPROVEMENT_MILVUS_URI", held)
    monkeypatch.setenv("IMPROVEMENT_MONGO_URI", mongo_uri)
    monkeypatch.setenv("IMPROVEMENT_MONGO_DATABASE", database_name)
    monkeypatch.setenv("IMPROVEMENT_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("IMPROVEMENT_USER_KEYS_FILE", str(keys_file(tmp_path, 1)))
    assert await asyncio.to_thread(main, [command, "improvement"]) == 1
    said = "".join(capfd.readouterr())
    assert f"IMPROVEMENT_MILVUS_URI={held}" in said
    assert "one process at a time" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("uri", ["milvus.example", "ftp://ann:open-sesame@milvus.example:19530"])
async def test_an_address_that_is_none_is_not_repeated(uri: str) -> None:
    with pytest.raises(Misconfigured, match="IMPROVEMENT_MILVUS_URI") as refused:
        VectorStore(uri)
    assert "open-sesame" not in str(refused.value)
