"""A Milvus to measure with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from deploy.local.milvus_server import MilvusServer, milvus_server_command
from deploy.local.stack import LITE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def milvus(folder: Path) -> Iterator[str]:
    """Run a Milvus server, or use Milvus Lite where none is installed; yields its URI."""
    if milvus_server_command() is None:
        yield str(folder / "milvus.db")
        return
    with MilvusServer(folder) as server:
        yield server.uri


def kind(uri: str) -> str:
    """Say what is behind a URI."""
    return "Milvus server" if uri.startswith("http") else "Milvus Lite"


def of_stack(uri: str) -> str:
    """Return how a `Stack` is told of it: Milvus Lite is a file of its own."""
    return uri if uri.startswith("http") else LITE
