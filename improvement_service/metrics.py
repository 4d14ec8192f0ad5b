"""What the improvement service counts; what every service counts is in `tideline.rpc.metrics`."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Final

from improvement_service.domain.feedback import Reason, State
from improvement_service.domain.run import RunState, Stage, Tally
from tideline.rpc.metrics import counter, gauge, histogram

if TYPE_CHECKING:
    from improvement_service.domain.run import Run

RUNS: Final = counter(
    "tideline_improvement_runs_total", "Runs that ended, without those that had nothing to do.", ["state"]
)
RUN_SECONDS: Final = histogram(
    "tideline_improvement_run_seconds",
    "How long runs took that had something to do.",
    buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 1_800, 3_600, 10_800),
)
LAST_RUN: Final = gauge(
    "tideline_improvement_last_run_timestamp_seconds", "When the last run ended that did not fail, busy or not."
)
STAGE_SECONDS: Final = counter(
    "tideline_improvement_stage_seconds_total", "Time that runs spent in each stage; stages overlap.", ["stage"]
)
USERS: Final = counter("tideline_improvement_users_total", "Users that runs dealt with, by how.", ["outcome"])
SESSIONS: Final = counter("tideline_improvement_sessions_total", "Sessions that were settled, by state.", ["state"])
LEFT_OUT: Final = counter(
    "tideline_improvement_left_out_sessions_total", "Sessions that were skipped or failed, by reason.", ["reason"]
)
VECTORS_MOVED: Final = counter("tideline_improvement_vectors_moved_total", "Personal vectors that were written.")
ANGLE: Final = counter(
    "tideline_improvement_angle_radians_total", "Sum of the angles between personal vectors and their originals."
)
LARGEST_ANGLE: Final = gauge(
    "tideline_improvement_largest_angle_radians", "The largest such angle in the last run that wrote any."
)
COPIES_REMOVED: Final = counter("tideline_improvement_copies_removed_total", "Personal copies that lost their reason.")

OVERLAYS: Final = counter(
    "tideline_improvement_overlays_total", "Searches of users by where their copies came from.", ["source"]
)
OVERLAY_BYTES: Final = gauge("tideline_improvement_overlay_cache_bytes", "Memory that holds users' copies.")

OTHER: Final = "other"
"""The reason of sessions that a session filter of somebody else's left out for a reason of its own."""

# All of these are there from the start: rates need a zero to begin with.
_STAGES: Final = {stage: STAGE_SECONDS.labels(stage) for stage in Stage}
_REASONS: Final = {reason: LEFT_OUT.labels(reason) for reason in (*Reason, OTHER)}
_STATES: Final = {state: SESSIONS.labels(state) for state in State}
for _ended in set(RunState) - {RunState.RUNNING}:
    RUNS.labels(_ended)
_SETTLED, _FAILED, _LOST = (USERS.labels(outcome) for outcome in ("settled", "failed", "lost"))
OVERLAY_CACHED, OVERLAY_LOADED, OVERLAY_NONE = (OVERLAYS.labels(source) for source in ("cache", "milvus", "none"))


class RunProgress:
    """Counts what a run has done since it was last looked at."""

    def __init__(self) -> None:
        self._before = Tally()

    def count(self, tally: Tally) -> None:
        """Count what is new in `tally`."""
        before, self._before = self._before, deepcopy(tally)
        for stage, spent in tally.durations.items():
            _STAGES[stage].inc((spent - before.durations[stage]).total_seconds())
        for state, sessions in (tally.sessions - before.sessions).items():
            SESSIONS.labels(state).inc(sessions)
        for reason, sessions in (tally.by_reason - before.by_reason).items():
            _REASONS.get(reason, _REASONS[OTHER]).inc(sessions)
        _SETTLED.inc(tally.users_settled - before.users_settled)
        _FAILED.inc(tally.users_failed - before.users_failed)
        _LOST.inc(tally.users_lost - before.users_lost)
        VECTORS_MOVED.inc(tally.turned.vectors - before.turned.vectors)
        ANGLE.inc(tally.turned.sum - before.turned.sum)
        COPIES_REMOVED.inc(tally.copies_removed - before.copies_removed)
        if tally.turned.vectors:
            LARGEST_ANGLE.set(tally.turned.max)


def run_over(run: Run) -> None:
    """Count a run that has ended."""
    if run.state is not RunState.FAILED:
        LAST_RUN.set_to_current_time()
    if (run.tally.users_leased or run.error) and run.finished_at is not None:
        RUNS.labels(run.state).inc()
        RUN_SECONDS.observe((run.finished_at - run.started_at).total_seconds())
