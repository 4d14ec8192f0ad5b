"""Wiring: from settings to a running service."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from improvement_service import embedders, session_filter
from improvement_service.cycle import Cycle, CycleRules
from improvement_service.feedback import client as clickstream
from improvement_service.improvement import Improvement
from improvement_service.learning.moving import Mover
from improvement_service.learning.reading import Reader
from improvement_service.learning.writing import Writer
from improvement_service.objects.catalogue import Catalogue
from improvement_service.objects.collections import Collections
from improvement_service.objects.forgetting import Forgetting
from improvement_service.rpc import server as rpc
from improvement_service.scheduling import Timer
from improvement_service.search.overlays import Overlays
from improvement_service.search.personal import Search
from improvement_service.search.searching import Searching
from improvement_service.storage import database as mongo
from improvement_service.storage.collections import MongoCollections
from improvement_service.storage.migrations import migrations
from improvement_service.storage.personal_versions import MongoPersonalVersions
from improvement_service.storage.personal_writes import MongoPersonalWrites
from improvement_service.storage.runs import MongoRuns
from improvement_service.storage.schedule import MongoSchedule
from improvement_service.storage.user_key_mark import SETTING, UserKeyMark
from improvement_service.storage.version_changes import VersionChanges
from improvement_service.vectors.milvus import VectorStore
from tideline.mongo.availability import Availability, within
from tideline.rpc.calls import CallsInterceptor
from tideline.rpc.metrics import served
from tideline.rpc.pseudonyms import UserKeys
from tideline.rpc.security import Security

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from improvement_service.config import Settings
    from tideline.rpc.health import Checks

SETTLING: Final = timedelta(seconds=5)
"""How long a run may take to settle what it is writing, at least, however short the grace of calls is."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def connect_vectors(settings: Settings) -> VectorStore:
    """Prepare for Milvus."""
    return VectorStore(
        settings.milvus_uri,
        token=settings.milvus_token.get_secret_value(),
        timeout_s=settings.milvus_patience.total_seconds(),
        index_type=settings.milvus_index_type,
    )


@asynccontextmanager
async def running(
    settings: Settings,
    now: Callable[[], datetime] = utc_now,
    connect: Callable[[Settings], VectorStore] = connect_vectors,
) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port.

    Leaving it in order: no more calls and no more users are taken, calls under way get their grace, the run under way
    settles what it is writing and gives back the rest, then the databases are let go.
    Raises `DependencyUnavailable` when there is no MongoDB, `Misconfigured` when the address is taken, `LookupError`
    when an embedder or a filter that the settings name is not installed, `WrongUserKeys` when these are not the keys
    of the database.
    """
    filter_rules = session_filter.FilterRules(
        settings.min_session_duration, settings.max_clicks, settings.prefer_below_top
    )
    judge = session_filter.load(settings.session_filter, filter_rules)
    embedding = embedders.load(settings.embedder) if settings.embedder else None
    async with AsyncExitStack() as stack:
        security = stack.enter_context(closing(Security(settings)))
        availability = Availability(settings.mongo_patience.total_seconds())
        database = stack.enter_context(
            mongo.connected(
                str(settings.mongo_uri),
                settings.of_tenant(settings.mongo_database),
                settings.mongo_patience,
                availability,
            )
        )
        keys = UserKeys.read(settings.user_keys_file, SETTING) if settings.user_keys_file else None
        await UserKeyMark(database).admit(keys)
        feedback = await stack.enter_async_context(
            clickstream.connected(
                settings.clickstream_address, settings.clickstream_patience, settings.clickstream_access(), keys
            )
        )
        vectors = connect(settings)
        stack.push_async_callback(vectors.close)
        up_to_date = migrations(database, settings.migration_lock)
        await (up_to_date.run() if settings.migrate == "run" else up_to_date.wait())
        runs = MongoRuns(database)
        await runs.prepare(settings.worker)

        definitions, changes = MongoCollections(database), VersionChanges(database)
        versions = MongoPersonalVersions(database, changes.tell)
        writes = MongoPersonalWrites(database)
        forgetting = Forgetting(definitions, vectors, versions, writes)
        cycle = Cycle(
            feedback,
            vectors,
            _rules(settings),
            reader=Reader(definitions, judge, settings.default_collection, embedding),
            mover=Mover(settings.adjuster_defaults(), settings.device),
            writer=Writer(definitions, vectors, versions, writes, feedback, forgetting=forgetting),
        )
        timer = Timer(timedelta(seconds=settings.seconds_interval))
        improvement = Improvement(cycle, runs, MongoSchedule(database), timer=timer, owner=settings.worker, now=now)
        overlays = Overlays(vectors, versions, changes, settings.overlay_cache_bytes)
        await stack.enter_async_context(changes.told(overlays.forget))
        search = Search(vectors, overlays)
        server = rpc.build(
            rpc.UseCases(
                collections=Collections(definitions, vectors, versions, now),
                catalogue=Catalogue(definitions, vectors, versions, feedback),
                forgetting=forgetting,
                searching=Searching(definitions, search, feedback, embedding),
                improvement=improvement,
            ),
            CallsInterceptor(open_ended=rpc.OPEN_ENDED, within=within, check=availability.check),
            security,
            keys,
        )
        port = server.listen(settings.listen)
        stack.push_async_callback(improvement.stop, max(settings.stop_grace, SETTLING))
        await stack.enter_async_context(server.health.served(settings.health_listen))
        await server.start(ready=False)
        stack.push_async_callback(server.stop, settings.stop_grace.total_seconds())
        stack.callback(improvement.wind_down)
        stack.enter_context(timer.calling(improvement.tick))
        await stack.enter_async_context(served(settings.metrics_listen))
        # The last to come and the first to go: no more calls are to be sent to a service that ends.
        checks: Checks = {"mongodb": partial(mongo.ping, database), "milvus": vectors.ping}
        await stack.enter_async_context(server.health.watching(checks, settings.health_every, settings.health_patience))
        yield port


def _rules(settings: Settings) -> CycleRules:
    return CycleRules(
        lease=settings.feedback_lease,
        chunk_users=settings.chunk_users,
        chunk_sessions=settings.chunk_sessions,
        chunk_results=settings.chunk_results,
        chunk_vectors=settings.chunk_vectors,
        events_limit=settings.events_per_session,
    )
