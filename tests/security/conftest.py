from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.security.certificates import Authority
from tideline.rpc import api_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.touch()
    return file


@pytest.fixture
def new_key(keys_file: Path) -> Callable[..., str]:
    """Makes a key with roles, and puts its line into the file."""

    def make(*roles: str, name: str = "somebody", tenant: str = "") -> str:
        shown, key = api_keys.create(name, frozenset(roles), tenant)
        with keys_file.open("a") as file:
            file.write(key.line())
        return shown

    return make
