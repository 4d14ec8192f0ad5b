"""What a database says about the keys that its user ids are pseudonyms under.

A service works with a database only if it has the same keys: with others it would take every user for a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tideline.rpc.pseudonyms import WrongUserKeys

if TYPE_CHECKING:
    from tideline.rpc.pseudonyms import UserKeys


@dataclass(frozen=True, slots=True)
class KeyMark:
    """All user ids are pseudonyms under the key with the id `newest`, or are becoming so while it is `rekeying`.

    `check` is what the keys up to it are recognised by.
    """

    newest: str
    check: str
    rekeying: bool = False


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What to tell whoever runs a service."""

    setting: str
    command: str

    def admit(self, mark: KeyMark | None, keys: UserKeys | None, *, knows_users: bool) -> KeyMark | None:
        """Return the mark to set on a database before a service works with it; None when it is to stay as it is.

        Raises `WrongUserKeys` when these keys, or none, do not go with it.
        """
        if mark is None:
            if keys is None:
                return None
            if knows_users:
                raise WrongUserKeys(
                    f"{self.setting}: the database has user ids from before it was set; "
                    f"stop the service and run `{self.command}`"
                )
            return KeyMark(keys.newest, keys.check)
        self._recognise(mark, keys)
        if mark.rekeying:
            raise WrongUserKeys(f"{self.setting}: a change of keys was not finished; run `{self.command}`")
        if keys is not None and keys.newest != mark.newest:
            raise WrongUserKeys(
                f"{self.setting}: the user ids of the database are under an older key; "
                f"stop the service and run `{self.command}`"
            )
        return None

    def rekeying(self, mark: KeyMark | None, keys: UserKeys) -> tuple[KeyMark, KeyMark]:
        """Return the marks of a database while its user ids are brought under the newest key, and after that.

        Raises `WrongUserKeys` when they are not under one of these keys.
        """
        if mark is not None:
            self._recognise(mark, keys)
        return KeyMark(keys.newest, keys.check, rekeying=True), KeyMark(keys.newest, keys.check)

    def _recognise(self, mark: KeyMark, keys: UserKeys | None) -> None:
        if keys is None:
            raise WrongUserKeys(f"{self.setting} is not set, but the user ids of the database are pseudonyms")
        known = keys.up_to(mark.newest)
        if known is None:
            raise WrongUserKeys(f"{self.setting}: the file lacks the key that the user ids of the database are under")
        if known.check != mark.check:
            raise WrongUserKeys(
                f"{self.setting}: the file has other keys than the user ids of the database were made with, "
                "or has them in another order"
            )
