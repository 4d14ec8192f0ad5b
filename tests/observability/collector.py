"""An OpenTelemetry collector that keeps what it is sent."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE_S = 60
"""How long to wait for spans before saying that they do not come."""


@dataclass(frozen=True)
class Span:
    """A span as it was sent; ids as hex digits."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    """(trace id, span id)."""
    attributes: Mapping[str, Any] = field(hash=False)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Use it as a context manager; `endpoint` is where it takes spans."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._more = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None)

    def Export(self, request: Any, _: object) -> trace_service_pb2.ExportTraceServiceResponse:
        with self._more:
            for resource in request.resource_spans:
                service = _attributes(resource.resource)["service.name"]
                self._spans += [_span(service, span) for scope in resource.scope_spans for span in scope.spans]
            self._more.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        """Return all that came so far."""
        with self._more:
            return list(self._spans)

    def wait_for(self, *wanted: Callable[[Span], bool]) -> list[Span]:
        """Wait until a span came for each of `wanted`, and return those, the first for each."""
        with self._more:
            self._more.wait_for(lambda: all(any(map(one, self._spans)) for one in wanted), PATIENCE_S)
            missing = [number for number, one in enumerate(wanted) if not any(map(one, self._spans))]
            assert not missing, (missing, sorted({(span.service, span.name) for span in self._spans}))
            return [next(filter(one, self._spans)) for one in wanted]


def _span(service: str, span: Any) -> Span:
    return Span(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_attributes(span),
    )


def _attributes(holder: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes}
