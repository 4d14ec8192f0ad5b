"""The gRPC server of the service: which servicer answers for which service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from clickstream_service.rpc.session_servicer import SessionServicer
from tideline.clickstream.v1 import session_service_pb2
from tideline.clickstream.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server
from tideline.rpc.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from clickstream_service.events import Events
    from clickstream_service.sessions import Sessions

SERVICES: Final = (session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,)


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the servicers call."""

    sessions: Sessions
    events: Events


def build(use_cases: UseCases, now: Callable[[], datetime]) -> Server:
    """Return a server that answers for all services of the clickstream contract."""
    server = Server(reflect=SERVICES)
    add_SessionServiceServicer_to_server(SessionServicer(use_cases.sessions, use_cases.events, now), server.grpc)
    return server
