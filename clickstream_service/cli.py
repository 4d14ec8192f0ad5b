"""`tideline serve clickstream`, and the other sub-commands of this service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from clickstream_service.commands import (
    cleaning,
    erasing,
    exporting,
    exporting_log,
    importing,
    migrating,
    rekeying,
    rollups,
)
from clickstream_service.config import Settings
from tideline.errors import DependencyUnavailable, Misconfigured
from tideline.rpc import logs, loop, processes, tracing
from tideline.rpc.configuration import configured
from tideline.rpc.security import refuse_exposure
from tideline.rpc.server import until_told_to_stop

if TYPE_CHECKING:
    import argparse

    from tideline.cli import Commands

_log = structlog.get_logger(__name__)


def register(commands: Commands) -> None:
    """Add the sub-commands of this service."""
    serve = commands.add_service("clickstream", "record sessions and events, and hand out feedback")
    serve.set_defaults(run=_serve)
    importing.register(commands)
    cleaning.register(commands)
    erasing.register(commands)
    exporting_log.register(commands)
    exporting.register(commands)
    rollups.register(commands)
    rekeying.register(commands)
    migrating.register(commands)


def _serve(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; everything that was taken is written by then. 1 when it cannot start."""
    logs.configure("info")
    try:
        settings = configured(Settings)
        logs.configure(settings.log_level, personal=settings.log_personal)
        if not arguments.insecure:
            refuse_exposure(settings, settings.listen)
        if settings.processes > 1 and not processes.shares_port():
            return _serve_together(settings, insecure=arguments.insecure)
        with tracing.exported("clickstream"):
            loop.run(_run(settings))
    except (DependencyUnavailable, Misconfigured) as failure:
        _log.error("cannot start", service="clickstream", cause=str(failure))
        return 1
    return 0


def _serve_together(settings: Settings, *, insecure: bool) -> int:
    holder, address = processes.reserve(settings.listen)
    environments = [
        {
            "CLICKSTREAM_LISTEN": address,
            "CLICKSTREAM_METRICS_LISTEN": processes.nth(settings.metrics_listen, number),
            "CLICKSTREAM_HEALTH_LISTEN": processes.nth(settings.health_listen, number),
        }
        for number in range(settings.processes)
    ]
    arguments = ["serve", "clickstream", *(["--insecure"] if insecure else [])]
    with holder:
        return loop.run(processes.supervise(arguments, environments))


async def _run(settings: Settings) -> None:
    from clickstream_service.app import running  # noqa: PLC0415 - only who serves has to wait for it

    async with running(settings) as port:
        _log.info("serving", service="clickstream", address=settings.listen, port=port)
        await until_told_to_stop()
        _log.info("stopping", service="clickstream")
    _log.info("stopped", service="clickstream")
