"""The migrations of this service's data, oldest first. A released one is never changed: another one follows it."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

from improvement_service.storage import runs
from improvement_service.storage.mongo_ledger import MongoLedger
from tideline.migrations import Migrations

if TYPE_CHECKING:
    from datetime import timedelta

    from motor.motor_asyncio import AsyncIOMotorDatabase


def migrations(database: AsyncIOMotorDatabase[dict[str, Any]], lock: timedelta) -> Migrations:
    """Return what brings a database up to date with this release."""
    return Migrations(MongoLedger(database), _schema(), partial(runs.make_indexes, database), [], lock)


def _schema() -> str:
    """Return a hash of all indexes: a release that defines others makes them."""
    definitions = [sorted((key, repr(value)) for key, value in index.document.items()) for index in runs.INDEXES]
    return hashlib.sha256(repr(definitions).encode()).hexdigest()[:16]
