"""Flags of commands that call a service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_FLAGS: Final[tuple[tuple[str, Callable[[str], Any], str], ...]] = (
    ("ca-file", str, "CA certificates to know the service by, or `system`"),
    ("cert-file", Path, "one's own certificate, for a service that asks for one"),
    ("key-file", Path, "the key of that certificate"),
    ("token-file", Path, "the API key or token to call with"),
)


def add_access(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to reach a service; each flag is a variable of the environment, too. `Access.of` reads them."""
    for name, kind, said in _FLAGS:
        variable = f"TIDELINE_{name.replace('-', '_').upper()}"
        default = os.environ.get(variable) or ("" if kind is str else None)
        # argparse makes a default that is a text what the flag would be.
        parser.add_argument(f"--{name}", type=kind, metavar="FILE", default=default, help=f"{said} ({variable})")
