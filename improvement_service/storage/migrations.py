"""The migrations of this service's data, oldest first. A released one is never changed: another one follows it."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

from improvement_service.storage import runs
from tideline.migrations import Migrations
from tideline.mongo.client import DURABLE
from tideline.mongo.ledger import MongoLedger

if TYPE_CHECKING:
    from datetime import timedelta

    from tideline.mongo.client import Database


def migrations(database: Database, lock: timedelta) -> Migrations:
    """Return what brings a database up to date with this release."""
    return Migrations(
        MongoLedger(database.get_collection("migrations", write_concern=DURABLE)),
        _schema(),
        partial(runs.make_indexes, database),
        [],
        lock,
    )


def _schema() -> str:
    """Return a hash of all indexes: a release that defines others makes them."""
    definitions = [sorted((key, repr(value)) for key, value in index.document.items()) for index in runs.INDEXES]
    return hashlib.sha256(repr(definitions).encode()).hexdigest()[:16]
