"""Tenants share databases' servers and nothing else: whoever belongs to one sees and changes nothing of another."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

import clickstream_service
import clickstream_service.app
import clickstream_service.config
import improvement_service
import improvement_service.app
import improvement_service.config
from tests.security.guarded import METHODS, SCHEDULE, channel_to, guarded, reason
from tests.security.test_tokens import KEYS, token
from tests.security.test_tokens import settings as believing
from tideline.clickstream.v1 import batch_service_pb2 as batch_pb
from tideline.clickstream.v1 import interaction_service_pb2 as interaction_pb
from tideline.clickstream.v1 import session_service_pb2 as session_pb
from tideline.improvement.v1 import improvement_service_pb2 as improvement_pb
from tideline.improvement.v1 import object_pb2, object_service_pb2
from tideline.improvement.v1 import search_service_pb2 as search_pb
from tideline.rpc.validation import first_violation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message
    from pymongo import MongoClient

KNOWN = "what only the first tenant knows"


async def test_every_rpc_refuses_whoever_belongs_to_another_tenant(
    keys_file: Path, new_key: Callable[..., str]
) -> None:
    everything = ("client", "internal", "admin")
    keys = {tenant: new_key(*everything, tenant=tenant) for tenant in ("", "ours", "theirs")}
    for served in ("", "ours"):
        async with guarded(auth_keys_file=keys_file, tenant=served) as server, channel_to(server) as channel:
            for method in METHODS:
                answers = {tenant: await reason(channel, method, key) for tenant, key in keys.items()}
                assert answers == {tenant: "" if tenant == served else "PERMISSION_DENIED" for tenant in keys}, method
            assert {caller.tenant for caller in server.callers} <= {served}


async def test_a_token_says_whose_tenant_its_bearer_is(tmp_path: Path) -> None:
    (tmp_path / "jwks").write_text(json.dumps(KEYS))
    chosen = believing(tmp_path / "jwks", tenant="ours", auth_jwt_tenant_claim="org.id")
    async with guarded(**chosen) as server, channel_to(server) as channel:
        assert await reason(channel, SCHEDULE, token(roles=["internal"], org={"id": "ours"})) == ""
        for other in ({"id": "theirs"}, {}, {"id": ""}, None):
            assert await reason(channel, SCHEDULE, token(roles=["internal"], org=other)) == "PERMISSION_DENIED"
        for odd in ({"id": 7}, {"id": ["ours"]}, {"id": "OURS"}, {"id": "ours\n"}):
            assert await reason(channel, SCHEDULE, token(roles=["internal"], org=odd)) == "UNAUTHENTICATED"
        # What a caller adds to its call says nothing.
        claimed = [("x-tideline-tenant", "ours")]
        theirs = token(roles=["internal"], org={"id": "theirs"})
        assert await reason(channel, SCHEDULE, theirs, claimed) == "PERMISSION_DENIED"


@pytest.mark.parametrize("name", ["UPPER", "a/b", "-a", "a.b", "a_b", "x" * 33, "a b", "a\n", "ä"])
def test_a_name_that_might_be_taken_for_another_one_is_no_tenant(name: str) -> None:
    with pytest.raises(ValueError, match="tenant"):
        clickstream_service.config.Settings(tenant=name)


def test_nothing_opens_a_database_but_that_of_the_tenant() -> None:
    found = [
        f"{file.name}: {line.strip()}"
        for package in (clickstream_service, improvement_service)
        for file in Path(package.__path__[0]).rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if ".mongo_database" in re.sub(r"of_tenant\(\w+\.mongo_database\)", "", line)
    ]
    assert found == []


@dataclass
class Tenant:
    """Both services of a tenant."""

    clickstream: grpc.aio.Channel
    improvement: grpc.aio.Channel

    async def call(self, method: str, request: Message | bytes) -> list[bytes]:
        """All that is answered, as it is on the wire; nothing where the call fails."""
        described = METHODS[method]
        channel = self.clickstream if ".clickstream." in method else self.improvement
        sent = request if isinstance(request, bytes) else request.SerializeToString()
        shape = "_".join(
            "stream" if one else "unary" for one in (described.client_streaming, described.server_streaming)
        )
        call: Any = getattr(channel, shape)(method)(_once(sent) if described.client_streaming else sent, timeout=30)
        try:
            if described.server_streaming:
                return [answer async for answer in call]
            return [await call]
        except grpc.aio.AioRpcError as error:
            assert error.code() not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}, method  # noqa: PT017
            return []


CHANGES: dict[str, tuple[Callable[[Any], Any], ...]] = {
    # Everything there is.
    **dict.fromkeys(("ListInteractions", "ExportInteractions"), (lambda request: request.ClearField("filter"),)),
    "CreateCollection": (lambda request: setattr(request.collection, "dimension", 3),),
    "UpsertObjects": (lambda request: request.objects[0].parts[0].vector.extend([0, 1]),),
    "Search": (lambda request: request.query_vector.extend([1, 0]),),
    "EstimatePolicyValue": (lambda request: setattr(request.decisions[0], "logging_propensity", 1),),
}
"""What has to be said beside ids."""


@asynccontextmanager
async def tenant(name: str, mongo_uri: str, database: str, folder: Path) -> AsyncIterator[Tenant]:
    """Run both services for a tenant; all settings but the tenant are the same for all."""
    same = {"mongo_uri": mongo_uri, "listen": "127.0.0.1:0", "stop_grace": timedelta(0), "tenant": name}
    recording = clickstream_service.config.Settings(
        **same, mongo_database=f"{database}_c", signal_delay=timedelta(milliseconds=20)
    )
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(clickstream_service.app.running(recording))
        learning = improvement_service.config.Settings(
            **same,
            mongo_database=f"{database}_i",
            milvus_uri=str(folder / "vectors.db"),
            milvus_index_type="FLAT",
            clickstream_address=f"127.0.0.1:{port}",
            device="cpu",
            worker=f"worker-{name}",
        )
        other = await stack.enter_async_context(improvement_service.app.running(learning))
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{number}") for number in (port, other)]
        for channel in channels:
            await stack.enter_async_context(channel)
        yield Tenant(*channels)


CLICKSTREAM, IMPROVEMENT = "/tideline.clickstream.v1.", "/tideline.improvement.v1."


async def test_every_rpc_with_the_ids_of_another_tenant_sees_nothing_and_changes_nothing(
    mongo_uri: str, database_name: str, mongo_client: MongoClient[dict[str, Any]], tmp_path: Path
) -> None:
    async with tenant("ours", mongo_uri, database_name, tmp_path) as ours:
        ids = await _fill(ours)
        search = search_pb.SearchRequest(collection="things", query_vector=[1, 0], limit=1)
        (found,) = await ours.call(f"{IMPROVEMENT}SearchService/Search", search)
        assert KNOWN.encode() in found
    # They are at rest, so that whatever changes was changed by the others.
    before = _dump(mongo_client, database_name, "ours")
    assert len(before) == 2
    assert KNOWN in repr(before)

    async with tenant("theirs", mongo_uri, database_name, tmp_path) as theirs:
        for method, described in METHODS.items():
            request = _filled(described.input_type, ids)
            for change in CHANGES.get(method.split("/")[-1], ()):
                change(request)
            assert first_violation(request) is None, method
            for answer in await theirs.call(method, request):
                assert KNOWN.encode() not in answer, method
    assert _dump(mongo_client, database_name, "ours") == before
    assert KNOWN not in repr(_dump(mongo_client, database_name, "theirs"))

    async with tenant("ours", mongo_uri, database_name, tmp_path) as ours:
        assert await ours.call(f"{IMPROVEMENT}SearchService/Search", search) == [found]


async def _fill(ours: Tenant) -> dict[str, str]:
    """Have something of everything; returns the ids by the names of the fields that take them."""
    collection = object_pb2.Collection(name="things", dimension=2, metric=object_pb2.METRIC_COSINE)
    request = object_service_pb2.CreateCollectionRequest(collection=collection)
    assert await ours.call(f"{IMPROVEMENT}ObjectService/CreateCollection", request)
    thing = object_pb2.Object(object_id="o1", parts=[object_pb2.Part(vector=[1, 0])])
    thing.payload.update({"title": KNOWN})
    upsert = object_service_pb2.UpsertObjectsRequest(collection="things", objects=[thing])
    assert await ours.call(f"{IMPROVEMENT}ObjectService/UpsertObjects", upsert)

    create = session_pb.CreateSessionRequest()
    create.session.session_id, create.session.user_id, create.session.collection = "s1", "u1", "things"
    create.session.search_query.text = KNOWN
    create.session.query_vector.extend([1, 0])
    create.session.search_results.add(object_id="o1")
    (answer,) = await ours.call(f"{CLICKSTREAM}SessionService/CreateSession", create)
    batch_id = session_pb.CreateSessionResponse.FromString(answer).session.batch_id
    push = session_pb.PushEventsRequest(session_id="s1")
    push.events.add(event_id="e1", object_id="o1", event_types=["click"])
    assert await ours.call(f"{CLICKSTREAM}SessionService/PushEvents", push)
    interaction = interaction_pb.RecordInteractionRequest()
    interaction.interaction.interaction_id, interaction.interaction.user_id = "i1", "u1"
    interaction.interaction.feature_id = "o1"
    interaction.interaction.interaction_types.append("purchase")
    interaction.interaction.query_text = KNOWN
    assert await ours.call(f"{CLICKSTREAM}InteractionService/RecordInteraction", interaction)
    use = batch_pb.UseSessionForImprovementRequest(session_id="s1")
    assert await ours.call(f"{CLICKSTREAM}BatchService/UseSessionForImprovement", use)
    (answer,) = await ours.call(
        f"{IMPROVEMENT}ImprovementService/RunImprovement", improvement_pb.RunImprovementRequest()
    )
    run_id = improvement_pb.RunImprovementResponse.FromString(answer).run.run_id
    assert await ours.call(f"{IMPROVEMENT}ImprovementService/WatchRun", improvement_pb.WatchRunRequest(run_id=run_id))
    return {
        "session_id": "s1", "session_ids": "s1", "user_id": "u1", "user_ids": "u1", "batch_id": batch_id,
        "interaction_id": "i1", "object_id": "o1", "object_ids": "o1", "feature_id": "o1", "event_id": "e1",
        "run_id": run_id, "collection": "things", "name": "things", "owner": "worker-ours", "monitor_id": "m1",
        "snapshot_id": "x1",
        "release_id": "r1", "field": "price", "interaction_type": "click", "interaction_types": "click",
        "event_types": "click",
    }  # fmt: skip


def _filled(described: Descriptor, ids: dict[str, str], deep: int = 3) -> Message:
    """A request with the ids of somebody else wherever there is room for one."""
    message: Any = message_factory.GetMessageClass(described)()
    for field in described.fields:
        if field.type == FieldDescriptor.TYPE_ENUM and not field.is_repeated and len(field.enum_type.values) > 2:
            setattr(message, field.name, field.enum_type.values[2].number)
        elif field.type == FieldDescriptor.TYPE_MESSAGE and not field.message_type.GetOptions().map_entry:
            if deep and field.message_type.file.package.startswith("tideline."):
                inner = _filled(field.message_type, ids, deep - 1)
                if field.is_repeated:
                    getattr(message, field.name).append(inner)
                elif field.containing_oneof is None or message.WhichOneof(field.containing_oneof.name) is None:
                    getattr(message, field.name).CopyFrom(inner)
        elif field.name in ids and field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                getattr(message, field.name).append(ids[field.name])
            else:
                setattr(message, field.name, ids[field.name])
    return message  # type: ignore[no-any-return]


def _dump(client: MongoClient[dict[str, Any]], database: str, name: str) -> dict[str, Any]:
    """All that a tenant has in MongoDB."""
    return {
        found: {kind: sorted(map(repr, client[found][kind].find())) for kind in client[found].list_collection_names()}
        for found in client.list_database_names()
        if found.startswith(database) and found.endswith(f"_t_{name}")
    }


async def _once(sent: bytes) -> AsyncIterator[bytes]:
    yield sent
