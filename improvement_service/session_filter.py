"""Which sessions are learned from. Others plug in by an entry point in `tideline.session_filters`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final, Protocol

from improvement_service.domain.feedback import Reason, Verdict

if TYPE_CHECKING:
    from improvement_service.domain.feedback import Session

GROUP: Final = "tideline.session_filters"
TOP_WEIGHT: Final = 0.5


@dataclass(frozen=True)
class FilterRules:
    """What the settings of the service say about sessions that count."""

    min_duration: timedelta = timedelta(0)
    """Sessions whose last event came sooner after the search are left out."""
    max_clicks: int | None = None
    """Sessions that speak for more objects than this are left out: what was meant is ambiguous."""
    prefer_below_top: int = 0
    """Sessions that speak for none below so many top results count half; all count the same at 0.

    The first results are clicked for being the first, and such a click confirms what the ranking does already.
    """


class SessionFilter(Protocol):
    """Judges sessions."""

    def judge(self, session: Session) -> Verdict:
        """Say whether a session counts, and how much.

        It must not depend on anything but the session: vectors are recomputed from all sessions in every run.
        """


class SessionFilterFactory(Protocol):
    """What an entry point of `tideline.session_filters` names: a class, or any callable like it."""

    def __call__(self, rules: FilterRules) -> SessionFilter:
        """Make a filter, which may follow the rules as far as they suit it."""


class DefaultSessionFilter:
    """Wants one positive, of a session that is not irrelevant, and what the rules say."""

    def __init__(self, rules: FilterRules) -> None:
        self._rules = rules

    def judge(self, session: Session) -> Verdict:
        """Say whether a session counts, and how much."""
        rules = self._rules
        if session.irrelevant:
            return Verdict(Reason.IRRELEVANT)
        positives = session.positives()
        if not positives:
            return Verdict(Reason.NO_POSITIVE)
        if session.events[-1].created_at - session.created_at < rules.min_duration:
            return Verdict(Reason.TOO_SHORT)
        if rules.max_clicks is not None and len(positives) > rules.max_clicks:
            return Verdict(Reason.AMBIGUOUS)
        top = {object_id for object_id, rank in session.results if rank <= rules.prefer_below_top}
        return Verdict(weight=TOP_WEIGHT if positives.keys() <= top else 1.0)


def load(name: str, rules: FilterRules) -> SessionFilter:
    """Make the session filter of this name; raises `LookupError` when none is installed."""
    found = entry_points(group=GROUP)
    if name not in found.names:
        raise LookupError(f"unknown session filter {name!r}; installed: {', '.join(sorted(found.names))}")
    factory: SessionFilterFactory = found[name].load()
    return factory(rules)
