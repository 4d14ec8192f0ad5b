"""The gRPC server of the service: which servicer answers for which service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from clickstream_service.rpc.batch_servicer import BatchServicer
from clickstream_service.rpc.checks import PLAINLY_VALID
from clickstream_service.rpc.feedback_servicer import FeedbackServicer
from clickstream_service.rpc.interaction_servicer import InteractionServicer
from clickstream_service.rpc.privacy_servicer import PrivacyServicer
from clickstream_service.rpc.propensity_servicer import PropensityServicer
from clickstream_service.rpc.session_servicer import SessionServicer
from clickstream_service.rpc.signal_servicer import SignalServicer
from clickstream_service.rpc.training_servicer import TrainingServicer
from tideline.clickstream.v1 import (
    batch_service_pb2,
    feedback_service_pb2,
    interaction_service_pb2,
    privacy_service_pb2,
    propensity_service_pb2,
    session_service_pb2,
    signal_service_pb2,
    training_service_pb2,
)
from tideline.clickstream.v1.batch_service_pb2_grpc import add_BatchServiceServicer_to_server
from tideline.clickstream.v1.feedback_service_pb2_grpc import add_FeedbackServiceServicer_to_server
from tideline.clickstream.v1.interaction_service_pb2_grpc import add_InteractionServiceServicer_to_server
from tideline.clickstream.v1.privacy_service_pb2_grpc import add_PrivacyServiceServicer_to_server
from tideline.clickstream.v1.propensity_service_pb2_grpc import add_PropensityServiceServicer_to_server
from tideline.clickstream.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server
from tideline.clickstream.v1.signal_service_pb2_grpc import add_SignalServiceServicer_to_server
from tideline.clickstream.v1.training_service_pb2_grpc import add_TrainingServiceServicer_to_server
from tideline.rpc.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from clickstream_service.batches import Batches
    from clickstream_service.events import Events
    from clickstream_service.feedback import Feedback
    from clickstream_service.interactions import Interactions
    from clickstream_service.monitors import Monitors
    from clickstream_service.privacy import Erasures, PersonalData
    from clickstream_service.propensities import PropensityVersions
    from clickstream_service.sessions import Sessions
    from clickstream_service.signal_lists import SignalLists
    from clickstream_service.signals import Signals
    from clickstream_service.strengths import StrengthVersions
    from clickstream_service.submission import Submissions
    from clickstream_service.training.exports import Training
    from clickstream_service.training.snapshots import Snapshots
    from tideline.rpc.calls import CallsInterceptor
    from tideline.rpc.pseudonyms import UserKeys
    from tideline.rpc.security import Security

SERVICES: Final = (
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    batch_service_pb2.DESCRIPTOR.services_by_name["BatchService"].full_name,
    feedback_service_pb2.DESCRIPTOR.services_by_name["FeedbackService"].full_name,
    interaction_service_pb2.DESCRIPTOR.services_by_name["InteractionService"].full_name,
    privacy_service_pb2.DESCRIPTOR.services_by_name["PrivacyService"].full_name,
    propensity_service_pb2.DESCRIPTOR.services_by_name["PropensityService"].full_name,
    training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name,
    signal_service_pb2.DESCRIPTOR.services_by_name["SignalService"].full_name,
)


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the servicers call."""

    sessions: Sessions
    events: Events
    batches: Batches
    submissions: Submissions
    feedback: Feedback
    interactions: Interactions
    strengths: StrengthVersions
    erasures: Erasures
    personal_data: PersonalData
    propensities: PropensityVersions
    training: Training
    snapshots: Snapshots
    signals: Signals
    signal_lists: SignalLists
    monitors: Monitors


OPEN_ENDED: Final = ("/tideline.clickstream.v1.FeedbackService/LeaseFeedback",)
"""What goes on for as long as its client takes: when the server stops, what is leased so far is all."""


def build(
    use_cases: UseCases,
    now: Callable[[], datetime],
    calls: CallsInterceptor | None = None,
    security: Security | None = None,
    user_keys: UserKeys | None = None,
) -> Server:
    """Return a server that answers for all services of the clickstream contract."""
    server = Server(reflect=SERVICES, calls=calls, security=security, user_keys=user_keys, plainly_valid=PLAINLY_VALID)
    strengths = use_cases.strengths
    add_SessionServiceServicer_to_server(
        SessionServicer(use_cases.sessions, use_cases.events, strengths, now), server.grpc
    )
    add_BatchServiceServicer_to_server(BatchServicer(use_cases.batches, use_cases.submissions, strengths), server.grpc)
    add_FeedbackServiceServicer_to_server(
        FeedbackServicer(use_cases.feedback, strengths, use_cases.propensities), server.grpc
    )
    add_InteractionServiceServicer_to_server(InteractionServicer(use_cases.interactions, strengths, now), server.grpc)
    add_SignalServiceServicer_to_server(
        SignalServicer(use_cases.signals, use_cases.signal_lists, use_cases.monitors, now), server.grpc
    )
    add_PropensityServiceServicer_to_server(PropensityServicer(use_cases.propensities), server.grpc)
    add_TrainingServiceServicer_to_server(TrainingServicer(use_cases.training, use_cases.snapshots), server.grpc)
    add_PrivacyServiceServicer_to_server(
        PrivacyServicer(use_cases.erasures, use_cases.personal_data, strengths), server.grpc
    )
    return server
