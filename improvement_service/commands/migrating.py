"""`tideline migrate improvement`: bring the data up to date before, or while, replicas of a release are started."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from tideline.errors import DependencyUnavailable

if TYPE_CHECKING:
    import argparse

    from tideline.cli import Commands


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_migration("improvement", "bring runs and indexes up to date with this release")
    parser.add_argument(
        "--repeat",
        action="store_true",
        help="go over everything again, once no replica of the release before is left that may have written since",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Migrate; one that is broken off is gone on with by the next call. 1 without a database."""
    try:
        asyncio.run(_migrate(repeat=arguments.repeat))
    except DependencyUnavailable as unavailable:
        print(f"tideline migrate: {unavailable}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


async def _migrate(*, repeat: bool) -> None:
    from improvement_service.config import Settings  # noqa: PLC0415 - other commands start without it
    from improvement_service.storage import database as mongo  # noqa: PLC0415
    from improvement_service.storage.migrations import migrations  # noqa: PLC0415
    from tideline.rpc import logs  # noqa: PLC0415

    settings = Settings()
    logs.configure(settings.log_level)
    with mongo.connected(
        str(settings.mongo_uri), settings.of_tenant(settings.mongo_database), settings.mongo_patience
    ) as database:
        await migrations(database, settings.migration_lock).run(repeat=repeat)
