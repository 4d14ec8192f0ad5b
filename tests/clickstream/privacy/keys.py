"""Files of keys, and what they make of user ids."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from tideline.rpc.pseudonyms import UserKeys

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [(f"k{number}", bytes([number]) * 32) for number in range(1, 5)]


def keys_file(folder: Path, newest: int) -> Path:
    """A file with the keys up to k`newest`."""
    path = folder / f"user-keys-{newest}"
    lines = [f"{key_id}:{base64.b64encode(key).decode()}\n" for key_id, key in KEYS[:newest]]
    path.write_text("".join(lines))
    path.chmod(0o600)
    return path


def under(newest: int, user_id: str) -> str:
    """The pseudonym under the key k`newest`."""
    return UserKeys(KEYS[:newest]).pseudonym(user_id)
