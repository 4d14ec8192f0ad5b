"""Transactions that are run again when they meet another."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from pymongo import ReadPreference
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError, WriteConcernError
from pymongo.read_concern import ReadConcern

from tideline.mongo.client import DURABLE
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from motor.motor_asyncio import AsyncIOMotorClientSession

    from clickstream_service.storage.database import Database

_R = TypeVar("_R")
_log = structlog.get_logger(__name__)

PATIENCE_S: Final = 30.0
"""For how long a transaction is tried again before the failure is passed on."""
LONGEST_LOCK_S: Final = 10
"""For how long a writer that was killed may keep others waiting before that is worth a warning."""
FIRST_PAUSE_S: Final = 0.002
LONGEST_PAUSE_S: Final = 0.1


@outages()
async def warn_of_long_locks(database: Database) -> None:
    """Say so when the database keeps what a killed writer had locked for long: its default is a minute."""
    name = "transactionLifetimeLimitSeconds"
    try:
        seconds = (await database.client.admin.command({"getParameter": 1, name: 1}))[name]
    except OperationFailure:  # not for our user to ask, or not a question for a router
        return
    if seconds > LONGEST_LOCK_S:
        _log.warning("a replica that is killed can hold up writes", parameter=name, seconds=seconds)


@outages()
async def in_transaction(
    database: Database, work: Callable[[AsyncIOMotorClientSession], Awaitable[_R]], *, retry_duplicates: bool = False
) -> _R:
    """Run `work` in a transaction and return its result once that is durable.

    `work` sees one snapshot and may run several times. With `retry_duplicates` a key that another writer has taken in
    the meantime is a reason to run it again, too: it has to look up what is there. Raises `DependencyUnavailable`.
    """
    give_up_at, pause = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
    async with await database.client.start_session() as session:
        while True:
            try:
                session.start_transaction(ReadConcern("snapshot"), DURABLE, ReadPreference.PRIMARY)
                try:
                    result = await work(session)
                except BaseException:
                    await session.abort_transaction()
                    raise
                await _commit(session, give_up_at)
            except PyMongoError as error:
                passing = error.has_error_label("TransientTransactionError")
                taken = retry_duplicates and _is_duplicate(error)
                if not (passing or taken) or time.monotonic() > give_up_at:
                    raise
            else:
                return result
            # Writers that met once would meet again if all of them waited for the same time.
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311
            pause = min(2 * pause, LONGEST_PAUSE_S)


async def _commit(session: AsyncIOMotorClientSession, give_up_at: float) -> None:
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            # Committed but perhaps not durable yet, say when its time ran out in the waiting: asking again tells.
            unknown = error.has_error_label("UnknownTransactionCommitResult") or isinstance(error, WriteConcernError)
            if not unknown or time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_S))  # noqa: S311
        else:
            return


def _is_duplicate(error: PyMongoError) -> bool:
    if isinstance(error, DuplicateKeyError):
        return True
    details = getattr(error, "details", None) or {}
    return any(failed["code"] == 11000 for failed in details.get("writeErrors", ()))
