"""From the sessions of users to what they say: which count, with which query vector, in which collection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from improvement_service.adjust.evidence import SessionSignals
from improvement_service.domain.errors import CollectionNotFound
from improvement_service.domain.feedback import LeasedUser, Outcome, Reason, State
from improvement_service.domain.run import Stage
from improvement_service.domain.scoring import complaint
from tideline.rpc import logs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from improvement_service.domain.feedback import Lease, Session, Verdict
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.run import Tally
    from improvement_service.domain.scoring import Floats
    from improvement_service.learning.ports import Definitions, Embedder, SessionFilter

_log = structlog.get_logger(__name__)


@dataclass
class UserFeedback:
    """A user on the way through a run."""

    lease: Lease
    sessions: Sequence[Session]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """By session, of those that are left out or failed. The others are learned from."""
    signals: dict[str, list[SessionSignals]] = field(default_factory=dict)
    """What the others say, by collection."""

    def leave_out(self, session_id: str, reason: str) -> None:
        """Say why a session is not learned from, and will not be until something about it changes."""
        self.outcomes[session_id] = Outcome(session_id, State.SKIPPED, reason)

    def fail(self, session_id: str, reason: str, detail: str = "") -> None:
        """Say why learning from a session failed; it is tried again."""
        self.outcomes[session_id] = Outcome(session_id, State.FAILED, reason, detail)


@dataclass(frozen=True)
class _Candidate:
    """A session that counts, as long as it has a vector."""

    user: UserFeedback
    session: Session
    index: SearchIndex
    weight: float
    """What its positives count."""


class Reader:
    """Reads the sessions of users."""

    def __init__(
        self,
        definitions: Definitions,
        session_filter: SessionFilter,
        default_collection: str,
        embedder: Embedder | None,
    ) -> None:
        self._definitions = definitions
        self._filter = session_filter
        self._default_collection = default_collection
        self._embedder = embedder

    async def read(
        self, users: Iterable[LeasedUser], tally: Tally
    ) -> tuple[list[UserFeedback], dict[str, SearchIndex]]:
        """Return the users with what their sessions say, and the collections that these are about."""
        read = [UserFeedback(user.lease, user.sessions) for user in users]
        indexes = await self._indexes({session.collection for user in read for session in user.sessions})
        found = [self._candidate(user, session, indexes) for user in read for session in user.sessions]
        candidates = [candidate for candidate in found if candidate is not None]
        texts = dict.fromkeys(one.session.text for one in candidates if one.session.query_vector is None)
        with tally.timing(Stage.EMBED):
            embedded = await self._embed(list(texts))
        for candidate in candidates:
            given = candidate.session.query_vector
            _add(candidate, embedded.get(candidate.session.text) if given is None else given)
        return read, {index.name: index for index in indexes.values() if index is not None}

    async def _indexes(self, names: Iterable[str]) -> dict[str, SearchIndex | None]:
        """Return what the sessions' names of collections stand for; None for those that are not there."""
        indexes: dict[str, SearchIndex | None] = {}
        for name in names:
            try:
                known = name or self._default_collection
                indexes[name] = await self._definitions.get(known) if known else None
            except CollectionNotFound:
                indexes[name] = None
        return indexes

    def _candidate(
        self, user: UserFeedback, session: Session, indexes: Mapping[str, SearchIndex | None]
    ) -> _Candidate | None:
        verdict = self._judge(user, session)
        if verdict is None:
            return None
        index = indexes[session.collection]
        if verdict.reason:
            user.leave_out(session.session_id, verdict.reason)
        elif index is None:
            user.leave_out(session.session_id, Reason.UNKNOWN_COLLECTION)
        elif session.query_vector is None and not (session.text and self._embedder):
            user.leave_out(session.session_id, Reason.NO_QUERY_VECTOR)
        else:
            return _Candidate(user, session, index, verdict.weight)
        return None

    def _judge(self, user: UserFeedback, session: Session) -> Verdict | None:
        """Ask the filter, which may be anybody's; None when it failed, and so has the session."""
        try:
            return self._filter.judge(session)
        except Exception as error:  # noqa: BLE001
            _log.warning("session filter failed", **logs.describe(error))
            user.fail(session.session_id, Reason.FILTER_FAILED, type(error).__name__)
            return None

    async def _embed(self, texts: Sequence[str]) -> dict[str, Floats]:
        """Return the vectors of some texts; those that cannot be embedded are left out."""
        if not texts or self._embedder is None:
            return {}
        try:
            return dict(zip(texts, await self._embedder.embed(texts), strict=True))
        except Exception as error:  # noqa: BLE001
            if len(texts) == 1:
                _log.warning("embedding failed", **logs.describe(error), **logs.personal(text=texts[0]))
                return {}
        # One text may have spoilt it for all.
        return {text: vector for one in texts for text, vector in (await self._embed([one])).items()}


def _add(candidate: _Candidate, vector: Floats | None) -> None:
    """Add what a session says to its user's signals, if its vector fits the collection."""
    user, session, index = candidate.user, candidate.session, candidate.index
    if vector is None:
        user.fail(session.session_id, Reason.EMBEDDING_FAILED)
    elif vector.shape != (index.dimension,):
        wrong = complaint(index.metric, index.dimension, vector)
        user.fail(session.session_id, Reason.DIMENSION_MISMATCH, f"the query vector {wrong}")
    elif wrong := complaint(index.metric, index.dimension, vector):
        user.fail(session.session_id, Reason.INVALID_QUERY_VECTOR, f"the query vector {wrong}")
    else:
        user.signals.setdefault(index.name, []).append(_signals(session, vector, candidate.weight))


def _signals(session: Session, query: Floats, weight: float) -> SessionSignals:
    weights, turned_down = session.weights(), session.turned_down()
    return SessionSignals(
        session_id=session.session_id,
        query=query,
        results=session.results,
        positives={object_id: weight * own for object_id, own in weights.items() if own > 0},
        acted_on=frozenset(weights) - turned_down,
        turned_down=turned_down,
        examination=session.examination,
    )
