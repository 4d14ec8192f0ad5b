"""Runs and the schedule as messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from improvement_service.domain.feedback import State
from improvement_service.domain.run import RunState, Trigger
from tideline.errors import InvalidPageToken
from tideline.improvement.v1 import improvement_service_pb2 as pb
from tideline.rpc import paging

if TYPE_CHECKING:
    from improvement_service.domain.run import Run, Tally
    from improvement_service.domain.schedule import Schedule

_STATES: Final = {
    RunState.RUNNING: pb.RUN_STATE_RUNNING,
    RunState.SUCCEEDED: pb.RUN_STATE_SUCCEEDED,
    RunState.FAILED: pb.RUN_STATE_FAILED,
    RunState.INTERRUPTED: pb.RUN_STATE_INTERRUPTED,
}
_TRIGGERS: Final = {
    Trigger.SCHEDULE: pb.RUN_TRIGGER_SCHEDULE,
    Trigger.REQUEST: pb.RUN_TRIGGER_REQUEST,
}
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_MOST_MILLISECONDS: Final = 2**47


def run_to_pb(run: Run) -> pb.Run:
    tally = run.tally
    message = pb.Run(
        run_id=run.run_id,
        state=_STATES[run.state],
        trigger=_TRIGGERS[run.trigger],
        owner=run.owner,
        users=pb.UserCounts(
            leased=tally.users_leased,
            settled=tally.users_settled,
            failed=tally.users_failed,
            lost=tally.users_lost,
        ),
        sessions=pb.SessionCounts(
            done=tally.sessions[State.DONE],
            skipped=tally.sessions[State.SKIPPED],
            failed=tally.sessions[State.FAILED],
            by_reason=tally.by_reason,
        ),
        vectors_moved=tally.turned.vectors,
        copies_removed=tally.copies_removed,
        mean_angle=tally.turned.mean,
        max_angle=tally.turned.max,
        durations=_durations(tally),
        error=run.error,
    )
    message.started_at.FromDatetime(run.started_at)
    if run.finished_at is not None:
        message.finished_at.FromDatetime(run.finished_at)
    return message


def schedule_to_pb(schedule: Schedule) -> pb.Schedule:
    message = pb.Schedule(paused=schedule.paused)
    message.interval.FromTimedelta(schedule.interval)
    if schedule.next_run_at is not None:
        message.next_run_at.FromDatetime(schedule.next_run_at)
    return message


def position(request: pb.ListRunsRequest) -> tuple[datetime, str] | None:
    """Return where the page before ended; None for the first page. Raises `InvalidPageToken`."""
    match paging.cursor(request, 2):
        case None:
            return None
        case [int(milliseconds), str(run_id)] if 0 <= milliseconds < _MOST_MILLISECONDS:
            return _EPOCH + milliseconds * _MILLISECOND, run_id
    raise InvalidPageToken("was not made by this service", field="page_token")


def token(request: pb.ListRunsRequest, last: Run) -> str:
    """Return the token for the page after one that ends with this run."""
    return paging.token(request, [(last.started_at - _EPOCH) // _MILLISECOND, last.run_id])


def _durations(tally: Tally) -> pb.StageDurations:
    message = pb.StageDurations()
    for stage, time in tally.durations.items():
        getattr(message, stage).FromTimedelta(time)
    return message
