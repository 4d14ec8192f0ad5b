"""What `tideline export-log` writes: a JSON object a line, `{"session": ...}` or `{"interaction": ...}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from clickstream_service.importers import values
from clickstream_service.importers.items import UNREADABLE, BadLine, FoundInteraction, FoundSession, Item, Rejected, why
from tideline.clickstream.v1.interaction_pb2 import Interaction
from tideline.clickstream.v1.session_pb2 import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickstream_service.importers.names import Names
    from clickstream_service.importers.source import Source

_M = TypeVar("_M", bound=Message)


class Own:
    """Reads what Tideline has exported."""

    def __init__(self, names: Names) -> None:
        """Names are those of the contract; `names` is there as for other formats."""

    def read(self, source: Source) -> Iterator[Item]:
        """Yield what each line says, in order."""
        for line in source.lines():
            try:
                yield _found(line.number, values.json_object(line))
            except UNREADABLE as error:
                yield Rejected(line.number, why(error), line.readable)


def _found(line: int, document: dict[str, Any]) -> FoundSession | FoundInteraction:
    if document.keys() == {"session"}:
        session = _parsed(document["session"], Session())
        if not session.session_id:
            raise BadLine("the session has no id")
        return FoundSession(line, session)
    if document.keys() == {"interaction"}:
        interaction = _parsed(document["interaction"], Interaction())
        if not interaction.interaction_id:
            raise BadLine("the interaction has no id")
        return FoundInteraction(line, interaction)
    raise BadLine('is neither {"session": ...} nor {"interaction": ...}')


def _parsed(value: Any, into: _M) -> _M:
    try:
        return json_format.ParseDict(value, into)
    except (json_format.ParseError, *UNREADABLE) as error:
        raise BadLine("does not fit the contract") from error
