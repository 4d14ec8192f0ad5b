"""Failures of the improvement service, each with its public reason."""

from __future__ import annotations

from tideline.errors import InvalidField, TidelineError


class CollectionNotFound(TidelineError):
    """No collection has this name."""

    reason = "COLLECTION_NOT_FOUND"


class CollectionConflict(TidelineError):
    """The name is taken by a collection that is defined otherwise."""

    reason = "COLLECTION_CONFLICT"


class InvalidVector(InvalidField):
    """A vector does not fit its collection."""

    reason = "INVALID_VECTOR"


class InvalidAdjuster(InvalidField):
    """The adjuster is unknown, or does not take a parameter."""

    reason = "INVALID_ADJUSTER"


class NoEmbedder(TidelineError):
    """A text came in, and nothing is set up to embed it."""

    reason = "NO_EMBEDDER"


class StreamTooLarge(TidelineError):
    """A stream carries more than one call may change."""

    reason = "STREAM_TOO_LARGE"


class RunNotFound(TidelineError):
    """No run has this id."""

    reason = "RUN_NOT_FOUND"
