"""`tideline rebuild`: make everything in Milvus again, from a file of originals and what MongoDB has."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from improvement_service.commands import objects
from tideline.rpc import flags

if TYPE_CHECKING:
    import argparse

    from tideline.cli import Commands

RUNS: Final = 10
"""A user whose copies could not be made is tried again by so many runs, at most."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("rebuild", "make all vectors in Milvus again: originals of a file, and copies of every user")
    parser.add_argument(
        "--originals", type=Path, help="a file of `tideline objects export`; replaces what is there under the same ids"
    )
    parser.add_argument("--address", default="127.0.0.1:50052", help="the improvement service (default: %(default)s)")
    parser.add_argument(
        "--clickstream", default="127.0.0.1:50051", help="the clickstream service (default: %(default)s)"
    )
    flags.add_access(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Rebuild; it can be repeated. 1 when a service does not answer, or users are left that could not be learned."""
    if arguments.originals is not None:
        code = objects.calling(arguments, "tideline rebuild", lambda stub: objects.bring_in(stub, arguments.originals))
        if code:
            return code
    import grpc  # noqa: PLC0415 - other commands start without it

    from tideline.rpc.channels import Access  # noqa: PLC0415

    try:
        access = Access.of(arguments)
        with access.channel(arguments.clickstream) as clickstream, access.channel(arguments.address) as improvement:
            users, left = _learn_anew(clickstream, improvement)
    except grpc.RpcError as error:
        print(f"tideline rebuild: {error.details()}", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as error:
        print(f"tideline rebuild: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"users         {users}\nleft          {left}")  # noqa: T201
    return 1 if left else 0


def _learn_anew(clickstream: Any, improvement: Any) -> tuple[int, int]:
    """Queue everybody and run until nobody waits; returns how many users there are, and how many still wait."""
    from tideline.clickstream.v1 import feedback_service_pb2, feedback_service_pb2_grpc  # noqa: PLC0415
    from tideline.improvement.v1 import improvement_service_pb2 as pb  # noqa: PLC0415
    from tideline.improvement.v1 import improvement_service_pb2_grpc  # noqa: PLC0415

    feedback = feedback_service_pb2_grpc.FeedbackServiceStub(clickstream)
    runs = improvement_service_pb2_grpc.ImprovementServiceStub(improvement)
    users = feedback.RequeueUsers(feedback_service_pb2.RequeueUsersRequest(everybody=True)).requeued
    left = users
    for _ in range(RUNS):
        run = runs.RunImprovement(pb.RunImprovementRequest()).run
        for state in runs.WatchRun(pb.WatchRunRequest(run_id=run.run_id)):
            run = state.run
        left = feedback.GetFeedbackCounts(feedback_service_pb2.GetFeedbackCountsRequest()).pending_users
        if not left or not run.users.leased:
            break
    return users, left
