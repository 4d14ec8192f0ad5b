"""With which keys the user ids of the database are pseudonyms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tideline.mongo import user_key_mark
from tideline.mongo.outages import outages
from tideline.rpc.key_marks import KeyRules

if TYPE_CHECKING:
    from clickstream_service.storage.database import Database

SETTING: Final = "CLICKSTREAM_USER_KEYS_FILE"
RULES: Final = KeyRules(SETTING, "tideline rekey clickstream")


class UserKeyMark(user_key_mark.UserKeyMark):
    """The mark of the clickstream service."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.pseudonyms, RULES)
        self._database = database

    @outages()
    async def _knows_users(self) -> bool:
        named = {"user_id": {"$gt": ""}}
        database = self._database
        for collection, query in (
            (database.sessions, named),
            (database.session_events, named),
            (database.user_leases, {}),
            (database.erasures, named),
        ):
            if await collection.find_one(query, {"_id": 1}) is not None:
                return True
        return False
