"""Pseudonyms: what is stored in place of user ids, made with keys that only the services have.

    p1 = HMAC-SHA256(k1, user id),  p2 = HMAC-SHA256(k2, p1),  ...

written as `~ID~` and 43 characters of base64url, ID being that of the last key. What is stored under an older key is
carried on to the newest one without the id that it stands for, which nobody has any more; and whoever got hold of the
older keys can tell nothing from it. All keys are kept, in their order: the way from an id leads over each of them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import stat
from typing import TYPE_CHECKING, Final, Self

from tideline.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SHORTEST_KEY: Final = 32
"""In bytes: as long as what SHA-256 makes of it."""
MAX_ID_BYTES: Final = 512

_FORM: Final = re.compile(r"~([A-Za-z0-9._-]{1,32})~[A-Za-z0-9_-]{43}")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_NO_ID: Final = "\0what the keys of a database are recognised by"  # no id of a client has a NUL


class WrongUserKeys(Misconfigured):
    """The keys cannot be used, or not with this database."""


class UserKeys:
    """The keys that user ids become pseudonyms with, the newest one last."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        """Take at least one key with its id; all ids and all keys are distinct."""
        self._keys = tuple(keys)
        self._place = {key_id: place for place, (key_id, _) in enumerate(self._keys)}

    @classmethod
    def read(cls, path: Path, setting: str) -> Self:
        """Read a file of keys, `ID:BASE64` a line, and lines that begin with # left out; raises `WrongUserKeys`.

        `setting` is what names the file.
        """
        try:
            with path.open(encoding="ascii") as file:
                mode = os.fstat(file.fileno()).st_mode
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise WrongUserKeys(f"{setting}: the file cannot be read: {type(error).__name__}") from None
        if mode & stat.S_IRWXO:
            raise WrongUserKeys(f"{setting}: everybody on the machine may open the file; chmod o-rwx it")
        keys = [_key(line, f"{setting}, line {number}") for number, line in enumerate(lines, 1) if _is_key(line)]
        if not keys:
            raise WrongUserKeys(f"{setting}: the file has no key")
        if any(len({key[place] for key in keys}) < len(keys) for place in (0, 1)):
            raise WrongUserKeys(f"{setting}: the file has an id, or a key, twice")
        return cls(keys)

    @property
    def newest(self) -> str:
        """The id of the newest key."""
        return self._keys[-1][0]

    @property
    def check(self) -> str:
        """What these keys are recognised by, in this order; nothing can be told from it."""
        return self.pseudonym(_NO_ID)

    def up_to(self, key_id: str) -> UserKeys | None:
        """Return the keys up to one of them; None when it is not there."""
        place = self._place.get(key_id)
        return None if place is None else UserKeys(self._keys[: place + 1])

    def pseudonym(self, user_id: str) -> str:
        """Return what stands for a user under the newest key; nobody (the empty id) stays nobody.

        Takes an id, or a pseudonym under any of the keys: the newest one is taken as it is.
        """
        if not user_id:
            return user_id
        done = 0
        if user_id[0] == "~" and (found := _FORM.fullmatch(user_id)):
            done = self._place.get(found[1], -1) + 1
        for key_id, key in self._keys[done:]:
            digest = base64.urlsafe_b64encode(hmac.digest(key, user_id.encode(), "sha256"))
            user_id = f"~{key_id}~{digest[:-1].decode()}"
        return user_id

    def is_foreign(self, user_id: str) -> bool:
        """Whether this looks like a pseudonym under a key that is not there."""
        return user_id[:1] == "~" and (found := _FORM.fullmatch(user_id)) is not None and found[1] not in self._place


def is_pseudonym(user_id: str) -> bool:
    """Whether this looks like a pseudonym, under whatever key."""
    return user_id[:1] == "~" and _FORM.fullmatch(user_id) is not None


def _is_key(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _key(line: str, place: str) -> tuple[str, bytes]:
    key_id, colon, text = line.strip().partition(":")
    if not colon or not _KEY_ID.fullmatch(key_id):
        raise WrongUserKeys(f"{place}: has to be ID:BASE64, the id of 1 to 32 letters, digits, `.`, `_` and `-`")
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        # Without its cause, which may quote the key.
        raise WrongUserKeys(f"{place}: what follows the id is not base64") from None
    if len(key) < SHORTEST_KEY:
        raise WrongUserKeys(f"{place}: a key has at least {SHORTEST_KEY} bytes, in base64 {SHORTEST_KEY * 4 // 3 + 2}")
    return key_id, key
