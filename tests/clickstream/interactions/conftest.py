"""Interactions in few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.clickstream.conftest import Service
    from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceAsyncStub


@pytest.fixture
def interactions(service: Service) -> InteractionServiceAsyncStub:
    return service.interactions
