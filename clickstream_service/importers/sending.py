"""Recording what an importer finds, by RPC: in batches, several of them under way."""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
from google.protobuf import json_format

from clickstream_service.importers.items import FoundInteraction, FoundSession, Item, PassedOver, Rejected
from tideline.clickstream.v1 import event_pb2
from tideline.clickstream.v1 import interaction_service_pb2 as interaction_calls
from tideline.clickstream.v1 import session_service_pb2 as session_calls
from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceStub
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub
from tideline.common.v1.error_reason_pb2 import ERROR_REASON_SESSION_NOT_FOUND, ErrorReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from clickstream_service.importers.checkpoint import Progress
    from tideline.clickstream.v1.interaction_pb2 import Interaction
    from tideline.clickstream.v1.session_pb2 import Session

BATCH: Final = 2_000
BATCH_BYTES: Final = 4 * 1024 * 1024
SESSIONS_A_CALL: Final = 1_000
UNDER_WAY: Final = 4
DEADLINE_S: Final = 60.0
PATIENCE_S: Final = 60.0
"""For how long a call is tried again that found the service down, or busy."""

_PASSING: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
_T = TypeVar("_T")


@dataclass
class _Batch:
    """Consecutive items."""

    items: int = 0
    nbytes: int = 0
    sessions: list[FoundSession] = field(default_factory=list)
    interactions: list[FoundInteraction] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    session_outcomes: list[session_calls.SessionOutcome] = field(default_factory=list)
    call: Any = None
    """The interactions on their way."""

    def add(self, item: Item) -> None:
        self.items += 1
        if isinstance(item, FoundSession):
            self.sessions.append(item)
            self.nbytes += item.message.ByteSize()
        elif isinstance(item, FoundInteraction):
            self.interactions.append(item)
            self.nbytes += item.message.ByteSize()
        elif isinstance(item, Rejected):
            self.rejected.append(item)
        else:
            self.passed_over.append(item)

    @property
    def full(self) -> bool:
        return self.items >= BATCH or self.nbytes >= BATCH_BYTES


