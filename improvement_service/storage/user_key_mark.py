"""With which keys the user ids of the database, and of Milvus, are pseudonyms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tideline.mongo import user_key_mark
from tideline.mongo.client import DURABLE
from tideline.mongo.outages import outages
from tideline.rpc.key_marks import KeyRules

if TYPE_CHECKING:
    from tideline.mongo.client import Database

SETTING: Final = "IMPROVEMENT_USER_KEYS_FILE"
RULES: Final = KeyRules(SETTING, "tideline rekey improvement")


class UserKeyMark(user_key_mark.UserKeyMark):
    """The mark of the improvement service."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.get_collection("pseudonyms", write_concern=DURABLE), RULES)
        self._database = database

    @outages()
    async def _knows_users(self) -> bool:
        for name in ("personal_writes", "personal_versions"):
            if await self._database[name].find_one({}, {"_id": 1}) is not None:
                return True
        return False
