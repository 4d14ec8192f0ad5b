"""Ids are anybody's: whatever characters they have, every call takes them as they are and gives them back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pool import Default

from tests.clickstream.calls import Refusal, create, refusal
from tests.clickstream.interactions.calls import an_interaction, exported, listed, match, record, record_all
from tests.clickstream.samples import AWKWARD_IDS, a_session
from tests.clickstream.training.calls import export, inputs, snapshot
from tideline.clickstream.v1 import interaction_pb2, signal_pb2
from tideline.clickstream.v1 import interaction_service_pb2 as interaction_calls
from tideline.clickstream.v1 import privacy_service_pb2 as privacy_calls
from tideline.clickstream.v1 import propensity_service_pb2 as propensity_calls
from tideline.clickstream.v1 import signal_service_pb2 as signal_calls
from tideline.clickstream.v1 import training_service_pb2 as training_calls
from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceStub
from tideline.clickstream.v1.privacy_service_pb2_grpc import PrivacyServiceStub
from tideline.clickstream.v1.propensity_service_pb2_grpc import PropensityServiceStub
from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceStub
from tideline.clickstream.v1.training_service_pb2_grpc import TrainingServiceStub
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import CaughtUp, Service

ODD_FIELD = 'se"gm\\ent. $of {meta}'
ODD_IDS = (
    *AWKWARD_IDS,
    *(
        "$",
        "$where",
        ".",
        "..",
        "a.b.$c",
        "%2E%24",
        '{"$ne": null}',
        "']}; return true; //",
        "null",
        "_id",
        " ",
        " padded ",
    ),
    "control \x01\x1b\x1f\x7f\x85 characters",
    "tab\tand\r\nlines",
    "\u202eright to left \u0627\u0644\u0639\u0631\u0628",
    "e\u0301 not \u00e9",
    "\ufeff\u200d\U0001f469\u200d\U0001f4bb",
    "x" * 512,
)
SERVICES = ("InteractionService", "SignalService", "TrainingService", "PropensityService", "PrivacyService")


def cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")


@dataclass(frozen=True)
class Odd:
    """Everything that a client names, named oddly."""

    id: str

    @property
    def shown_above(self) -> str:
        return cut(f"above {self.id}", 512)

    @property
    def surface(self) -> str:
        return cut(self.id, 256)

    @property
    def type(self) -> str:
        return cut(self.id, 64)

    @property
    def query(self) -> str:
        return f"searched for {self.id}"

    @property
    def scope(self) -> signal_pb2.SignalScope:
        return signal_pb2.SignalScope(surface=self.surface, segment=ODD_FIELD, segment_value=self.surface)


ODD = [Odd(each) for each in ODD_IDS]


class CalledUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Takes down which methods are called."""

    def __init__(self, methods: set[str]) -> None:
        self._methods = methods

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self._methods.add(_name(client_call_details.method))
        return await continuation(client_call_details, request)


class CalledStream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    """The same for those that stream: an interceptor is of one kind."""

    def __init__(self, methods: set[str]) -> None:
        self._methods = methods

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self._methods.add(_name(client_call_details.method))
        return await continuation(client_call_details, request)


