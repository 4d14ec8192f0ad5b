"""`tideline export-log`: all searches and interactions that count, as `tideline import tideline` reads them."""

from __future__ import annotations

import gzip
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tideline.rpc import flags

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import grpc

    from tideline.cli import Commands

SESSIONS_A_PAGE: Final = 1_000


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("export-log", "write all searches and interactions that count, to be imported elsewhere")
    parser.add_argument("file", type=Path, help="where to write to, as jsonl; compressed when it ends in .gz")
    parser.add_argument("--address", default="127.0.0.1:50051", help="the clickstream service (default: %(default)s)")
    flags.add_access(parser)
    parser.add_argument("--since", type=_time, metavar="TIME", help="only what happened from this time on")
    parser.add_argument("--before", type=_time, metavar="TIME", help="only what happened before this time")
    parser.set_defaults(run=_run)


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _run(arguments: argparse.Namespace) -> int:
    """Export to a file, which is there once it is complete. 1 when that failed."""
    import grpc  # noqa: PLC0415 - other commands start without it

    from tideline.rpc.channels import Access  # noqa: PLC0415
    from tideline.rpc.server import OPTIONS  # noqa: PLC0415

    file: Path = arguments.file
    partial = file.with_name(file.name + ".partial")
    counts = {"session": 0, "interaction": 0}
    try:
        with (
            Access.of(arguments).channel(arguments.address, OPTIONS) as channel,
            gzip.open(partial, "wt", encoding="utf-8")
            if file.suffix == ".gz"
            else partial.open("w", encoding="utf-8") as out,
        ):
            for kind, document in _documents(channel, arguments.since, arguments.before):
                out.write(json.dumps({kind: document}, ensure_ascii=False) + "\n")
                counts[kind] += 1
        partial.replace(file)
    except (grpc.RpcError, OSError) as error:
        partial.unlink(missing_ok=True)
        said = error.code().name if isinstance(error, grpc.Call) else str(error)
        print(f"{file}: {said}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{file.name}: {counts['session']:,} sessions, {counts['interaction']:,} interactions")  # noqa: T201
    return 0


def _documents(
    channel: grpc.Channel, since: datetime | None, before: datetime | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all sessions, and then all interactions, without what the server assigned to them."""
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415

    from tideline.clickstream.v1 import interaction_pb2, session_service_pb2  # noqa: PLC0415
    from tideline.clickstream.v1.interaction_service_pb2 import ExportInteractionsRequest  # noqa: PLC0415
    from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceStub  # noqa: PLC0415
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub  # noqa: PLC0415

    request = session_service_pb2.ListSessionsRequest(irrelevant=False, page_size=SESSIONS_A_PAGE)
    match = interaction_pb2.InteractionMatch()
    if since is not None:
        request.created_from.FromDatetime(since)
        match.occurred_from.FromDatetime(since)
    if before is not None:
        request.created_before.FromDatetime(before)
        match.occurred_before.FromDatetime(before)
    sessions = SessionServiceStub(channel)
    while True:
        page = sessions.ListSessions(request)
        for session in page.sessions:
            session.ClearField("batch_id")
            session.ClearField("session_number")
            yield "session", MessageToDict(session)
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    which = interaction_pb2.InteractionFilter(match=match)
    for part in InteractionServiceStub(channel).ExportInteractions(ExportInteractionsRequest(filter=which)):
        for interaction in part.interactions:
            interaction.ClearField("flags")
            yield "interaction", MessageToDict(interaction)
