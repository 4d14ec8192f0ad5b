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
    from pymongo.client_session import ClientSession

    from clickstream_service.storage.database import Database

_R = TypeVar("_R")
_log = structlog.get_logger(__name__)

PATIENCE_S: Final = 30.0
"""For how long a transaction is tried again before the failure is passed on."""
LONGEST_LOCK_S: Final = 10
"""For how long a writer that was killed may keep others waiting before that is worth a warning."""
FIRST_PAUSE_S: Final = 0.002
LONGEST_PAUSE_S: Final = 0.1
SNAPSHOT: Final = ReadConcern("snapshot")


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
    patience = _Patience(retry_duplicates=retry_duplicates)
    async with await database.client.start_session() as session:
        while True:
            try:
                session.start_transaction(SNAPSHOT, DURABLE, ReadPreference.PRIMARY)
                try:
                    result = await work(session)
                except BaseException:
                    await session.abort_transaction()
                    raise
                await _commit(session, patience)
            except PyMongoError as error:
                pause_s = patience.after(error)
            else:
                return result
            await asyncio.sleep(pause_s)


async def _commit(session: AsyncIOMotorClientSession, patience: _Patience) -> None:
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            pause_s = patience.after_commit(error)
        else:
            return
        await asyncio.sleep(pause_s)


def blocking_transaction(database: Database, work: Callable[[ClientSession], _R]) -> _R:
    """Do what `in_transaction` with `retry_duplicates` does, in the thread that this is called in.

    From one command to the next it does not wait for the event loop, which may be busy with other calls.
    """
    patience = _Patience(retry_duplicates=True)
    with database.client.delegate.start_session() as session:
        while True:
            try:
                session.start_transaction(SNAPSHOT, DURABLE, ReadPreference.PRIMARY)
                try:
                    result = work(session)
                except BaseException:
                    session.abort_transaction()
                    raise
                _commit_blocking(session, patience)
            except PyMongoError as error:
                pause_s = patience.after(error)
            else:
                return result
            time.sleep(pause_s)


def _commit_blocking(session: ClientSession, patience: _Patience) -> None:
    while True:
        try:
            session.commit_transaction()
        except PyMongoError as error:
            pause_s = patience.after_commit(error)
        else:
            return
        time.sleep(pause_s)


class _Patience:
    """For how long a transaction is tried again, and how soon."""

    def __init__(self, *, retry_duplicates: bool) -> None:
        self._retry_duplicates = retry_duplicates
        self._give_up_at = time.monotonic() + PATIENCE_S
        self._pause_s = FIRST_PAUSE_S

    def after(self, error: PyMongoError) -> float:
        """Return for how long to wait before the transaction is run again, or raise the error that ended it."""
        passing = error.has_error_label("TransientTransactionError")
        if not (passing or (self._retry_duplicates and _is_duplicate(error))) or time.monotonic() > self._give_up_at:
            raise error
        # Writers that met once would meet again if all of them waited for the same time.
        pause_s = random.uniform(0, self._pause_s)  # noqa: S311
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return pause_s

    def after_commit(self, error: PyMongoError) -> float:
        """Return for how long to wait before it is committed once more, or raise the error."""
        # Committed but perhaps not durable yet, say when its time ran out in the waiting: asking again tells.
        unknown = error.has_error_label("UnknownTransactionCommitResult") or isinstance(error, WriteConcernError)
        if not unknown or time.monotonic() > self._give_up_at:
            raise error
        return random.uniform(0, LONGEST_PAUSE_S)  # noqa: S311


def _is_duplicate(error: PyMongoError) -> bool:
    if isinstance(error, DuplicateKeyError):
        return True
    details = getattr(error, "details", None) or {}
    return any(failed["code"] == 11000 for failed in details.get("writeErrors", ()))
