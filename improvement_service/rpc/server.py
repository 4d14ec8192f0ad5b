"""The gRPC server of the service: which servicer answers for which service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from improvement_service.rpc.improvement_servicer import ImprovementServicer
from improvement_service.rpc.object_servicer import ObjectServicer
from improvement_service.rpc.search_servicer import SearchServicer
from tideline.improvement.v1 import improvement_service_pb2, object_service_pb2, search_service_pb2
from tideline.improvement.v1.improvement_service_pb2_grpc import add_ImprovementServiceServicer_to_server
from tideline.improvement.v1.object_service_pb2_grpc import add_ObjectServiceServicer_to_server
from tideline.improvement.v1.search_service_pb2_grpc import add_SearchServiceServicer_to_server
from tideline.rpc.server import Server

if TYPE_CHECKING:
    from improvement_service.improvement import Improvement
    from improvement_service.objects.catalogue import Catalogue
    from improvement_service.objects.collections import Collections
    from improvement_service.objects.forgetting import Forgetting
    from improvement_service.search.searching import Searching
    from tideline.rpc.calls import CallsInterceptor
    from tideline.rpc.pseudonyms import UserKeys
    from tideline.rpc.security import Security

SERVICES: Final = (
    object_service_pb2.DESCRIPTOR.services_by_name["ObjectService"].full_name,
    search_service_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name,
    improvement_service_pb2.DESCRIPTOR.services_by_name["ImprovementService"].full_name,
)


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the servicers call."""

    collections: Collections
    catalogue: Catalogue
    forgetting: Forgetting
    searching: Searching
    improvement: Improvement


OPEN_ENDED: Final = ("/tideline.improvement.v1.ImprovementService/WatchRun",)
"""What goes on for as long as there is news; another replica has it, too."""


def build(
    use_cases: UseCases,
    calls: CallsInterceptor | None = None,
    security: Security | None = None,
    user_keys: UserKeys | None = None,
) -> Server:
    """Return a server that answers for all services of the improvement contract."""
    server = Server(reflect=SERVICES, calls=calls, security=security, user_keys=user_keys)
    add_ObjectServiceServicer_to_server(
        ObjectServicer(use_cases.collections, use_cases.catalogue, use_cases.forgetting), server.grpc
    )
    add_SearchServiceServicer_to_server(SearchServicer(use_cases.searching), server.grpc)
    add_ImprovementServiceServicer_to_server(ImprovementServicer(use_cases.improvement), server.grpc)
    return server
