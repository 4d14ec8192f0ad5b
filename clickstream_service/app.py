"""Wiring: from settings to a running service."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from clickstream_service import metrics
from clickstream_service.app_privacy import privacy_parts
from clickstream_service.app_signals import signal_parts
from clickstream_service.batches import Batches
from clickstream_service.domain.feedback import FeedbackRules
from clickstream_service.domain.times import TimeLimits
from clickstream_service.events import Events
from clickstream_service.feedback import Feedback
from clickstream_service.interactions import Interactions
from clickstream_service.propensities import PropensityVersions
from clickstream_service.rpc import server as rpc
from clickstream_service.sessions import Sessions
from clickstream_service.storage import transactions
from clickstream_service.storage.database import Database
from clickstream_service.storage.erasure_guard import ErasureGuard
from clickstream_service.storage.group_commit import Limits
from clickstream_service.storage.migrations import migrations
from clickstream_service.storage.mongo_batches import MongoBatches
from clickstream_service.storage.mongo_events import MongoEvents
from clickstream_service.storage.mongo_feedback import MongoFeedback
from clickstream_service.storage.mongo_gauges import gauges
from clickstream_service.storage.mongo_interactions import MongoInteractions
from clickstream_service.storage.mongo_leases import MongoLeases
from clickstream_service.storage.mongo_propensities import MongoPropensities
from clickstream_service.storage.mongo_quiet import MongoQuiet
from clickstream_service.storage.mongo_sessions import MongoSessions
from clickstream_service.storage.mongo_settlements import MongoSettlements
from clickstream_service.storage.mongo_snapshots import MongoSnapshots
from clickstream_service.storage.mongo_strengths import MongoStrengths
from clickstream_service.storage.mongo_training import MongoTraining
from clickstream_service.storage.user_key_mark import SETTING, UserKeyMark
from clickstream_service.strengths import StrengthVersions
from clickstream_service.submission import QuietSubmission, Submissions
from clickstream_service.training.exports import Training
from clickstream_service.training.snapshots import Snapshots
from tideline.mongo.availability import within
from tideline.rpc.calls import CallsInterceptor
from tideline.rpc.metrics import Asked, served
from tideline.rpc.pseudonyms import UserKeys
from tideline.rpc.security import Security

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from clickstream_service.config import Settings

FLUSH_S: Final = 5.0
"""For how long writes under way are waited for when all calls are over."""

_log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def running(settings: Settings, now: Callable[[], datetime] = utc_now) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port.

    Leaving it in order: calls under way get their grace, then what waits is written, then the database is let go.
    Raises `DependencyUnavailable` when there is no database and `Misconfigured` when the address is taken.
    """
    async with AsyncExitStack() as stack:
        security = stack.enter_context(closing(Security(settings)))
        database = Database(
            str(settings.mongo_uri), settings.of_tenant(settings.mongo_database), settings.mongo_patience
        )
        stack.callback(database.close)
        up_to_date = migrations(database, settings.migration_lock)
        await (up_to_date.run() if settings.migrate == "run" else up_to_date.wait())
        await transactions.warn_of_long_locks(database)
        keys = UserKeys.read(settings.user_keys_file, SETTING) if settings.user_keys_file else None
        await UserKeyMark(database).admit(keys)
        guard = ErasureGuard(database)
        await guard.prepare()

        queue = MongoFeedback(database)
        stack.push_async_callback(_in_time, queue.close)
        quiet_for = settings.submit_after_quiet
        sessions = MongoSessions(
            database, _session_writes(settings), now, queue.requeue_in, quiet_for=quiet_for, guard=guard
        )
        stack.push_async_callback(_in_time, sessions.settled)
        events = MongoEvents(database, _event_writes(settings), queue.requeue_in, now, guard)
        stack.push_async_callback(_in_time, events.settled)

        times = TimeLimits(settings.max_age, settings.max_ahead)
        rules = _feedback_rules(settings)
        feedback = Feedback(MongoLeases(database), MongoSettlements(database, rules), queue, rules)
        stack.push_async_callback(_in_time, feedback.close)
        recording = Events(events, sessions, times, now)
        strengths = StrengthVersions(MongoStrengths(database), settings.strengths_max_age, now)
        searches = MongoTraining(database)
        propensities = PropensityVersions(MongoPropensities(database), searches, strengths, now)
        snapshots = Snapshots(MongoSnapshots(database), strengths, propensities, now, settings.snapshot_settle)
        signals = signal_parts(database, settings, strengths, propensities, now, lulls=(sessions.lull, events.lull))
        interactions = MongoInteractions(database, events.requeue)
        privacy = await privacy_parts(
            database,
            settings,
            guard,
            events=events,
            interactions=interactions,
            requeue_in=queue.requeue_in,
            now=now,
        )
        stack.push_async_callback(privacy.close)
        use_cases = rpc.UseCases(
            sessions=Sessions(sessions, events, times, now),
            events=recording,
            batches=Batches(MongoBatches(database), now),
            submissions=Submissions(queue),
            feedback=feedback,
            interactions=Interactions(recording, interactions),
            strengths=strengths,
            erasures=privacy.erasures,
            personal_data=privacy.data,
            propensities=propensities,
            training=Training(searches, snapshots, strengths, propensities),
            snapshots=snapshots,
            signals=signals.signals,
            signal_lists=signals.lists,
            monitors=signals.monitors,
        )
        calls = CallsInterceptor(open_ended=rpc.OPEN_ENDED, within=within, check=database.availability.check)
        server = rpc.build(use_cases, now, calls, security, keys)
        port = server.listen(settings.listen)
        await stack.enter_async_context(server.health.served(settings.health_listen))
        await server.start()
        stack.push_async_callback(server.stop, settings.stop_grace.total_seconds())
        if quiet_for is not None:
            quiet = QuietSubmission(queue, MongoQuiet(database), quiet_for, settings.max_age, now)
            await stack.enter_async_context(_in_background(quiet.run(settings.submit_every)))
        for work in (*signals.background(settings), *privacy.background(settings)):
            await stack.enter_async_context(_in_background(work))
        asked = Asked(metrics.ASKED, lambda: gauges(database))
        await stack.enter_async_context(served(settings.metrics_listen, asked))
        # The last to come and the first to go: no more calls are to be sent to a service that ends.
        checks = {"mongodb": database.ping}
        await stack.enter_async_context(server.health.watching(checks, settings.health_every, settings.health_patience))
        yield port


async def _in_time(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let what is under way be written, unless the database does not answer: by now nobody waits for it."""
    try:
        async with asyncio.timeout(FLUSH_S):
            await close()
    except TimeoutError:
        _log.warning("writes under way were given up; none of them was acknowledged")


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _feedback_rules(settings: Settings) -> FeedbackRules:
    return FeedbackRules(
        lease=settings.feedback_lease,
        max_failures=settings.feedback_max_failures,
        max_attempts=settings.feedback_max_attempts,
        backoff=settings.feedback_backoff,
        max_backoff=settings.feedback_max_backoff,
    )


def _session_writes(settings: Settings) -> Limits:
    return Limits(
        items_per_write=settings.sessions_per_write,
        bytes_per_write=settings.bytes_per_write,
        waiting_items=settings.waiting_sessions,
        waiting_bytes=settings.waiting_bytes,
    )


def _event_writes(settings: Settings) -> Limits:
    return Limits(
        items_per_write=settings.events_per_write,
        bytes_per_write=settings.bytes_per_write,
        waiting_items=settings.waiting_events,
        waiting_bytes=settings.waiting_bytes,
    )
