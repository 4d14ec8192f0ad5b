"""`tideline import`: what another system has logged, into the clickstream service."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tideline.rpc import flags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clickstream_service.importers.checkpoint import Progress
    from clickstream_service.importers.items import Importer, Item, Rejected
    from clickstream_service.importers.source import Source
    from tideline.cli import Commands

FORMATS: Final = ("ubi", "metarank", "personalize", "tideline")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("import", "record what another system has logged")
    parser.add_argument("format", choices=FORMATS, help="what the file holds")
    parser.add_argument("file", type=Path, help="the file; .gz is read as it is")
    parser.add_argument("--address", default="127.0.0.1:50051", help="the clickstream service (default: %(default)s)")
    flags.add_access(parser)
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        type=_pair,
        metavar="NAME=TYPE",
        dest="types",
        help="what the file calls NAME is an interaction of type TYPE; may be repeated",
    )
    parser.add_argument("--checkpoint", type=Path, help="where to keep how far it got (default: FILE.checkpoint)")
    parser.add_argument("--rejected", type=Path, help="where to keep bad lines (default: FILE.rejected)")
    parser.add_argument("--allow-rejected", action="store_true", help="exit with 0 although there are bad lines")
    parser.set_defaults(run=_run)


def _pair(text: str) -> tuple[str, str]:
    name, equals, of = text.partition("=")
    if not (name and equals and of):
        raise argparse.ArgumentTypeError("has to be NAME=TYPE")
    return name, of


def _run(arguments: argparse.Namespace) -> int:
    """Import a file; the same command goes on with what was broken off. 1 when it failed, or lines were rejected."""
    import grpc  # noqa: PLC0415 - other commands start without it

    from clickstream_service.importers.items import BadLine  # noqa: PLC0415

    file: Path = arguments.file
    try:
        progress, rejected = _import(arguments)
    except KeyboardInterrupt:
        print(f"{file}: interrupted; run it again to go on", file=sys.stderr)  # noqa: T201
        return 130
    except grpc.RpcError as error:
        code = error.code().name if isinstance(error, grpc.Call) else type(error).__name__
        print(f"{file}: the service failed with {code}; run it again to go on", file=sys.stderr)  # noqa: T201
        return 1
    except (OSError, EOFError, BadLine) as error:
        print(f"{file}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print("\n".join(_summary(file, progress, rejected)))  # noqa: T201
    return 1 if progress.rejected and not arguments.allow_rejected else 0


def _import(arguments: argparse.Namespace) -> tuple[Progress, Path]:
    from clickstream_service.importers.checkpoint import Checkpoint  # noqa: PLC0415
    from clickstream_service.importers.sending import Sender  # noqa: PLC0415
    from clickstream_service.importers.source import Source  # noqa: PLC0415
    from tideline.rpc.channels import Access  # noqa: PLC0415
    from tideline.rpc.server import OPTIONS  # noqa: PLC0415

    source = Source(arguments.file)
    job = json.dumps([arguments.format, arguments.address, sorted(arguments.types), source.fingerprint()])
    checkpoint = Checkpoint(
        arguments.checkpoint or _beside(arguments.file, ".checkpoint"), hashlib.sha256(job.encode()).hexdigest()
    )
    progress = checkpoint.load()
    kept = _Kept(arguments.rejected or _beside(arguments.file, ".rejected"), progress)
    importer = _importer(arguments.format, dict(arguments.types))

    def dealt_with() -> None:
        kept.flush()
        checkpoint.save(progress)

    with (
        contextlib.closing(kept),
        Access.of(arguments).channel(arguments.address, OPTIONS) as channel,
        _shown(source, progress) as watched,
    ):
        items = itertools.islice(importer.read(source), progress.done, None)
        Sender(channel, progress, kept.add, dealt_with).send(watched(items))
    checkpoint.remove()
    return progress, kept.path


def _importer(name: str, own_names: dict[str, str]) -> Importer:
    from clickstream_service.importers.metarank import Metarank  # noqa: PLC0415
    from clickstream_service.importers.names import Names  # noqa: PLC0415
    from clickstream_service.importers.own import Own  # noqa: PLC0415
    from clickstream_service.importers.personalize import Personalize  # noqa: PLC0415
    from clickstream_service.importers.ubi import Ubi  # noqa: PLC0415

    formats: dict[str, Callable[[Names], Importer]] = {
        "ubi": Ubi,
        "metarank": Metarank,
        "personalize": Personalize,
        "tideline": Own,
    }
    return formats[name](Names(own_names))


class _Kept:
    """The file of rejected lines, one JSON object each; nothing is left behind when there are none."""

    def __init__(self, path: Path, progress: Progress) -> None:
        """Go on where `progress` says that the file ended: what a run wrote after that is written again."""
        self.path = path
        self._progress = progress
        self._file = path.open("ab")
        self._file.truncate(progress.rejected_bytes)

    def add(self, rejected: Rejected) -> None:
        line = {"line": rejected.line, "reason": rejected.reason, "text": rejected.text}
        self._file.write(json.dumps(line, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")

    def flush(self) -> None:
        self._file.flush()
        self._progress.rejected_bytes = self._file.tell()

    def close(self) -> None:
        self._file.close()
        if self.path.stat().st_size == 0:
            self.path.unlink()


@contextlib.contextmanager
def _shown(source: Source, progress: Progress) -> Iterator[Callable[[Iterable[Item]], Iterator[Item]]]:
    """Show how much of the file is read; yields what the items have to go through."""
    import rich.progress as show  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    bar = show.Progress(
        show.TextColumn("{task.description}"),
        show.BarColumn(),
        show.TaskProgressColumn(),
        show.TimeRemainingColumn(),
        show.TextColumn("{task.fields[recorded]:,} recorded, {task.fields[rejected]:,} rejected"),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(source.path.name, total=source.size, recorded=0, rejected=0)

        def watched(items: Iterable[Item]) -> Iterator[Item]:
            for number, item in enumerate(items):
                if number % 1_000 == 0:
                    recorded = progress.sessions_recorded + progress.interactions_recorded
                    bar.update(task, completed=source.position, recorded=recorded, rejected=progress.rejected)
                yield item

        yield watched


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _summary(file: Path, progress: Progress, rejected: Path) -> Iterator[str]:
    yield f"{file.name}:"
    yield f"  {progress.sessions_recorded:,} sessions recorded, {progress.sessions_known:,} were there"
    yield f"  {progress.interactions_recorded:,} interactions recorded, {progress.interactions_known:,} were there"
    if progress.standing_alone:
        yield f"  {progress.standing_alone:,} of these stand alone: their search is not there"
    for what, count in sorted(progress.passed_over.items()):
        yield f"  {count:,} {what}"
    yield f"  {progress.rejected:,} rejected" + (f", see {rejected}" if progress.rejected else "")
