"""Names of tenants."""

from __future__ import annotations

import re
from typing import Final

_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def is_tenant(name: str) -> bool:
    """Whether a tenant may be called so: up to 32 lower-case letters, digits and `-`, which does not come first."""
    return _TENANT.fullmatch(name) is not None
