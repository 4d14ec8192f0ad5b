"""`tideline export`: training data and interactions as files, in flat memory however many there are."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tideline.rpc import flags

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import grpc

    from clickstream_service.commands.export_rows import Row
    from tideline.cli import Commands

KINDS: Final = ("training-pairs", "fine-tuning-inputs", "interactions")
SPLITS: Final = ("user", "query")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("export", "write training data or interactions to a file")
    parser.add_argument("kind", choices=KINDS, help="what to export")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write to")
    parser.add_argument("--format", choices=("parquet", "jsonl"), default="parquet", help="default: %(default)s")
    parser.add_argument("--address", default="127.0.0.1:50051", help="the clickstream service (default: %(default)s)")
    flags.add_access(parser)
    parser.add_argument("--since", type=_time, metavar="TIME", help="only what happened from this time on")
    parser.add_argument("--before", type=_time, metavar="TIME", help="only what happened before this time")
    parser.add_argument("--type", action="append", default=[], dest="types", help="only these types; may be repeated")
    parser.add_argument("--surface", action="append", default=[], dest="surfaces", help="pairs: only these surfaces")
    parser.add_argument("--min-interactions", type=int, default=0, metavar="N", help="pairs: with at least so many")
    parser.add_argument("--max-negatives", type=int, default=0, metavar="N", help="pairs: with so many at most")
    parser.add_argument("--snapshot", default="", metavar="ID", help="pairs: as this snapshot chose")
    parser.add_argument("--split", choices=SPLITS, help="pairs: what must not be in two parts")
    parser.add_argument(
        "--fractions", type=_fractions, default=[], metavar="A,B,...", help="pairs: how large the parts are"
    )
    parser.add_argument("--part", type=int, default=0, metavar="N", help="pairs: which part, counted from 0")
    parser.add_argument("--batch", default="", metavar="ID", help="inputs: only sessions of this batch")
    parser.set_defaults(run=_run)


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _fractions(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]


def _run(arguments: argparse.Namespace) -> int:
    """Export to a file, which is there once it is complete. 1 when that failed."""
    import grpc  # noqa: PLC0415 - other commands start without it

    from clickstream_service.commands import export_rows  # noqa: PLC0415
    from clickstream_service.commands.export_files import JsonLines, MissingLibrary, Parquet  # noqa: PLC0415
    from tideline.rpc.channels import Access  # noqa: PLC0415
    from tideline.rpc.server import OPTIONS  # noqa: PLC0415

    out: Path = arguments.out
    partial = out.with_name(out.name + ".partial")
    try:
        writer = JsonLines if arguments.format == "jsonl" else Parquet
        with (
            Access.of(arguments).channel(arguments.address, OPTIONS) as channel,
            writer(partial, export_rows.COLUMNS[arguments.kind]) as file,
        ):
            for rows, nbytes in _rows(channel, arguments):
                file.write(rows, nbytes)
        partial.replace(out)
    except (grpc.RpcError, OSError, MissingLibrary) as error:
        partial.unlink(missing_ok=True)
        said = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
        print(f"export failed: {said}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{file.rows} {arguments.kind} in {out}", file=sys.stderr)  # noqa: T201
    return 0


def _rows(channel: grpc.Channel, arguments: argparse.Namespace) -> Iterator[tuple[list[Row], int]]:
    """Yield the rows of one message after the other, and how large it is."""
    from clickstream_service.commands import export_requests, export_rows  # noqa: PLC0415
    from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceStub  # noqa: PLC0415
    from tideline.clickstream.v1.training_service_pb2_grpc import TrainingServiceStub  # noqa: PLC0415

    if arguments.kind == "training-pairs":
        for pairs in TrainingServiceStub(channel).ExportTrainingPairs(export_requests.pairs(arguments)):
            yield list(map(export_rows.of_pair, pairs.pairs)), pairs.ByteSize()
    elif arguments.kind == "fine-tuning-inputs":
        for inputs in TrainingServiceStub(channel).ExportFineTuningInputs(export_requests.inputs(arguments)):
            yield list(map(export_rows.of_input, inputs.inputs)), inputs.ByteSize()
    else:
        stub = InteractionServiceStub(channel)
        for interactions in stub.ExportInteractions(export_requests.interactions(arguments)):
            yield list(map(export_rows.of_interaction, interactions.interactions)), interactions.ByteSize()
