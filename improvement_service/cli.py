"""`tideline serve improvement`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from improvement_service.commands import migrating, objects, rebuilding, rekeying

if TYPE_CHECKING:
    import argparse

    from improvement_service.config import Settings
    from tideline.cli import Commands


def register(commands: Commands) -> None:
    """Add the sub-commands of this service."""
    serve = commands.add_service("improvement", "keep objects, serve searches, and learn from feedback")
    serve.set_defaults(run=_serve)
    rekeying.register(commands)
    migrating.register(commands)
    objects.register(commands)
    rebuilding.register(commands)


def _serve(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; leased users are settled or given back by then. 1 when it cannot start."""
    # Other commands of `tideline` do not wait for these.
    import structlog  # noqa: PLC0415

    from improvement_service.config import Settings  # noqa: PLC0415
    from tideline.errors import DependencyUnavailable, Misconfigured  # noqa: PLC0415
    from tideline.rpc import logs, loop, tracing  # noqa: PLC0415
    from tideline.rpc.configuration import configured  # noqa: PLC0415
    from tideline.rpc.security import refuse_exposure  # noqa: PLC0415

    logs.configure("info")
    try:
        settings = configured(Settings)
        logs.configure(settings.log_level, personal=settings.log_personal)
        if not arguments.insecure:
            refuse_exposure(settings, settings.listen)
        with tracing.exported("improvement"):
            loop.run(_run(settings))
    except ModuleNotFoundError as missing:
        cause = f"{missing}; install it with tideline[improvement]"
        structlog.get_logger(__name__).error("cannot start", service="improvement", cause=cause)
        return 1
    except (DependencyUnavailable, Misconfigured, LookupError) as failure:
        structlog.get_logger(__name__).error("cannot start", service="improvement", cause=str(failure))
        return 1
    return 0


async def _run(settings: Settings) -> None:
    import structlog  # noqa: PLC0415

    from improvement_service.app import running  # noqa: PLC0415
    from tideline.rpc.server import until_told_to_stop  # noqa: PLC0415

    log = structlog.get_logger(__name__)
    async with running(settings) as port:
        log.info("serving", service="improvement", address=settings.listen, port=port)
        await until_told_to_stop()
        log.info("stopping", service="improvement")
    log.info("stopped", service="improvement")
