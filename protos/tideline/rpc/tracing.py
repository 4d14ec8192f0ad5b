"""Traces after OpenTelemetry: exported when the environment names a collector (`OTEL_EXPORTER_OTLP_ENDPOINT`).

Without one nothing is recorded, and the libraries are not even loaded; calls are still known in logs by the trace id
that they came with. Spans carry names of methods, commands and collections: no ids of users, no texts of queries.
"""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Link, Span, SpanContext

Place: TypeAlias = "SpanContext"
"""A span, as far as others link to it or go on from it."""
MOST_LINKS: Final = 128
"""How many links a span has, at most."""
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_HEADERS: Final = ("traceparent", "tracestate")
_OUR_FAULT: Final = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

_tracer: Any = None
_api: Any = None
"""`opentelemetry.trace`, once there is a tracer."""


class _Call:
    """The call that is being answered: its trace id is only made out when it is asked for."""

    __slots__ = ("_trace_id", "metadata")

    def __init__(self, metadata: Any) -> None:
        self.metadata = metadata
        self._trace_id = ""

    def carrier(self) -> dict[str, str]:
        return {key: value for key, value in self.metadata or () if key in _HEADERS}

    def trace_id(self) -> str:
        if not self._trace_id:
            parts = self.carrier().get("traceparent", "").split("-")
            known = len(parts) >= 4 and len(parts[1]) == 32 and parts[1].isalnum()
            self._trace_id = parts[1] if known else uuid.uuid4().hex
        return self._trace_id


_call: ContextVar[_Call | None] = ContextVar("call", default=None)


@contextmanager
def exported(service: str) -> Iterator[None]:
    """Export traces of this process, if the environment says where to, for as long as the block lasts."""
    wanted = any(map(os.environ.get, _ENDPOINTS)) and os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
    if not wanted or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield
        return
    from opentelemetry import trace  # noqa: PLC0415 - a tenth of a second
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = os.environ.get("OTEL_SERVICE_NAME", f"tideline-{service}")
    provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _use(trace, provider.get_tracer("tideline"))
    try:
        yield
    finally:
        _use(None, None)
        provider.shutdown()


def _use(api: Any, tracer: Any) -> None:
    global _api, _tracer
    _api, _tracer = api, tracer


def is_on() -> bool:
    """Whether traces are exported."""
    return _tracer is not None


def adopt() -> bool:
    """Use what the program has set up for traces, when it is a client that has; returns whether it has."""
    api = sys.modules.get("opentelemetry.trace")
    if api is not None and _tracer is None:
        _use(api, api.get_tracer("tideline"))
    return api is not None


def arrived(metadata: Any) -> None:
    """Say that the present task answers a call with this metadata."""
    _call.set(_Call(metadata))


def trace_id() -> str:
    """Return the trace that the present work is part of, as 32 hex digits; empty outside of calls and spans."""
    if _tracer is not None and (context := here()) is not None:
        return f"{context.trace_id:032x}"
    call = _call.get()
    return call.trace_id() if call is not None else ""


def here() -> SpanContext | None:
    """Return the present span as something to link to, or to go on from; None when nothing is traced."""
    if _tracer is None:
        return None
    context: SpanContext = _api.get_current_span().get_span_context()
    return context if context.is_valid else None


def traceparent() -> str:
    """Return the present span as W3C has it, to be kept and linked to later; empty when it is not recorded."""
    context = here()
    if context is None or not context.trace_flags.sampled:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def span(
    name: str,
    *,
    parent: SpanContext | None = None,
    kept: Iterable[str] = (),
    linked: Iterable[SpanContext] = (),
    alone: bool = False,
    **attributes: str,
) -> AbstractContextManager[Span | None]:
    """Trace the block as part of the present span, or of `parent`.

    It links to spans, and to those whose traceparents were `kept`, up to `MOST_LINKS`. What is done within it is not
    traced when it stays `alone`.
    """
    if _tracer is None:
        return nullcontext()
    links = [*islice(map(_api.Link, linked), MOST_LINKS), *islice(_links(kept), MOST_LINKS)][:MOST_LINKS]
    context = None if parent is None else _api.set_span_in_context(_api.NonRecordingSpan(parent))
    begun = _tracer.start_span(
        name,
        context=context,
        links=links,
        attributes={key.replace("_", "."): value for key, value in attributes.items()},
    )
    return _within(begun, _unrecorded(begun) if alone else begun)


