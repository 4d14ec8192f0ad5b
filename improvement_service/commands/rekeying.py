"""`tideline rekey improvement`: bring the user ids in the database and in Milvus under the newest key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tideline.errors import Misconfigured

if TYPE_CHECKING:
    from tideline.cli import Commands


def register(commands: Commands) -> None:
    """Add the command."""
    commands.add_rekeying("improvement", "personal copies of vectors, in Milvus, and what is noted of them", _rekey)


async def _rekey() -> None:
    from improvement_service.app import connect_vectors  # noqa: PLC0415 - other commands start without torch
    from improvement_service.config import Settings  # noqa: PLC0415
    from improvement_service.domain.errors import CollectionNotFound  # noqa: PLC0415
    from improvement_service.storage import database as mongo  # noqa: PLC0415
    from improvement_service.storage.collections import MongoCollections  # noqa: PLC0415
    from improvement_service.storage.rekeying import Rekeying  # noqa: PLC0415
    from improvement_service.storage.runs import MongoRuns  # noqa: PLC0415
    from improvement_service.storage.user_key_mark import RULES, SETTING, UserKeyMark  # noqa: PLC0415
    from tideline.rpc.configuration import configured  # noqa: PLC0415
    from tideline.rpc.pseudonyms import UserKeys, WrongUserKeys  # noqa: PLC0415

    settings = configured(Settings)
    if settings.user_keys_file is None:
        raise WrongUserKeys(f"{SETTING} is not set")
    keys = UserKeys.read(settings.user_keys_file, SETTING)
    with mongo.connected(
        str(settings.mongo_uri), settings.of_tenant(settings.mongo_database), settings.mongo_patience
    ) as database:
        if await MongoRuns(database).any_running():
            raise Misconfigured("a run is under way: stop the service first; if it was killed, wait a minute")
        marks = UserKeyMark(database)
        under_way, done = RULES.rekeying(await marks.get(), keys)
        vectors, rows = connect_vectors(settings), 0
        try:
            await marks.set(under_way)
            async for index in MongoCollections(database).all():
                try:
                    rows += await vectors.rename_users(index, keys.pseudonym)
                except CollectionNotFound:
                    # Its creation, or its deletion, was broken off: there is nothing in it.
                    continue
            _tell("rows_in_milvus", rows)
            async for kind, count in Rekeying(database, keys.pseudonym).run():
                _tell(kind, count)
            await marks.set(done)
        finally:
            await vectors.close()
    print(f"all user ids are pseudonyms under the key {keys.newest}")  # noqa: T201


def _tell(kind: str, count: int) -> None:
    print(f"{kind:26}{count}", flush=True)  # noqa: T201