def _name(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method


def every_method() -> set[str]:
    services = [Default().FindServiceByName(f"tideline.clickstream.v1.{name}") for name in SERVICES]
    found = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    # It is told of decisions, and of nobody.
    return found - {"/tideline.clickstream.v1.PropensityService/EstimatePolicyValue"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    shorter = {
        "snapshot_settle": timedelta(0),
        "erasure_grace": timedelta(milliseconds=20),
        "erasure_every": timedelta(milliseconds=20),
        "signal_segments": ("surface", "device", ODD_FIELD),
    }
    return settings.model_copy(update=shorter)


@pytest.fixture
def called() -> set[str]:
    return set()


@pytest.fixture
async def channel(service: Service, called: set[str]) -> AsyncIterator[grpc.aio.Channel]:
    interceptors = [CalledUnary(called), CalledStream(called)]
    address = f"127.0.0.1:{service.port}"
    async with grpc.aio.insecure_channel(address, options=OPTIONS, interceptors=interceptors) as channel:
        yield channel


async def test_every_call_takes_odd_ids_as_they_are(
    service: Service, channel: grpc.aio.Channel, called: set[str], caught_up: CaughtUp
) -> None:
    await record_everything(service, channel)
    await find_interactions(channel)
    await caught_up()
    await ask_signals(channel)
    await keep_monitors(channel)
    await export_training_data(channel)
    await estimate_propensities(channel)
    await export_and_erase_users(channel)
    assert every_method() - called == set()


async def record_everything(service: Service, channel: grpc.aio.Channel) -> None:
    interactions = InteractionServiceStub(channel)
    strong = [interaction_pb2.Strength(interaction_type=odd.type, level="STRENGTH_LEVEL_STRONG") for odd in ODD]
    await interactions.UpdateStrengths(interaction_calls.UpdateStrengthsRequest(strengths=strong))
    known = (await interactions.GetStrengths(interaction_calls.GetStrengthsRequest())).strengths
    assert {odd.type for odd in ODD} <= {each.interaction_type for each in known.strengths}
    in_sessions = []
    for odd in ODD:
        session = a_session(odd.id, objects=[odd.shown_above, odd.id], user_id=odd.id, search_query={"text": odd.query})
        session.search_meta.update({"surface": odd.surface, "device": odd.surface, ODD_FIELD: odd.surface})
        await create(service.sessions, session)
        in_sessions.append(
            an_interaction(odd.id, odd.id, session_id=odd.id, interaction_types=["click", odd.type], position=1)
        )
        recorded = await record(interactions, an_interaction(odd.id, odd.id, user_id=odd.id))
        assert (recorded.interaction.interaction_id, recorded.duplicate) == (odd.id, False)
    for duplicate in (False, True):
        outcomes = await record_all(interactions, in_sessions)
        assert [outcome.event_id for outcome in outcomes] == list(ODD_IDS)
        assert {outcome.status for outcome in outcomes} == {2 if duplicate else 1}


async def find_interactions(channel: grpc.aio.Channel) -> None:
    interactions = InteractionServiceStub(channel)
    for odd in ODD:
        for session_id in ("", odd.id):
            key = interaction_calls.InteractionKey(session_id=session_id, interaction_id=odd.id)
            got = await interactions.GetInteraction(interaction_calls.GetInteractionRequest(key=key))
            assert (got.interaction.session_id, got.interaction.feature_id) == (session_id, odd.id)
            assert got.interaction.user_id == odd.id
        for criteria, count in (
            ({"feature_ids": [odd.id]}, 2),
            ({"user_ids": [odd.id]}, 2),
            ({"session_ids": [odd.id]}, 1),
            ({"query_texts": [odd.query]}, 1),
            ({"interaction_types": [odd.type]}, 1),
        ):
            found = await listed(interactions, filter=match(**criteria), page_size=1)
            assert [each.interaction_id for each in found] == [odd.id] * count, criteria
        assert len(await exported(interactions, filter=match(feature_ids=[odd.id]))) == 2
    in_order = await listed(interactions, page_size=5)
    assert sorted(each.interaction_id for each in in_order) == sorted([*ODD_IDS, *ODD_IDS])
    for odd in ODD:
        await record(interactions, an_interaction(f"{cut(odd.id, 500)} again", odd.id))
        key = interaction_calls.InteractionKey(interaction_id=f"{cut(odd.id, 500)} again")
        request = interaction_calls.DeleteInteractionRequest(key=key)
        assert [(await interactions.DeleteInteraction(request)).deleted for _ in range(2)] == [True, False]


async def ask_signals(channel: grpc.aio.Channel) -> None:
    signals = SignalServiceStub(channel)
    for odd in ODD:
        metrics = ["SIGNAL_METRIC_SESSIONS", "SIGNAL_METRIC_EVENTS"]
        answer = await signals.GetMetrics(signal_calls.GetMetricsRequest(scope=odd.scope, metrics=metrics))
        assert [series.points[0].value.value for series in answer.series] == [1, 1]
        places = await signals.GetPositionMetrics(signal_calls.GetPositionMetricsRequest(scope=odd.scope))
        assert [place.clicks for place in places.positions[:2]] == [0, 1]
        types = await signals.GetEventDistribution(signal_calls.GetEventDistributionRequest(scope=odd.scope))
        assert {each.interaction_type for each in types.types} == {"click", odd.type}
        skipped = await signals.ListSkippedObjects(
            signal_calls.ListSkippedObjectsRequest(scope=odd.scope, min_impressions=1)
        )
        assert [each.object_id for each in skipped.objects] == [odd.shown_above]
        request = signal_calls.ListQueriesRequest(scope=odd.scope, max_ctr=1, min_sessions=1)
        assert [each.query_text for each in (await signals.ListQueries(request)).queries] == [odd.query]
        top = await signals.ListTopObjects(signal_calls.ListTopObjectsRequest(interaction_types=[odd.type]))
        assert [(each.object_id, each.score) for each in top.objects] == [(odd.id, 2.0)]
        consumed = await signals.ListConsumedObjects(signal_calls.ListConsumedObjectsRequest(user_id=odd.id))
        assert [(each.object_id, each.count) for each in consumed.objects] == [(odd.id, 2)]
        compared = await signals.ComparePeriods(
            signal_calls.ComparePeriodsRequest(scope=odd.scope, baseline=odd.scope, metrics=["SIGNAL_METRIC_SESSIONS"])
        )
        assert compared.metrics[0].value.value == 1
        unknown = signal_pb2.SignalScope(segment=cut(f"not {odd.id}", 256))
        refused = await refusal(signals.GetMetrics(signal_calls.GetMetricsRequest(scope=unknown)))
        assert refused == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_SEGMENT", "scope.segment")
    top = await signals.ListTopObjects(signal_calls.ListTopObjectsRequest(trending=True))
    assert {each.object_id for each in top.objects} == set(ODD_IDS)


async def keep_monitors(channel: grpc.aio.Channel) -> None:
    signals = SignalServiceStub(channel)
    for number, odd in enumerate(ODD):
        monitor = signal_pb2.Monitor(
            monitor_id=f"m{number}", metric="SIGNAL_METRIC_CTR", comparison="COMPARISON_BELOW", threshold=0.1,
            window=timedelta(hours=1), surface=odd.surface, segment=ODD_FIELD, segment_value=odd.surface,
        )  # fmt: skip
        await signals.PutMonitor(signal_calls.PutMonitorRequest(monitor=monitor))
        kept = await signals.GetMonitor(signal_calls.GetMonitorRequest(monitor_id=f"m{number}"))
        assert (kept.monitor.surface, kept.monitor.segment_value) == (odd.surface, odd.surface)
    monitors = (await signals.ListMonitors(signal_calls.ListMonitorsRequest())).monitors
    assert {each.surface for each in monitors} == {odd.surface for odd in ODD}
    assert (await signals.DeleteMonitor(signal_calls.DeleteMonitorRequest(monitor_id="m0"))).deleted


async def export_training_data(channel: grpc.aio.Channel) -> None:
    training = TrainingServiceStub(channel)
    for odd in ODD:
        [pair] = await export(training, surfaces=[odd.surface])
        assert (pair.query.text, pair.positive_object_id) == (odd.query, odd.id)
        assert (list(pair.negative_object_ids), list(pair.session_ids)) == ([odd.shown_above], [odd.id])
        assert await export(training, surfaces=[odd.surface], interaction_types=[odd.type]) != []
        frozen = await snapshot(training, surfaces=[odd.surface], interaction_types=[odd.type])
        request = training_calls.GetTrainingSnapshotRequest(snapshot_id=frozen.snapshot_id)
        assert (await training.GetTrainingSnapshot(request)).snapshot.choice.surfaces == [odd.surface]
        assert [each.positive_object_id for each in await export(training, frozen.snapshot_id)] == [odd.id]
        unknown = training_calls.GetTrainingSnapshotRequest(snapshot_id=odd.type)
        assert (await refusal(training.GetTrainingSnapshot(unknown))).reason == "SNAPSHOT_NOT_FOUND"
        assert await inputs(training, batch_id=odd.id) == []
    found = await inputs(training)
    assert sorted(each.session_id for each in found) == sorted(ODD_IDS)
    assert all(list(each.result_object_ids) == [Odd(each.session_id).shown_above, each.session_id] for each in found)


async def estimate_propensities(channel: grpc.aio.Channel) -> None:
    propensities = PropensityServiceStub(channel)
    for odd in ODD[::4]:
        where = {"surface": odd.surface, "device": odd.surface}
        request = propensity_calls.EstimatePropensitiesRequest(**where, max_rank=2)
        made = (await propensities.EstimatePropensities(request)).propensities
        assert (made.surface, made.device, made.session_count) == (odd.surface, odd.surface, 1)
        kept = await propensities.GetPropensities(propensity_calls.GetPropensitiesRequest(**where))
        assert kept.propensities == made
    listed_versions = await propensities.ListPropensities(propensity_calls.ListPropensitiesRequest())
    assert {each.surface for each in listed_versions.propensities} == {odd.surface for odd in ODD[::4]}


async def export_and_erase_users(channel: grpc.aio.Channel) -> None:
    privacy = PrivacyServiceStub(channel)

    async def known(user_id: str) -> tuple[list[str], list[str]]:
        sessions: list[str] = []
        alone: list[str] = []
        async for part in privacy.ExportUser(privacy_calls.ExportUserRequest(user_id=user_id)):
            sessions += [each.session.session_id for each in part.sessions]
            alone += [each.interaction_id for each in part.interactions]
        return sessions, alone

    async def erase(user_id: str) -> None:
        request = privacy_calls.EraseUserRequest(user_id=user_id)
        while True:
            receipt = (await privacy.EraseUser(request)).receipt
            if receipt.state == privacy_calls.ERASURE_STATE_FINISHED:
                return

    for odd in ODD:
        assert await known(odd.id) == ([odd.id], [odd.id])
    await asyncio.gather(*(erase(odd.id) for odd in ODD[1:]))
    # Nobody else goes with them.
    assert await known(ODD_IDS[0]) == ([ODD_IDS[0]], [ODD_IDS[0]])
    assert [await known(odd.id) for odd in ODD[1:]] == [([], [])] * (len(ODD) - 1)
    interactions = InteractionServiceStub(channel)
    assert {each.user_id for each in await listed(interactions)} == {ODD_IDS[0]}
