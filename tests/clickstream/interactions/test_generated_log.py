"""The log that the benchmark of growth is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickstream_service.importers.items import FoundInteraction, FoundSession
from clickstream_service.importers.names import Names
from clickstream_service.importers.own import Own
from clickstream_service.importers.source import Source
from tests.benchmarks import generated_log

if TYPE_CHECKING:
    from pathlib import Path


def test_a_generated_log_is_as_long_as_asked_for_the_same_each_time_and_can_be_imported(tmp_path: Path) -> None:
    one, again = tmp_path / "one", tmp_path / "again"
    written = generated_log.write(one, 2_000)
    assert written == generated_log.write(again, 2_000)
    assert one.read_bytes() == again.read_bytes()
    items = list(Own(Names({})).read(Source(one)))
    sessions = [item.message for item in items if isinstance(item, FoundSession)]
    interactions = [item.message for item in items if isinstance(item, FoundInteraction)]
    assert (len(sessions), len(interactions), len(items)) == (written.sessions, 2_000, written.sessions + 2_000)
    known = {session.session_id for session in sessions}
    assert {interaction.session_id for interaction in interactions} <= known
    begin = generated_log.BEGIN.timestamp()
    assert begin <= sessions[0].created_at.seconds <= sessions[-1].created_at.seconds
    assert sessions[-1].created_at.seconds <= begin + 1.2 * generated_log.DAYS * 24 * 3600
