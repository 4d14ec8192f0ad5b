"""What happens to the document of a user in `user_leases`, as updates that MongoDB carries out.

All times are the server's own (`$$NOW`), so that workers and services with other clocks agree on who holds a user.

`pending`: there is something to learn, or to unlearn. `due_at`: since when, or when to try again. `available_at`: when
the user may be leased, which is `due_at`, or when the present lease expires. `owner`: is there while a worker holds
the user. `generation` grows with whatever is queued, `leased_generation` is the one that the last lease has seen.
`call`: what leased the user last, for it to tell which of the users that others wanted, too, it got.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datetime import timedelta

    from bson import ObjectId

    from clickstream_service.domain.feedback import Settlement

    Update = list[dict[str, Any]]

AVAILABLE: Final = {"pending": True, "$expr": {"$lte": ["$available_at", "$$NOW"]}}
"""Users who wait, and whom nobody holds."""

_HELD: Final = {"$ne": [{"$type": "$owner"}, "missing"]}

QUEUE: Final[Update] = [
    {
        "$set": {
            "pending": True,
            # Whoever waits already keeps the place; whoever waits to be tried again is tried at once.
            "due_at": {"$cond": [{"$eq": ["$pending", True]}, {"$min": ["$due_at", "$$NOW"]}, "$$NOW"]},
            "generation": {"$add": [{"$ifNull": ["$generation", 0]}, 1]},
            "leased_generation": {"$ifNull": ["$leased_generation", 0]},
            # A user who was erased and comes back: what a worker held before is older than any lease from now on.
            "fence": {"$ifNull": ["$fence", {"$toLong": "$$NOW"}]},
            "attempts": {"$ifNull": ["$attempts", 0]},
        }
    },
    {"$set": {"available_at": {"$cond": [_HELD, "$available_at", "$due_at"]}}},
]
"""There is something new about the user, who may be unknown so far."""

FREE: Final[Update] = [{"$set": {"available_at": "$due_at"}}, {"$unset": "owner"}]
"""Nobody holds the user any more; the attempt counts."""

GIVE_BACK: Final[Update] = [{"$set": {"attempts": {"$max": [{"$subtract": ["$attempts", 1]}, 0]}}}, *FREE]
"""The worker lets go of the user, and the attempt does not count."""


def lease(owner: str, duration: timedelta, call: ObjectId) -> Update:
    """Make `owner` hold the user, under a fence that no worker before had."""
    return [
        {
            "$set": {
                "owner": {"$literal": owner},
                "call": call,
                "leased_at": "$$NOW",
                "available_at": _in(duration),
                "fence": {"$add": ["$fence", 1]},
                "attempts": {"$add": ["$attempts", 1]},
                "leased_generation": "$generation",
            }
        }
    ]


def renew(duration: timedelta) -> Update:
    return [{"$set": {"available_at": _in(duration)}}]


def settle(settlement: Settlement, delay: timedelta) -> Update:
    """Free the user, who is due again after `delay` if at all; what was answered is kept for a repeated call."""
    answer = {"fence": "$fence", "pending_again": settlement.pending_again, "parked": settlement.parked}
    return [
        {"$set": {"pending": settlement.pending_again, "due_at": _in(delay), "attempts": 0, "settled": answer}},
        {"$set": {"available_at": "$due_at"}},
        {"$unset": "owner"},
    ]


def _in(delay: timedelta) -> dict[str, Any]:
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": round(delay.total_seconds() * 1000)}}
