"""`tideline rekey clickstream`: bring the user ids in the database under the newest key."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from tideline.errors import Misconfigured

if TYPE_CHECKING:
    from clickstream_service.storage.mongo_roles import MongoRoles
    from tideline.cli import Commands

LOOK_EVERY_S: Final = 0.25


def register(commands: Commands) -> None:
    """Add the command."""
    commands.add_rekeying("clickstream", "sessions, events, the queue of feedback, and erasures under way", _rekey)


async def _wait_until_stopped(roles: MongoRoles, lease_s: float) -> None:
    """Wait for a service that was killed to lose its roles; one that runs keeps them, and raises `Misconfigured`."""
    give_up_at = time.monotonic() + lease_s + LOOK_EVERY_S
    while await roles.any():
        if time.monotonic() > give_up_at:
            raise Misconfigured("the service is running: stop all of its replicas first")
        await asyncio.sleep(LOOK_EVERY_S)


async def _rekey() -> None:
    from clickstream_service.config import Settings  # noqa: PLC0415 - other commands start without the database
    from clickstream_service.storage import indexes  # noqa: PLC0415
    from clickstream_service.storage.database import Database  # noqa: PLC0415
    from clickstream_service.storage.erasure_guard import ErasureGuard  # noqa: PLC0415
    from clickstream_service.storage.mongo_roles import MongoRoles  # noqa: PLC0415
    from clickstream_service.storage.rekeying import Rekeying  # noqa: PLC0415
    from clickstream_service.storage.user_key_mark import RULES, SETTING, UserKeyMark  # noqa: PLC0415
    from tideline.rpc.configuration import configured  # noqa: PLC0415
    from tideline.rpc.pseudonyms import UserKeys, WrongUserKeys  # noqa: PLC0415

    settings = configured(Settings)
    if settings.user_keys_file is None:
        raise WrongUserKeys(f"{SETTING} is not set")
    keys = UserKeys.read(settings.user_keys_file, SETTING)
    database = Database(str(settings.mongo_uri), settings.of_tenant(settings.mongo_database), settings.mongo_patience)
    try:
        await _wait_until_stopped(MongoRoles(database), settings.role_lease.total_seconds())
        marks = UserKeyMark(database)
        under_way, done = RULES.rekeying(await marks.get(), keys)
        await marks.set(under_way)
        await indexes.ensure(database)
        guard = ErasureGuard(database)
        await guard.prepare()
        rekeying = Rekeying(database, guard, keys.pseudonym)
        async for kind, count in rekeying.run():
            print(f"{kind:26}{count}", flush=True)  # noqa: T201
        await marks.set(done)
        if receipts := await rekeying.finished_receipts():
            print(f"{receipts} receipts of finished erasures stay; asking for one of them again begins anew")  # noqa: T201
        print(f"all user ids are pseudonyms under the key {keys.newest}")  # noqa: T201
    finally:
        database.close()
