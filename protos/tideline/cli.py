"""The one command `tideline`; its sub-commands come from the services that are installed."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any, NoReturn

from tideline.errors import DependencyUnavailable, Misconfigured
from tideline.rpc import key_command

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    Work = Coroutine[Any, Any, None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command and return its exit code.

    A service adds its sub-commands through the entry point group `tideline.commands`: a function that takes a
    `Commands` and calls `add` on it.
    """
    # The core of gRPC would write to standard error in a format of its own; asked before it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if argv is None:
        # As the first process of a container it would ignore it, and be waited for, until a service handles it.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = _Parser(prog="tideline", description="A feedback loop for vector search.")
    parser.add_argument("--version", action="version", version=f"tideline {metadata.version('tideline')}")
    commands = Commands(parser)
    key_command.register(commands)
    for entry_point in sorted(metadata.entry_points(group="tideline.commands"), key=lambda found: found.name):
        try:
            register = entry_point.load()
        except ModuleNotFoundError as missing:
            commands.missing(entry_point.name, missing)
        else:
            register(commands)
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except ModuleNotFoundError as missing:
        extras = "'tideline[clickstream]' or 'tideline[improvement]', whichever it is about"
        print(f"tideline: {missing}; pip install {extras}", file=sys.stderr)  # noqa: T201
        return 1
    return code


class _Parser(argparse.ArgumentParser):
    """Says at the end of its help, and of what it does not know, what it would know if more were installed."""

    def error(self, message: str) -> NoReturn:
        super().error(f"{message}\n{self.epilog}" if self.epilog else message)


class Commands:
    """The sub-commands of `tideline`: `tideline serve NAME`, and others by their own name."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._top = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        serve = self._top.add_parser("serve", help="run a service until SIGTERM")
        self._serve = serve.add_subparsers(title="services", metavar="SERVICE", required=True)
        about = "bring the data of a service up to date with this release; services run or not"
        migrate = self._top.add_parser("migrate", help=about, description=about)
        self._migrate = migrate.add_subparsers(title="databases", metavar="SERVICE", required=True)
        about = "bring the user ids in a database under the newest key, while the service is stopped"
        rekey = self._top.add_parser("rekey", help=about, description=about)
        self._rekey = rekey.add_subparsers(title="databases", metavar="SERVICE", required=True)
        self._incomplete = (parser, migrate, rekey)

    def add_migration(self, name: str, help: str, migrate: Callable[[argparse.Namespace], Work]) -> None:  # noqa: A002
        """Add a service to `tideline migrate`; `migrate` is given the arguments: `repeat`."""
        parser = self._migrate.add_parser(name, help=help, description=help)
        parser.add_argument(
            "--repeat",
            action="store_true",
            help="go over everything again, once no replica of the release before is left that may have written since",
        )
        parser.set_defaults(run=lambda arguments: done("migrate", migrate(arguments)))

    def add(self, name: str, help: str) -> argparse.ArgumentParser:  # noqa: A002
        """Add a command; the caller sets `run`, a function of the parsed arguments that returns the exit code."""
        return self._top.add_parser(name, help=help, description=help)

    def add_service(self, name: str, help: str) -> argparse.ArgumentParser:  # noqa: A002
        """Add a service to `tideline serve`; the caller sets `run` as for `add`."""
        parser = self._serve.add_parser(name, help=help, description=help)
        parser.add_argument(
            "--insecure",
            action="store_true",
            help="serve other machines although there is no TLS, or callers need not say who they are",
        )
        return parser

    def add_rekeying(self, name: str, help: str, rekey: Callable[[], Work]) -> None:  # noqa: A002
        """Add the database of a service to `tideline rekey`."""
        parser = self._rekey.add_parser(name, help=help, description=help)
        parser.set_defaults(run=lambda _: done("rekey", rekey()))

    def missing(self, name: str, error: ModuleNotFoundError) -> None:
        """List a service whose libraries are not installed, and say how to get them, and its commands."""
        for incomplete in self._incomplete:
            incomplete.epilog = f"The commands of the {name} service come with: pip install 'tideline[{name}]'"
        parser = self.add_service(name, f"(not installed: pip install 'tideline[{name}]')")
        parser.set_defaults(run=lambda _: parser.error(f"{error}; pip install 'tideline[{name}]'"))


def done(command: str, work: Work) -> int:
    """Wait for it; 1 when a database does not answer, or the settings do not go with it. Calling again goes on."""
    try:
        asyncio.run(work)
    except (DependencyUnavailable, Misconfigured) as failure:
        print(f"tideline {command}: {failure}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
