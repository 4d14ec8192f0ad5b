"""Reading the settings of a service."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from tideline.errors import Misconfigured

_S = TypeVar("_S", bound=BaseSettings)


def configured(kind: type[_S]) -> _S:
    """Read the settings; raises `Misconfigured`, which says what is wrong with which, not what they are: secrets."""
    try:
        return kind()
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_context=False, include_input=False)
        said = "; ".join(f"{'.'.join(map(str, error['loc'])) or 'settings'}: {error['msg']}" for error in errors)
        raise Misconfigured(said) from None
    except SettingsError as unreadable:
        raise Misconfigured(str(unreadable)) from None
