"""What the services print: lines of JSON, each with its trace, without personal data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.observability.conftest import TEXT, USER

if TYPE_CHECKING:
    from tests.observability.conftest import Told


def test_every_line_that_a_service_prints_is_json(told: Told) -> None:
    for service in ("clickstream", "improvement"):
        lines = (told.stack.folder / f"{service}.log").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        assert {"level", "message", "timestamp"} <= set.intersection(*map(set, entries))
        assert "serving" in {entry["message"] for entry in entries}


def test_logs_tell_nothing_of_who_searched_for_what(told: Told) -> None:
    for service in ("clickstream", "improvement"):
        said = (told.stack.folder / f"{service}.log").read_text()
        assert not any(secret in said for secret in (USER, TEXT, told.session_id))
