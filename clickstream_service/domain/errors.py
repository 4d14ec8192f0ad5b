"""Failures of the clickstream service, each with its public reason."""

from __future__ import annotations

from tideline.errors import InvalidField, TidelineError


class SessionNotFound(TidelineError):
    """No session has this id."""

    reason = "SESSION_NOT_FOUND"


class SessionConflict(TidelineError):
    """The session id was used for other content."""

    reason = "SESSION_CONFLICT"


class SessionIrrelevant(TidelineError):
    """The session was marked irrelevant."""

    reason = "SESSION_IRRELEVANT"


class SessionWithoutUser(TidelineError):
    """The session is anonymous."""

    reason = "SESSION_WITHOUT_USER"


class EventConflict(TidelineError):
    """The event id was used for other content in this session."""

    reason = "EVENT_CONFLICT"


class BatchNotFound(TidelineError):
    """No batch has this id."""

    reason = "BATCH_NOT_FOUND"


class NoOpenBatch(TidelineError):
    """Nothing came in since the last release."""

    reason = "NO_OPEN_BATCH"


class LeaseLost(TidelineError):
    """Another worker holds the user by now."""

    reason = "LEASE_LOST"


class InteractionNotFound(TidelineError):
    """No interaction has this id."""

    reason = "INTERACTION_NOT_FOUND"


class VersionNotFound(TidelineError):
    """There is no such version of strengths or propensities."""

    reason = "VERSION_NOT_FOUND"


class SnapshotNotFound(TidelineError):
    """No training snapshot has this id."""

    reason = "SNAPSHOT_NOT_FOUND"


class StrengthsConflict(TidelineError):
    """The strengths were changed since the version that a change was based on."""

    reason = "STRENGTHS_CONFLICT"


class UnknownSegment(InvalidField):
    """The segment is not one of those that are rolled up."""

    reason = "UNKNOWN_SEGMENT"


class MonitorNotFound(TidelineError):
    """No monitor has this id."""

    reason = "MONITOR_NOT_FOUND"


class UserBeingErased(TidelineError):
    """Nothing is taken in for a user who is being erased."""

    reason = "USER_BEING_ERASED"


class TimeOutOfRange(InvalidField):
    """A time is too old or lies ahead."""

    reason = "TIME_OUT_OF_RANGE"
