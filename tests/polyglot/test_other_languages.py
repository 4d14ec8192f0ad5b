"""Clients in other languages, made from `protos/` alone, talk to both services."""

from __future__ import annotations

import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from deploy.local.stack import Stack
from tests.polyglot.languages import GOOGLEAPIS, LANGUAGES, PROTOS
from tideline.improvement.v1 import object_pb2, object_service_pb2, object_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo import MongoClient

COLLECTION = "camping"
TRANSCRIPT = """\
created {session}
streamed 1 1 EVENT_STATUS_ACCEPTED
streamed 2 1 EVENT_STATUS_DUPLICATE
got u1 1 click 5
found tent Tent
found stove Stove
refused 3 INVALID_FIELD tideline.dev session_id
"""
"""What every client says: a session created, an event streamed twice, the session read, a search, and a call with an
empty id refused with code 3 (INVALID_ARGUMENT), whose reason and field it has unpacked."""

# One stack for all languages where tests are shared out by group; else one for each process that has any of them.
pytestmark = pytest.mark.xdist_group("polyglot")


@pytest.fixture(scope="session")
def stack(
    mongo_uri: str, mongo_client: MongoClient[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Both services, with two objects to find."""
    database = f"test_{uuid.uuid4().hex[:12]}"
    with Stack(tmp_path_factory.mktemp("polyglot"), mongo_uri=mongo_uri, database=database) as running:
        _fill(running.improvement.address)
        yield running
    for name in mongo_client.list_database_names():
        if name.startswith(database):
            mongo_client.drop_database(name)


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_client_in_another_language_is_understood_and_understands(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    language = LANGUAGES[name]
    if reason := language.missing():
        pytest.skip(reason)
    command = language.build(tmp_path)
    stack: Stack = request.getfixturevalue("stack")
    session = f"from-{name}"
    said = subprocess.run(
        [*command, stack.clickstream.address, stack.improvement.address, COLLECTION, session, PROTOS, GOOGLEAPIS],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout == TRANSCRIPT.format(session=session)


def _fill(address: str) -> None:
    objects = [
        object_pb2.Object(object_id=name.lower(), parts=[object_pb2.Part(vector=vector)], payload=_titled(name))
        for name, vector in (("Tent", (1.0, 0.0)), ("Stove", (0.8, 0.6)))
    ]
    collection = object_pb2.Collection(name=COLLECTION, dimension=2, metric=object_pb2.METRIC_COSINE)
    with grpc.insecure_channel(address) as channel:
        stub = object_service_pb2_grpc.ObjectServiceStub(channel)
        stub.CreateCollection(object_service_pb2.CreateCollectionRequest(collection=collection))
        stub.UpsertObjects(iter([object_service_pb2.UpsertObjectsRequest(collection=COLLECTION, objects=objects)]))


def _titled(title: str) -> Struct:
    payload = Struct()
    payload.update({"title": title})
    return payload
