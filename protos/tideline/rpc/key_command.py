"""`tideline key create`: a new API key."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from tideline.cli import Commands
    from tideline.rpc.api_keys import ApiKey


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("key", "make API keys")
    create = parser.add_subparsers(title="commands", metavar="COMMAND", required=True).add_parser(
        "create",
        help="add a key to a file, and print it",
        description="Add a key to a file, which keeps a hash of it, and print the key, this once. It is revoked by "
        "removing its line: `tl_ID_...` is the line that begins with ID.",
    )
    create.add_argument("--name", required=True, help="whose it is")
    create.add_argument(
        "--role", required=True, action="append", dest="roles", choices=["client", "internal", "admin"],
        help="what it may do; may be repeated",
    )  # fmt: skip
    create.add_argument("--tenant", default="", help="whose data it is for, where data are kept apart")
    create.add_argument("--file", required=True, type=Path, help="the file that services are given as AUTH_KEYS_FILE")
    create.set_defaults(run=_create)


def _create(arguments: argparse.Namespace) -> int:
    """Print a new key and nothing else. 1 when it cannot be, and then the file is as it was."""
    from tideline.errors import Misconfigured  # noqa: PLC0415

    try:
        from tideline.rpc import api_keys  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        print(f"tideline key create: {missing}; pip install 'tideline[serve]'", file=sys.stderr)  # noqa: T201
        return 1
    try:
        shown, key = api_keys.create(arguments.name, frozenset(arguments.roles), arguments.tenant)
        _append(arguments.file, key)
    except Misconfigured as bad:
        print(f"tideline key create: {bad}", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as error:
        print(f"tideline key create: {arguments.file}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    print(shown)  # noqa: T201
    return 0


def _append(file: Path, key: ApiKey) -> None:
    """Add a line in one write, so that a service that reads at this moment sees all of it or none."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as opened:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        held = opened.read()
        opened.write((b"" if not held or held.endswith(b"\n") else b"\n") + key.line().encode())
