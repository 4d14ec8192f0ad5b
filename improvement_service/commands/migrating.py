"""`tideline migrate improvement`: bring the data up to date before, or while, replicas of a release are started."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from tideline.cli import Commands


def register(commands: Commands) -> None:
    """Add the command."""
    commands.add_migration("improvement", "bring runs and indexes up to date with this release", _migrate)


async def _migrate(arguments: argparse.Namespace) -> None:
    from improvement_service.config import Settings  # noqa: PLC0415 - other commands start without it
    from improvement_service.storage import database as mongo  # noqa: PLC0415
    from improvement_service.storage.migrations import migrations  # noqa: PLC0415
    from tideline.rpc import logs  # noqa: PLC0415
    from tideline.rpc.configuration import configured  # noqa: PLC0415

    settings = configured(Settings)
    logs.configure(settings.log_level)
    with mongo.connected(
        str(settings.mongo_uri), settings.of_tenant(settings.mongo_database), settings.mongo_patience
    ) as database:
        await migrations(database, settings.migration_lock).run(repeat=arguments.repeat)
