"""Whether people find more of what they want: NDCG@10 without and with what was learned, by kind of query."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from deploy.local.measure import Estimate, bootstrap, ndcg
from deploy.local.world import ROLES, User, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.local.experiment import Ranking


@dataclass(frozen=True)
class Outcome:
    """Means over users of their mean over queries, and over seeds where there are several."""

    before: float
    after: float
    change: Estimate


def outcomes(
    world: World, before: dict[int, Ranking], after_by_seed: Sequence[Sequence[dict[int, Ranking]]]
) -> dict[str, Outcome]:
    """The outcome for each role that queries have; `before` is the same for everybody, after has an entry a user."""
    found = {}
    for role in ROLES:
        old, new = [], []
        for place, user in enumerate(world.users):
            if user.queries[role]:
                old.append(_score(user, role, before))
                new.append(fmean(_score(user, role, after[place]) for after in after_by_seed))
        if old:
            change = bootstrap([after - before for before, after in zip(old, new, strict=True)])
            found[role] = Outcome(fmean(old), fmean(new), change)
    return found


def _score(user: User, role: str, rankings: dict[int, Ranking]) -> float:
    return fmean(ndcg(rankings[query], user.relevant[query]) for query in user.queries[role])
