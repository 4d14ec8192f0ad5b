"""`tideline objects export|import`: the originals of all collections, as JSON lines."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from tideline.rpc import flags

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from tideline.cli import Commands
    from tideline.improvement.v1.object_service_pb2_grpc import ObjectServiceStub

A_CALL: Final = 500
"""How many objects are sent in one call."""


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add("objects", "export all collections with their objects to a file, or import such a file")
    parser.add_argument("direction", choices=["export", "import"])
    parser.add_argument("file", type=Path, help="JSON lines; compressed when the name ends in .gz")
    parser.add_argument("--address", default="127.0.0.1:50052", help="the improvement service (default: %(default)s)")
    flags.add_access(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Move objects. An import can be repeated. 1 when the service, or the file, cannot be read."""
    work: Callable[[ObjectServiceStub, Path], int] = export if arguments.direction == "export" else bring_in
    return calling(arguments, f"tideline objects {arguments.direction}", lambda stub: work(stub, arguments.file))


def calling(arguments: argparse.Namespace, name: str, work: Callable[[ObjectServiceStub], int]) -> int:
    """Call the service at `arguments.address`, and say how many objects that was about."""
    import grpc  # noqa: PLC0415 - other commands start without it

    from tideline.improvement.v1.object_service_pb2_grpc import ObjectServiceStub  # noqa: PLC0415
    from tideline.rpc.channels import Access  # noqa: PLC0415

    try:
        with Access.of(arguments).channel(arguments.address) as channel:
            count = work(ObjectServiceStub(channel))
    except grpc.RpcError as error:
        print(f"{name}: {error.details()}", file=sys.stderr)  # noqa: T201
        return 1
    except (OSError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"objects       {count}")  # noqa: T201
    return 0


def export(stub: ObjectServiceStub, file: Path) -> int:
    """Write each collection, a line, followed by its objects, a line each; returns how many objects.

    The file is there once it is whole.
    """
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415

    from tideline.improvement.v1 import object_service_pb2 as pb  # noqa: PLC0415

    partial, count = file.with_name(f"{file.name}.partial"), 0
    with _opened(partial, "wt", like=file) as lines:
        for collection in _collections(stub):
            lines.write(_line("collection", MessageToDict(collection)))
            for answer in stub.ExportObjects(pb.ExportObjectsRequest(collection=collection.name)):
                for one in answer.objects:
                    lines.write(_line("object", MessageToDict(one)))
                    count += 1
    partial.replace(file)
    return count


def bring_in(stub: ObjectServiceStub, file: Path) -> int:
    """Create the collections of a file, in Milvus too where it lost them, and add their objects; returns how many."""
    from google.protobuf.json_format import ParseDict  # noqa: PLC0415

    from tideline.improvement.v1 import object_pb2  # noqa: PLC0415
    from tideline.improvement.v1 import object_service_pb2 as pb  # noqa: PLC0415

    name, count = "", 0
    objects: list[object_pb2.Object] = []

    def send() -> None:
        if objects:
            stub.UpsertObjects(iter([pb.UpsertObjectsRequest(collection=name, objects=objects)]))
            objects.clear()

    with _opened(file, "rt", like=file) as lines:
        for line in lines:
            [(kind, content)] = json.loads(line).items()
            if kind == "collection":
                send()
                collection = ParseDict(content, object_pb2.Collection())
                collection.ClearField("created_at")
                name = stub.CreateCollection(pb.CreateCollectionRequest(collection=collection)).collection.name
            else:
                objects.append(ParseDict(content, object_pb2.Object()))
                count += 1
                if len(objects) == A_CALL:
                    send()
    send()
    return count


def _collections(stub: ObjectServiceStub) -> Iterator[Any]:
    from tideline.improvement.v1 import object_service_pb2 as pb  # noqa: PLC0415

    token = ""
    while True:
        page = stub.ListCollections(pb.ListCollectionsRequest(page_token=token))
        yield from page.collections
        token = page.next_page_token
        if not token:
            return


def _line(kind: str, content: dict[str, Any]) -> str:
    return json.dumps({kind: content}, ensure_ascii=False, separators=(",", ":")) + "\n"


def _opened(file: Path, mode: str, *, like: Path) -> IO[Any]:
    # The caller closes it.
    opened: Any = gzip.open if like.suffix == ".gz" else Path.open
    file_like: IO[Any] = opened(file, mode, encoding="utf-8")
    return file_like
