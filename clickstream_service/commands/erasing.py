"""`tideline erase`: forget a user, and print the receipt."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from tideline.rpc import flags

if TYPE_CHECKING:
    import argparse

    from tideline.cli import Commands

PAUSE_S: Final = 0.5


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("erase", "erase all that is known of a user, and print the receipt")
    parser.add_argument("user", metavar="USER", help="the user's id")
    parser.add_argument("--address", default="127.0.0.1:50051", help="the clickstream service (default: %(default)s)")
    flags.add_access(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Erase a user and wait until that is done; when it is broken off, the service finishes by itself. 1 on failure."""
    import grpc  # noqa: PLC0415 - other commands start without it

    from tideline.clickstream.v1 import privacy_service_pb2, privacy_service_pb2_grpc  # noqa: PLC0415
    from tideline.rpc.channels import Access  # noqa: PLC0415

    request = privacy_service_pb2.EraseUserRequest(user_id=arguments.user)
    try:
        connection = Access.of(arguments).channel(arguments.address)
    except OSError as error:
        print(f"tideline erase: {error}", file=sys.stderr)  # noqa: T201
        return 1
    with connection as channel:
        erase = privacy_service_pb2_grpc.PrivacyServiceStub(channel).EraseUser
        try:
            receipt = erase(request).receipt
            if receipt.state != privacy_service_pb2.ERASURE_STATE_FINISHED:
                print("under way; the service goes on by itself, whether or not this waits", file=sys.stderr)  # noqa: T201
            while receipt.state != privacy_service_pb2.ERASURE_STATE_FINISHED:
                time.sleep(PAUSE_S)
                receipt = erase(request).receipt
        except grpc.RpcError as error:
            print(f"tideline erase: {error.details()}", file=sys.stderr)  # noqa: T201
            return 1
        except KeyboardInterrupt:
            print("tideline erase: the service goes on by itself", file=sys.stderr)  # noqa: T201
            return 130
    lines = {
        "erasure": receipt.erasure_id,
        "requested": receipt.requested_at.ToJsonString(),
        "finished": receipt.finished_at.ToJsonString(),
        **{kind: str(count) for kind, count in sorted(receipt.erased.items())},
    }
    for name, value in lines.items():
        print(f"{name:14}{value}")  # noqa: T201
    return 0
