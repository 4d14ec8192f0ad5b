"""With which keys the user ids that a service stores are pseudonyms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from tideline.mongo.outages import outages
from tideline.rpc.key_marks import KeyMark

if TYPE_CHECKING:
    from tideline.mongo.client import Collection
    from tideline.rpc.key_marks import KeyRules
    from tideline.rpc.pseudonyms import UserKeys

_MARK: Final = {"_id": "user_ids"}


class UserKeyMark(ABC):
    """The only document of the collection `pseudonyms`; there is none where user ids are kept as they come."""

    def __init__(self, collection: Collection, rules: KeyRules) -> None:
        self._marks = collection
        self._rules = rules

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
        mark = self._rules.admit(await self.get(), keys, knows_users=keys is not None and await self._knows_users())
        if mark is not None:
            await self.set(mark)

    @abstractmethod
    async def _knows_users(self) -> bool:
        """Say whether user ids are stored already."""
