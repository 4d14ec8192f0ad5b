"""What a run learns from, as flat arrays, and how sessions become that. Plain numpy: importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Floats: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """Who meant what, for any mix of users, items, parts and sessions.

    An item is one object of one user, and its rows are its parts. An entry says that a session spoke for an item
    (positive, with the weight w of its signals) or against it (negative, with the examination probability theta of
    its rank). Several entries of the same item, session and sign add up. Within an item the sessions are summed in the
    order of their number, so whoever numbers a user's sessions in a fixed order gets the same bits every time.
    """

    vectors: Floats
    """The original scored rows, [R, D]."""
    item_of_row: Indices
    """The item of each row, [R], in 0..I-1."""
    queries: Floats
    """One query vector for each session, [S, D]."""
    session: Indices
    """The session of each entry, [E], in 0..S-1."""
    item: Indices
    """The item of each entry, [E], in 0..I-1."""
    positive: NDArray[np.bool_]
    """Whether each entry speaks for its item, [E]."""
    weight: Floats
    """w of a positive, theta of a negative, [E]; finite and at least 0. An entry of weight 0 says nothing."""

    def __post_init__(self) -> None:
        """Raise ValueError when shapes, indices or numbers do not fit together."""
        if self.vectors.ndim != 2 or self.queries.ndim != 2 or self.vectors.shape[1] != self.queries.shape[1]:
            raise ValueError(f"vectors {self.vectors.shape} and queries {self.queries.shape} differ in dimension")
        if self.item_of_row.shape != self.vectors.shape[:1]:
            raise ValueError("item_of_row needs one item for each row")
        if len({a.shape for a in (self.session, self.item, self.positive, self.weight)}) != 1:
            raise ValueError("session, item, positive and weight need one value for each entry")
        if self.session.size and not (self.session.min() >= 0 and self.session.max() < len(self.queries)):
            raise ValueError("an entry names a session that has no query")
        if not np.isin(self.item, self.item_of_row).all():
            raise ValueError("an entry names an item that has no row")
        if not (np.isfinite(self.weight) & (self.weight >= 0)).all():
            raise ValueError("weights must be finite and at least 0")


@dataclass(frozen=True)
class SessionSignals:
    """One session as far as learning goes."""

    session_id: str
    query: Floats
    """[D]"""
    results: Sequence[tuple[str, int]]
    """(object id, rank) as shown, ranks from 1."""
    positives: Mapping[str, float]
    """The sum of positive weights for each object that has any; it need not be among the results."""
    acted_on: frozenset[str] = field(default_factory=frozenset)
    """Objects with any other action: they are never negatives."""
    turned_down: frozenset[str] = field(default_factory=frozenset)
    """Objects that the user spoke against: negatives wherever they were shown, since they were looked at for sure."""
    examination: Sequence[float] = ()
    """How likely each rank from 1 on was looked at, as estimated; further down it falls as 1/rank. Empty: not known."""

    def seen(self, rank: int, prior: Callable[[int], float]) -> float:
        """Return the probability that a rank was looked at; by `prior` where nothing was estimated."""
        if not self.examination:
            return prior(rank)
        known = len(self.examination)
        return self.examination[rank - 1] if rank <= known else self.examination[-1] * known / rank


@dataclass(frozen=True)
class Item:
    """Where one object of one user lies in an `Evidence`."""

    user_id: str
    object_id: str
    rows: range
    """Its rows of `Evidence.vectors`, one for each part, in the order given."""
    sessions: tuple[int, ...]
    """The sessions it learned from, as rows of `Evidence.queries`; the gate at search time compares with these."""


@dataclass(frozen=True)
class Collected:
    """Evidence together with the names of its numbers."""

    evidence: Evidence
    items: tuple[Item, ...]
    sessions: tuple[tuple[str, str], ...]
    """(user id, session id) of each row of `Evidence.queries`."""


def reciprocal_rank(rank: int) -> float:
    """Return 1 / rank, the probability that a user looks at this rank."""
    return 1.0 / rank


def collect(
    users: Mapping[str, Sequence[SessionSignals]],
    vectors: Mapping[str, Floats],
    examination: Callable[[int], float] = reciprocal_rank,
) -> Collected:
    """Build the evidence of many users from their sessions; `vectors` holds the parts [M, D] of each object.

    A positive counts with its weight. A negative is a result ranked above the last positive that was not acted on, with
    the probability that it was seen at all, as its session knows it or else by `examination(rank)`: what lies below was
    likely never looked at. What the user turned down is a negative in any place, with probability 1. Sessions without a
    positive say nothing. Objects that are not in `vectors` are left out.

    The order of sessions does not matter, and a session given twice counts once.
    """
    rows: list[Floats] = []
    item_of_row: list[int] = []
    queries: list[Floats] = []
    entries: list[tuple[int, int, bool, float]] = []
    items: list[Item] = []
    names: list[tuple[str, str]] = []
    for user_id, sessions in users.items():
        heard: dict[str, list[int]] = {}
        said: list[tuple[int, str, bool, float]] = []
        for one in _once(sessions):
            signals = [(o, p, w) for o, p, w in _signals(one, examination) if o in vectors]
            if not signals:
                continue
            said += [(len(queries), object_id, positive, weight) for object_id, positive, weight in signals]
            for object_id, _, _ in signals:
                heard.setdefault(object_id, []).append(len(queries))
            queries.append(one.query)
            names.append((user_id, one.session_id))
        number: dict[str, int] = {}
        for object_id in sorted(heard):
            number[object_id] = len(items)
            parts = vectors[object_id]
            span = range(len(item_of_row), len(item_of_row) + len(parts))
            items.append(Item(user_id, object_id, span, tuple(heard[object_id])))
            item_of_row += [number[object_id]] * len(parts)
            rows.append(parts)
        entries += [(session, number[object_id], positive, weight) for session, object_id, positive, weight in said]
    table = np.array(entries, dtype=np.float64).reshape(-1, 4)
    evidence = Evidence(
        vectors=_stack(rows),
        item_of_row=np.array(item_of_row, dtype=np.int64),
        queries=_stack([query.reshape(1, -1) for query in queries]),
        session=table[:, 0].astype(np.int64),
        item=table[:, 1].astype(np.int64),
        positive=table[:, 2].astype(np.bool_),
        weight=np.minimum(table[:, 3], np.finfo(np.float32).max).astype(np.float32),
    )
    return Collected(evidence, tuple(items), tuple(names))


def angles(before: Floats, after: Floats) -> NDArray[np.float64]:
    """Return the angle in radians, [R], between the rows of `before` and `after`, [R, D]; 0 where a row is zero."""
    u, v = (_unit(np.asarray(rows, dtype=np.float64)) for rows in (before, after))
    turned = 2.0 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))
    return np.where(u.any(axis=1) & v.any(axis=1), turned, 0.0)


def _once(sessions: Iterable[SessionSignals]) -> list[SessionSignals]:
    """Sort by id and fold records of the same session into one, so that neither order nor repetition counts."""
    folded: dict[str, SessionSignals] = {}
    for one in sessions:
        known = folded.get(one.session_id)
        folded[one.session_id] = one if known is None else _fold(known, one)
    return [folded[session_id] for session_id in sorted(folded)]


def _fold(a: SessionSignals, b: SessionSignals) -> SessionSignals:
    objects = a.positives.keys() | b.positives.keys()
    return SessionSignals(
        session_id=a.session_id,
        query=a.query,
        results=sorted({*a.results, *b.results}, key=lambda result: (result[1], result[0])),
        positives={o: max(a.positives.get(o, 0.0), b.positives.get(o, 0.0)) for o in objects},
        acted_on=a.acted_on | b.acted_on,
        turned_down=a.turned_down | b.turned_down,
        examination=a.examination,
    )


def _signals(one: SessionSignals, examination: Callable[[int], float]) -> list[tuple[str, bool, float]]:
    """Return (object id, positive, weight) of all that one session says, sorted by object."""
    positives = {object_id: weight for object_id, weight in one.positives.items() if weight > 0}
    if not positives:
        return []
    rank: dict[str, int] = {}
    for object_id, shown in one.results:
        rank[object_id] = min(shown, rank.get(object_id, shown))
    last = max((rank[object_id] for object_id in positives if object_id in rank), default=0)
    turned_down = one.turned_down - one.positives.keys()
    passed_over = (
        (object_id, False, one.seen(shown, examination))
        for object_id, shown in rank.items()
        if shown < last and object_id not in {*one.positives, *one.acted_on, *turned_down}
    )
    return sorted(
        [
            *((object_id, True, weight) for object_id, weight in positives.items()),
            *((object_id, False, 1.0) for object_id in turned_down),
            *passed_over,
        ]
    )


def _stack(rows: Sequence[Floats]) -> Floats:
    return np.concatenate(rows).astype(np.float32, copy=False) if rows else np.zeros((0, 0), dtype=np.float32)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)
    return unit
