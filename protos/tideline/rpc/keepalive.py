"""How connections are asked whether they are still there."""

from __future__ import annotations


def keepalive(every_s: int, within_s: int) -> tuple[tuple[str, int], ...]:
    """Return options of a channel or server that ask every so often, and give up where no answer comes in time."""
    return (
        ("grpc.keepalive_time_ms", 1000 * every_s),
        ("grpc.keepalive_timeout_ms", 1000 * within_s),
        # What goes by in fact: gRPC's core gives pings a minute otherwise.
        ("grpc.http2.ping_timeout_ms", 1000 * within_s),
    )
