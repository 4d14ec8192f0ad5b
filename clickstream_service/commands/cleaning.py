"""`tideline clean`: find what bots and simulations have left, and tag or delete it."""

from __future__ import annotations

import argparse
import getpass
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tideline.cli import done

if TYPE_CHECKING:
    from clickstream_service.noise import Cleaning
    from tideline.cli import Commands

SINCE_DAYS: Final = 30


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("clean", "find noise among events by its rules; show statistics, then tag or delete it")
    parser.add_argument(
        "action", nargs="?", choices=("tag", "delete"), default="tag", help="what to do with it (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show statistics and do nothing")
    parser.add_argument(
        "--since-days",
        type=_days,
        default=SINCE_DAYS,
        metavar="N",
        help="look at the events of the last N days; at all of them with 0 (default: %(default)s)",
    )
    parser.add_argument("--by", default="", help="who cleans, for the record (default: who is logged in)")
    parser.set_defaults(run=_run)


def _days(text: str) -> int:
    days = int(text)
    if days < 0:
        raise argparse.ArgumentTypeError("has to be 0 or more")
    return days


def _run(arguments: argparse.Namespace) -> int:
    """Clean the database of the settings. 1 when it does not answer, or they are wrong."""
    action = "nothing" if arguments.dry_run else arguments.action
    return done("clean", _clean(action, arguments.since_days, arguments.by or _user()))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # Whom a container runs as has no name.
        return f"user {os.getuid()}"


async def _clean(action: str, since_days: int, by: str) -> None:
    from clickstream_service.app import utc_now  # noqa: PLC0415 - other commands start without the database
    from clickstream_service.config import Settings  # noqa: PLC0415
    from clickstream_service.noise import Action, Cleaner  # noqa: PLC0415
    from clickstream_service.storage import indexes  # noqa: PLC0415
    from clickstream_service.storage.database import Database  # noqa: PLC0415
    from clickstream_service.storage.mongo_feedback import MongoFeedback  # noqa: PLC0415
    from clickstream_service.storage.mongo_noise import MongoNoise  # noqa: PLC0415
    from tideline.rpc.configuration import configured  # noqa: PLC0415

    settings = configured(Settings)
    database = Database(str(settings.mongo_uri), settings.of_tenant(settings.mongo_database), settings.mongo_patience)
    try:
        await indexes.ensure(database)
        cleaner = Cleaner(MongoNoise(database, MongoFeedback(database).requeue_in), settings.noise, utc_now)
        since = utc_now() - timedelta(days=since_days) if since_days else None
        _show(await cleaner.clean(Action.NOTHING, since, by))
        if action == Action.NOTHING:
            return
        done = await cleaner.clean(Action(action), since, by)
        print(f"{done.tagged} tags changed, {done.deleted} events deleted")  # noqa: T201
    finally:
        database.close()


def _show(found: Cleaning) -> None:
    share = found.noise / found.events if found.events else 0.0
    print(f"{found.noise} of {found.events} events are noise ({share:.1%}), of {found.visitors} visitors")  # noqa: T201
    for rule, count in found.by_rule.most_common():
        print(f"  {rule:18}{count}")  # noqa: T201