class Sender:
    """Records items in their order: the sessions of a batch are there before any of its interactions is sent.

    Calls are tried again for a while when the service is down or busy, which does no harm, since everything has an id.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        progress: Progress,
        reject: Callable[[Rejected], None],
        dealt_with: Callable[[], None],
    ) -> None:
        """`progress` is counted up, `reject` keeps a line, and `dealt_with` is called after each batch."""
        self._sessions = SessionServiceStub(channel)
        self._interactions = InteractionServiceStub(channel)
        self._progress = progress
        self._reject = reject
        self._dealt_with = dealt_with

    def send(self, items: Iterable[Item]) -> None:
        """Record all items; raises `grpc.RpcError` when the service does not answer, or does not want any of a call."""
        under_way: deque[_Batch] = deque()
        for batch in _batches(items):
            for first in range(0, len(batch.sessions), SESSIONS_A_CALL):
                batch.session_outcomes += self._create(batch.sessions[first : first + SESSIONS_A_CALL])
            if batch.interactions:
                request = _request([found.message for found in batch.interactions])
                batch.call = self._interactions.BatchRecordInteractions.future(request, timeout=DEADLINE_S)
            under_way.append(batch)
            if len(under_way) == UNDER_WAY:
                self._finish(under_way.popleft())
        for batch in under_way:
            self._finish(batch)

    def _create(self, found: Sequence[FoundSession]) -> Sequence[session_calls.SessionOutcome]:
        request = session_calls.BatchCreateSessionsRequest(sessions=[one.message for one in found], historical=True)

        def create() -> session_calls.BatchCreateSessionsResponse:
            return self._sessions.BatchCreateSessions(request, timeout=DEADLINE_S)

        return _patiently(create, create).outcomes

    def _finish(self, batch: _Batch) -> None:
        for session, outcome in zip(batch.sessions, batch.session_outcomes, strict=True):
            self._count_session(session, outcome)
        if batch.interactions:
            outcomes = self._outcomes([found.message for found in batch.interactions], batch.call)
            homeless: list[tuple[int, Interaction]] = []
            for found, told in zip(batch.interactions, outcomes, strict=True):
                if told.reason == ERROR_REASON_SESSION_NOT_FOUND and found.alone is not None:
                    homeless.append((found.line, found.alone))
                else:
                    self._count_interaction(found.line, found.message, told)
            self._send_alone(homeless)
        for rejected in batch.rejected:
            self._progress.rejected += 1
            self._reject(rejected)
        for passed_over in batch.passed_over:
            kinds = self._progress.passed_over
            kinds[passed_over.what] = kinds.get(passed_over.what, 0) + 1
        self._progress.done += batch.items
        self._dealt_with()

    def _send_alone(self, homeless: Sequence[tuple[int, Interaction]]) -> None:
        """Record interactions without their session, which is not there."""
        if homeless:
            outcomes = self._outcomes([alone for _, alone in homeless], None)
            for (line, alone), told in zip(homeless, outcomes, strict=True):
                self._progress.standing_alone += told.status != event_pb2.EVENT_STATUS_REJECTED
                self._count_interaction(line, alone, told)

    def _outcomes(self, interactions: Sequence[Interaction], call: Any) -> Sequence[event_pb2.EventOutcome]:
        """Return what became of interactions, which are on their way by `call` if it is not None."""
        request = _request(interactions)

        def again() -> interaction_calls.BatchRecordInteractionsResponse:
            return self._interactions.BatchRecordInteractions(request, timeout=DEADLINE_S)

        answer: interaction_calls.BatchRecordInteractionsResponse
        answer = _patiently(again if call is None else call.result, again)
        return answer.outcomes

    def _count_session(self, found: FoundSession, outcome: session_calls.SessionOutcome) -> None:
        if outcome.status == session_calls.SESSION_STATUS_CREATED:
            self._progress.sessions_recorded += 1
        elif outcome.status == session_calls.SESSION_STATUS_DUPLICATE:
            self._progress.sessions_known += 1
        else:
            self._refused(found.line, found.message, outcome)

    def _count_interaction(self, line: int, message: Interaction, outcome: event_pb2.EventOutcome) -> None:
        if outcome.status == event_pb2.EVENT_STATUS_ACCEPTED:
            self._progress.interactions_recorded += 1
        elif outcome.status == event_pb2.EVENT_STATUS_DUPLICATE:
            self._progress.interactions_known += 1
        else:
            self._refused(line, message, outcome)

    def _refused(
        self, line: int, message: Session | Interaction, outcome: session_calls.SessionOutcome | event_pb2.EventOutcome
    ) -> None:
        reason = ErrorReason.Name(outcome.reason).removeprefix("ERROR_REASON_")
        said = ": ".join(filter(None, (reason, outcome.field, outcome.message)))
        self._progress.rejected += 1
        self._reject(Rejected(line, said, json.dumps(json_format.MessageToDict(message), ensure_ascii=False)))


def _request(interactions: Sequence[Interaction]) -> interaction_calls.BatchRecordInteractionsRequest:
    return interaction_calls.BatchRecordInteractionsRequest(interactions=interactions, historical=True)


def _batches(items: Iterable[Item]) -> Iterator[_Batch]:
    batch = _Batch()
    for item in items:
        batch.add(item)
        if batch.full:
            yield batch
            batch = _Batch()
    if batch.items:
        yield batch


def _patiently(call: Callable[[], _T], again: Callable[[], _T]) -> _T:
    """Return what `call` returns, or `again` for as long as the service is down or busy, and patience lasts."""
    give_up_at, pause = time.monotonic() + PATIENCE_S, 0.1
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in _PASSING or time.monotonic() > give_up_at:
                raise
        time.sleep(pause)
        call, pause = again, min(2 * pause, 5.0)
