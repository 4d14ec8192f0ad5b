"""RESULTS.md: a part for each section, which stays as it is while others are measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.mongod import mongod_binary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.harness import Row, Table

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = """# What was measured

Made by `make bench`; each section says when and on what machine. The things compared ran one after the other, round by
round, in changing order; a figure is the median over the rounds of the ratio within each round, its range in brackets.
Rates are medians. What is measured is what runs: the public RPCs of a server in a process of its own, on a real mongod,
every write acknowledged with w=majority and j=true.
"""
PACKAGES = ("grpcio", "protobuf", "pymongo", "motor", "uvloop")


def read(section: str, path: Path = RESULTS) -> str:
    """Return the part of a section."""
    return _parts(path.read_text())[section]


def write(section: str, tables: Sequence[Table], notes: str, *, quick: bool, path: Path = RESULTS) -> None:
    """Put what was measured in the place of what the section had before."""
    part = f"## {section.capitalize()}\n\n{_measured_on(quick=quick)}\n"
    for table in tables:
        part += f"\n### {table.title}\n\n"
        if table.text:
            part += f"{table.text}\n\n"
        part += "| figure | at least | aim | reached | numbers behind it |\n|---|---|---|---|---|\n"
        part += "".join(map(_line, table.rows))
    if notes:
        part += f"\n{notes.strip()}\n"
    parts = _parts(path.read_text()) if path.exists() else {}
    parts[section] = part
    path.write_text(HEADING + "".join(f"\n<!-- {name} -->\n\n{parts[name]}" for name in sorted(parts)))


def _parts(text: str) -> dict[str, str]:
    _, *cut = re.split(r"^<!-- (\w+) -->\n\n", text, flags=re.MULTILINE)
    return {name: f"{part.strip()}\n" for name, part in zip(cut[::2], cut[1::2], strict=True)}


def _line(row: Row) -> str:
    reached = {None: row.reached, True: f"**{row.reached}**", False: f"{row.reached} (short)"}[row.met]
    return f"| {row.figure} | {row.at_least} | {row.aim} | {reached} | {row.behind} |\n"


def _measured_on(*, quick: bool) -> str:
    info = Path("/proc/cpuinfo").read_text()
    models = re.findall(r"^model name\s*: (.*)$", info, re.MULTILINE)
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    gib = int(memory[1]) / 2**20 if memory else 0
    mongod = subprocess.run([str(mongod_binary()), "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"v([\d.]+)", mongod.stdout)
    software = [
        f"Python {platform.python_version()}",
        f"MongoDB {version[1] if version else '?'}",
        *(f"{name} {metadata.version(name)}" for name in PACKAGES),
    ]
    processor = models[0] if models else platform.machine()
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {len(models)} cores of {processor}, "
        f"{gib:.0f} GiB, load {os.getloadavg()[1]:.0f}, Linux {platform.release().split('-')[0]}; "
        f"{', '.join(software)}." + (" Quick: three rounds with a tenth of the work." if quick else "")
    )
