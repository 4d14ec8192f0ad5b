"""The reference says what the contract says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tideline

PROTOS = Path(tideline.__file__ or "").parent.parent


def test_the_reference_is_made_from_the_contract_as_it_is_now(tmp_path: Path) -> None:
    made = tmp_path / "REFERENCE.md"
    subprocess.run([sys.executable, PROTOS / "reference.py", made], check=True)
    assert made.read_text() == (PROTOS / "REFERENCE.md").read_text(), "`make docs` brings it up to date"


def test_every_method_message_and_field_is_explained() -> None:
    unexplained = [
        line
        for line in (PROTOS / "REFERENCE.md").read_text().splitlines()
        if line.startswith("| `") and line.endswith("|  |")
    ]
    assert unexplained == []
