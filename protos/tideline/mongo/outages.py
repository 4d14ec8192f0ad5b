"""Failures of MongoDB in our words."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from pymongo.errors import ConnectionFailure, ExecutionTimeout, PyMongoError, WTimeoutError

from tideline.errors import DependencyUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_OUTAGES: Final = (ConnectionFailure, ExecutionTimeout, WTimeoutError)
_PASSING: Final = ("RetryableWriteError", "TransientTransactionError", "UnknownTransactionCommitResult")


@asynccontextmanager
async def outages() -> AsyncIterator[None]:
    """Around calls of the driver, or over a method: an outage leaves as `DependencyUnavailable`."""
    try:
        yield
    except PyMongoError as error:
        if isinstance(error, _OUTAGES) or any(map(error.has_error_label, _PASSING)):
            raise DependencyUnavailable("the database does not answer") from error
        raise
