"""What every test may ask for: a real MongoDB, and a database of its own in it."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from deploy.local.mongod import Mongod

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A one-node replica set of this test run, or the one that TIDELINE_TEST_MONGO_URI names."""
    given = os.environ.get("TIDELINE_TEST_MONGO_URI")
    if given:
        yield given
        return
    with Mongod(tmp_path_factory.mktemp("mongod")) as mongod:
        yield mongod.uri


@pytest.fixture(scope="session")
def mongo_client(mongo_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """A blocking client to look at, and tidy up, what the code under test has written."""
    with MongoClient[dict[str, Any]](mongo_uri, tz_aware=True) as client:
        yield client


@pytest.fixture
def database_name(mongo_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """A fresh database name; it and names that begin with it are dropped after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    for existing in mongo_client.list_database_names():
        if existing.startswith(name):
            mongo_client.drop_database(existing)
