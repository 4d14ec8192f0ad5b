"""`tideline export`: the same rows in either format, and files that are complete or not there."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pyarrow import parquet

from tests.clickstream.training.calls import snapshot
from tests.clickstream.training.reference import a_log
from tideline.cli import main

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.clickstream.conftest import Clock, Service
    from tests.clickstream.training.calls import Log
    from tideline.clickstream.v1.training_service_pb2_grpc import TrainingServiceAsyncStub


async def export(service: Service, kind: str, out: Path, *arguments: str) -> int:
    command = ["export", kind, "--address", f"127.0.0.1:{service.port}", "--out", str(out), *arguments]
    return await asyncio.to_thread(main, command)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.mark.parametrize("kind", ["training-pairs", "fine-tuning-inputs", "interactions"])
async def test_both_formats_hold_the_same(service: Service, log: Log, tmp_path: Path, kind: str) -> None:
    for search in a_log(1, sessions=30):
        await log.search(search.session_id, search.shown, search.done, search.query, query_vector=[0.5, 1.5])
    for file_format in ("jsonl", "parquet"):
        assert await export(service, kind, tmp_path / file_format, "--format", file_format) == 0
    rows = lines(tmp_path / "jsonl")
    table = parquet.read_table(tmp_path / "parquet")
    assert len(rows) > 10
    read = [
        {name: getattr(value, "isoformat", lambda v=value: v)() for name, value in row.items()}
        for row in table.to_pylist()
    ]
    assert read == rows


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
async def test_files_of_a_snapshot_are_the_same_byte_for_byte(
    service: Service, log: Log, training: TrainingServiceAsyncStub, clock: Clock, tmp_path: Path, file_format: str
) -> None:
    for search in a_log(2, sessions=30):
        await log.search(search.session_id, search.shown, search.done, search.query)
    frozen = await snapshot(training)
    options = ("--format", file_format, "--snapshot", frozen.snapshot_id)
    assert await export(service, "training-pairs", tmp_path / "before", *options) == 0
    clock.advance(timedelta(seconds=1))
    await log.search("late", "abcd", ["d"], query="q1")
    assert await export(service, "training-pairs", tmp_path / "after", *options) == 0
    assert (tmp_path / "after").read_bytes() == (tmp_path / "before").read_bytes()


async def test_parts_are_written_to_files_of_their_own(service: Service, log: Log, tmp_path: Path) -> None:
    for search in a_log(3, sessions=40):
        await log.search(search.session_id, search.shown, search.done, search.query)
    parts = []
    for part in range(2):
        split = ("--split", "query", "--fractions", "0.5,0.5", "--part", str(part), "--format", "jsonl")
        assert await export(service, "training-pairs", tmp_path / str(part), *split) == 0
        parts.append({row["query_text"] for row in lines(tmp_path / str(part))})
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {f"q{number}" for number in range(6)}


async def test_an_export_that_fails_leaves_no_file(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await export(service, "training-pairs", tmp_path / "out", "--snapshot", "none") == 1
    assert files(tmp_path) == []
    assert "NOT_FOUND: snapshot_id: there is no such snapshot" in capsys.readouterr().err
