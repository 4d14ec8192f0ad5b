"""The one command `tideline`; its sub-commands come from the services that are installed."""

from __future__ import annotations

import argparse
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command and return its exit code.

    A service adds its sub-commands through the entry point group `tideline.commands`: a function that takes a
    `Commands` and calls `add` on it.
    """
    parser = argparse.ArgumentParser(prog="tideline", description="A feedback loop for vector search.")
    parser.add_argument("--version", action="version", version=f"tideline {metadata.version('tideline')}")
    commands = Commands(parser)
    for entry_point in sorted(metadata.entry_points(group="tideline.commands"), key=lambda found: found.name):
        try:
            register = entry_point.load()
        except ModuleNotFoundError as missing:
            commands.missing(entry_point.name, missing)
        else:
            register(commands)
    arguments = parser.parse_args(argv)
    code: int = arguments.run(arguments)
    return code


class Commands:
    """The sub-commands of `tideline`: `tideline serve NAME`, and others by their own name."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._top = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        serve = self._top.add_parser("serve", help="run a service until SIGTERM")
        self._serve = serve.add_subparsers(title="services", metavar="SERVICE", required=True)

    def add(self, name: str, help: str) -> argparse.ArgumentParser:  # noqa: A002
        """Add a command; the caller sets `run`, a function of the parsed arguments that returns the exit code."""
        return self._top.add_parser(name, help=help, description=help)

    def add_service(self, name: str, help: str) -> argparse.ArgumentParser:  # noqa: A002
        """Add a service to `tideline serve`; the caller sets `run` as for `add`."""
        return self._serve.add_parser(name, help=help, description=help)

    def missing(self, name: str, error: ModuleNotFoundError) -> None:
        """List a service whose libraries are not installed, and say how to get them when it is called."""
        parser = self.add_service(name, f"(not installed: pip install 'tideline[{name}]')")
        parser.set_defaults(run=lambda _: parser.error(f"{error}; pip install 'tideline[{name}]'"))


if __name__ == "__main__":
    raise SystemExit(main())
