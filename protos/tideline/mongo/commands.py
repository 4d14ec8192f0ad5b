"""Reports the commands of the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymongo.monitoring import CommandListener

from tideline.rpc import tracing
from tideline.rpc.commands import Commands

if TYPE_CHECKING:
    from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent, CommandSucceededEvent


class ReportedCommands(CommandListener):
    """Times the commands of a client, and makes them spans where somebody waits for them in a trace."""

    def __init__(self) -> None:
        self._commands = Commands("mongodb")

    def started(self, event: CommandStartedEvent) -> None:
        """Begin a span."""
        if tracing.is_on():
            collection = event.command.get(event.command_name)
            self._commands.started(
                event.request_id, event.command_name, collection if isinstance(collection, str) else ""
            )

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Count the command."""
        self._commands.ended(event.request_id, event.command_name, event.duration_micros / 1e6)

    def failed(self, event: CommandFailedEvent) -> None:
        """Count the command and its failure; only the name of its code is told: its text quotes values."""
        kind = str(event.failure.get("codeName", "failed"))
        self._commands.ended(event.request_id, event.command_name, event.duration_micros / 1e6, kind)
