"""What the services print: lines of JSON, each with its trace, without personal data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

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


@pytest.mark.parametrize("allowed", [False, True])
def test_what_libraries_say_and_what_crashes_is_json_too_and_quotes_people_only_where_that_is_allowed(
    allowed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    ran = subprocess.run([sys.executable, "-c", NOISE, str(int(allowed))], check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == ""
    entries = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(entries) == 5
    assert "old" in entries[0]["message"]
    assert [entry["level"] for entry in entries] == ["warning", "error", "error", "warning", "critical"]
    assert all(("ann" in line) == allowed for line in ran.stdout.splitlines()[1:])
    # The caller's trace, though none is exported.
    assert {entry["trace_id"] for entry in entries if entry["message"] != "a thread crashed"} == {"ab" * 16}


NOISE = """
import logging, sys, threading, warnings
import structlog
from tideline.rpc import logs, tracing

logs.configure("info", personal=sys.argv[1] == "1")
tracing.arrived((("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"),))
warnings.warn("an old thing")

def fail():
    raise ValueError("nobody is called ann")

try:
    fail()
except ValueError:
    logging.getLogger("driver").exception("failed for %s", "ann")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
structlog.get_logger().warning("odd", **logs.personal(user_id="ann"))
fail()
"""


@pytest.mark.parametrize("service", ["clickstream", "improvement"])
def test_a_service_that_is_misconfigured_says_what_is_wrong_but_not_what_it_was_given(service: str) -> None:
    prefix = service.upper()
    wrong = {f"{prefix}_MONGO_URI": "mongo//user:hunter2@nowhere", f"{prefix}_HEALTH_EVERY": "soon"}
    ran = subprocess.run(
        [sys.executable, "-m", "tideline.cli", "serve", service],
        env={**os.environ, **wrong},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (1, "")
    (entry,) = map(json.loads, ran.stdout.splitlines())
    assert entry["message"] == "cannot start"
    assert "mongo_uri" in entry["cause"]
    assert "health_every" in entry["cause"]
    assert "hunter2" not in ran.stdout
