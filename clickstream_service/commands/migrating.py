"""`tideline migrate clickstream`: bring the data up to date before, or while, replicas of a release are started."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from tideline.errors import DependencyUnavailable

if TYPE_CHECKING:
    import argparse

    from clickstream_service.config import Settings
    from tideline.cli import Commands


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_migration("clickstream", "bring sessions, events and indexes up to date with this release")
    parser.add_argument(
        "--repeat",
        action="store_true",
        help="go over everything again, once no replica of the release before is left that may have written since",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Migrate; one that is broken off is gone on with by the next call. 1 without a database."""
    from clickstream_service.config import Settings  # noqa: PLC0415 - other commands start without it
    from tideline.rpc import logs  # noqa: PLC0415

    settings = Settings()
    logs.configure(settings.log_level)
    try:
        asyncio.run(_migrate(settings, repeat=arguments.repeat))
    except DependencyUnavailable as unavailable:
        print(f"tideline migrate: {unavailable}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


async def _migrate(settings: Settings, *, repeat: bool) -> None:
    from clickstream_service.storage.database import Database  # noqa: PLC0415
    from clickstream_service.storage.migrations import migrations  # noqa: PLC0415

    database = Database(str(settings.mongo_uri), settings.of_tenant(settings.mongo_database), settings.mongo_patience)
    try:
        await migrations(database, settings.migration_lock).run(repeat=repeat)
    finally:
        database.close()
