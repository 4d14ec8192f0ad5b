"""`tideline rebuild-rollups`: count everything again that the signals are taken from."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

from tideline.errors import DependencyUnavailable, Misconfigured

if TYPE_CHECKING:
    import argparse

    from tideline.cli import Commands

TOLD_EVERY_S: Final = 1.0


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "rebuild-rollups", "count all sessions and interactions again, while the signals answer from what was counted"
    )
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    """Rebuild in the database of the settings. 1 when it does not answer, or a rebuild is under way."""
    try:
        counted = asyncio.run(_rebuild())
    except (DependencyUnavailable, Misconfigured) as failure:
        print(f"rebuild-rollups: {failure}", file=sys.stderr)  # noqa: T201
        return 1
    if counted is None:
        print("rebuild-rollups: a rebuild is under way already", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{counted} sessions and interactions without one were counted")  # noqa: T201
    return 0


async def _rebuild() -> int | None:
    from clickstream_service.app import utc_now  # noqa: PLC0415 - other commands start without the database
    from clickstream_service.app_signals import recount  # noqa: PLC0415
    from clickstream_service.config import Settings  # noqa: PLC0415
    from clickstream_service.storage import indexes  # noqa: PLC0415
    from clickstream_service.storage.database import Database  # noqa: PLC0415
    from clickstream_service.storage.mongo_strengths import MongoStrengths  # noqa: PLC0415
    from clickstream_service.strengths import StrengthVersions  # noqa: PLC0415
    from tideline.rpc.configuration import configured  # noqa: PLC0415

    settings = configured(Settings)
    database = Database(str(settings.mongo_uri), settings.of_tenant(settings.mongo_database), settings.mongo_patience)
    try:
        await indexes.ensure(database)
        strengths = StrengthVersions(MongoStrengths(database), settings.strengths_max_age, utc_now)
        return await recount(database, settings, strengths).run(_Progress())
    finally:
        database.close()


class _Progress:
    """Says on a terminal how many were counted."""

    def __init__(self) -> None:
        self._counted = 0
        self._told_at = time.monotonic()

    def __call__(self, counted: int) -> None:
        self._counted += counted
        if sys.stderr.isatty() and time.monotonic() > self._told_at + TOLD_EVERY_S:
            self._told_at = time.monotonic()
            print(f"\r{self._counted:,} counted", end="", file=sys.stderr, flush=True)  # noqa: T201
