"""What the clickstream service counts; what every service counts is in `tideline.rpc.metrics`."""

from __future__ import annotations

from typing import Final

from tideline.rpc.metrics import gauge, histogram

_WRITE: Final = ["write"]
COMMIT_ITEMS: Final = histogram(
    "tideline_clickstream_group_commit_items",
    "How many items went into a group commit: of sessions, of events, of submissions.",
    _WRITE,
    (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000),
)
COMMIT_WAIT: Final = histogram(
    "tideline_clickstream_group_commit_wait_seconds", "How long items waited until their group commit began.", _WRITE
)
COMMIT_SECONDS: Final = histogram(
    "tideline_clickstream_group_commit_seconds", "How long group commits took until they were durable.", _WRITE
)
WAITING_ITEMS: Final = gauge(
    "tideline_clickstream_waiting_items", "How many items wait for a group commit in this process.", _WRITE
)
WAITING_BYTES: Final = gauge(
    "tideline_clickstream_waiting_bytes",
    "How large the items are that wait for a group commit in this process.",
    _WRITE,
)

PENDING_USERS: Final = "tideline_clickstream_pending_users"
OLDEST_PENDING: Final = "tideline_clickstream_oldest_pending_seconds"
LEASED_USERS: Final = "tideline_clickstream_leased_users"
OLDEST_LEASE: Final = "tideline_clickstream_oldest_lease_seconds"
PARKED_SESSIONS: Final = "tideline_clickstream_parked_sessions"
ROLLUP_LAG: Final = "tideline_clickstream_rollup_lag_seconds"
ASKED: Final = {
    PENDING_USERS: "Users with feedback to learn from; more than 100,000 are not counted.",
    OLDEST_PENDING: "How long the session has been waiting to be learned from that has been for the longest time.",
    LEASED_USERS: "Users that a worker holds; more than 100,000 are not counted.",
    OLDEST_LEASE: "For how long the user has been held that a worker has held for the longest time.",
    PARKED_SESSIONS: "Sessions that failed too often; more than 100,000 are not counted.",
    ROLLUP_LAG: "How old the newest change is that is in the rollups; up to 10 s while nothing changes.",
}
"""Gauges that the database is asked for when they are scraped; all replicas give the same ones."""