@contextmanager
def _within(begun: Span, present: Span) -> Iterator[Span]:
    from opentelemetry import context  # noqa: PLC0415

    token = context.attach(_api.set_span_in_context(present))
    try:
        yield begun
    except Exception as error:
        # Not its text, which may quote ids.
        begun.set_status(_api.Status(_api.StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        context.detach(token)
        begun.end()


def _unrecorded(begun: Span) -> Span:
    """Return what makes all within it go unrecorded, at the services that are called too."""
    own = begun.get_span_context()
    unsampled = _api.SpanContext(own.trace_id, own.span_id, is_remote=False, trace_flags=_api.TraceFlags(0))
    bare: Span = _api.NonRecordingSpan(unsampled)
    return bare


def command(system: str, name: str, collection: str) -> Callable[[str], None] | None:
    """Begin a span for a command of a database, part of the present one; returns what ends it, with a kind of error.

    None when there is no present span: what a service asks of its database by itself is not worth a trace.
    """
    if here() is None:
        return None
    attributes = {"db.system.name": system, "db.operation.name": name, "db.collection.name": collection}
    begun = _tracer.start_span(f"{system} {name}", kind=_api.SpanKind.CLIENT, attributes=attributes)

    def end(error: str = "") -> None:
        if error:
            begun.set_status(_api.Status(_api.StatusCode.ERROR, error))
        begun.end()

    return end


def link(kept: Iterable[str]) -> None:
    """Link the present span, if there is one, to traceparents that were kept."""
    if here() is not None:
        current = _api.get_current_span()
        for found in _links(kept):
            current.add_link(found.context)


def serve(method: str) -> Span | None:
    """Begin the span of the call that is being answered, in the trace of its caller, to the end of the task."""
    if _tracer is None:
        return None
    from opentelemetry import context, propagate  # noqa: PLC0415

    call = _call.get()
    parent = propagate.extract(call.carrier() if call else {})
    begun: Span = _tracer.start_span(method, context=parent, kind=_api.SpanKind.SERVER, attributes=_of_method(method))
    context.attach(_api.set_span_in_context(begun))
    return begun


def begin_call(method: str) -> Span | None:
    """Begin the span of a call of another service, part of the present span; None when there is none."""
    if here() is None:
        return None
    begun: Span = _tracer.start_span(method, kind=_api.SpanKind.CLIENT, attributes=_of_method(method))
    return begun


def carried(begun: Span) -> dict[str, str]:
    """Return the metadata that make another service go on with the trace of a span."""
    from opentelemetry import propagate  # noqa: PLC0415

    carrier: dict[str, str] = {}
    propagate.inject(carrier, _api.set_span_in_context(begun))
    return carrier


def ended(begun: Span, code: str) -> None:
    """End the span of a call that ended with this status."""
    begun.set_attribute("rpc.grpc.status_code", code)
    if code in _OUR_FAULT:
        begun.set_status(_api.Status(_api.StatusCode.ERROR, code))
    begun.end()


def _of_method(method: str) -> dict[str, str]:
    service, _, name = method.partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def _links(kept: Iterable[str]) -> Iterator[Link]:
    for text in dict.fromkeys(kept):
        parts = text.split("-")
        if len(parts) >= 4:
            flags = _api.TraceFlags(int(parts[3], 16))
            yield _api.Link(_api.SpanContext(int(parts[1], 16), int(parts[2], 16), is_remote=True, trace_flags=flags))
