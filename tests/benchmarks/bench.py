"""Everything side by side: `python -m tests.benchmarks.bench [--quick] [--section NAME]`; see RESULTS.md.

A section is a module in `sections` with an `async def tables(bench: Bench)` that returns a list of `Table`, or yields
one after the other. What is written in NAME.md next to it goes under its tables.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks import results
from tests.benchmarks.harness import Bench

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.harness import Table

SECTIONS = Path(__file__).with_name("sections")


def main(argv: Sequence[str] | None = None) -> int:
    names = sorted(path.stem for path in SECTIONS.glob("[a-z]*.py"))
    parser = argparse.ArgumentParser(description="Measure what is shipped beside what it could be at best.")
    parser.add_argument("--quick", action="store_true", help="three rounds with a tenth of the work")
    parser.add_argument("--section", choices=names, action="append", help="only this one; may be given again")
    parser.add_argument("--out", type=Path, default=results.RESULTS, help="where to write (RESULTS.md)")
    arguments = parser.parse_args(argv)
    short = False
    for name in arguments.section or names:
        began = time.monotonic()
        tables = asyncio.run(_measured(name, quick=arguments.quick, out=arguments.out))
        print(results.read(name, arguments.out))  # noqa: T201
        print(f"({name} took {time.monotonic() - began:.0f} s)", file=sys.stderr)  # noqa: T201
        short |= any(row.met is False for table in tables for row in table.rows)
    return 1 if short else 0


async def _measured(name: str, *, quick: bool, out: Path) -> list[Table]:
    module = importlib.import_module(f"tests.benchmarks.sections.{name}")
    notes = SECTIONS / f"{name}.md"
    text = notes.read_text() if notes.exists() else ""
    tables: list[Table] = []
    with tempfile.TemporaryDirectory() as folder:
        async for table in _tables(module, Bench(quick, Path(folder))):
            tables.append(table)
            # Bit by bit: what was measured is not lost when something after it fails.
            results.write(name, tables, text, quick=quick, path=out)
    return tables


async def _tables(module: Any, bench: Bench) -> AsyncIterator[Table]:
    found = module.tables(bench)
    if isinstance(found, AsyncIterator):
        async for table in found:
            yield table
    else:
        for table in await found:
            yield table


if __name__ == "__main__":
    raise SystemExit(main())
