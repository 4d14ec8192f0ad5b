"""With which keys the user ids of the database are pseudonyms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clickstream_service.storage.database import outages
from tideline.rpc.key_marks import KeyMark, KeyRules

if TYPE_CHECKING:
    from clickstream_service.storage.database import Database
    from tideline.rpc.pseudonyms import UserKeys

SETTING: Final = "CLICKSTREAM_USER_KEYS_FILE"
RULES: Final = KeyRules(SETTING, "tideline rekey clickstream")

_MARK: Final = {"_id": "user_ids"}


class UserKeyMark:
    """The only document of the collection `pseudonyms`; there is none where user ids are kept as they come."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._marks = database.pseudonyms

    @outages()
    async def get(self) -> KeyMark | None:
        found = await self._marks.find_one(_MARK)
        return None if found is None else KeyMark(found["newest"], found["check"], found["rekeying"])

    @outages()
    async def set(self, mark: KeyMark) -> None:
        fields = {"newest": mark.newest, "check": mark.check, "rekeying": mark.rekeying}
        await self._marks.update_one(_MARK, {"$set": fields}, upsert=True)

    async def admit(self, keys: UserKeys | None) -> None:
        """Make sure that the service has the keys of the database, or none; raises `WrongUserKeys`."""
        mark = RULES.admit(await self.get(), keys, knows_users=keys is not None and await self._knows_users())
        if mark is not None:
            await self.set(mark)

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
