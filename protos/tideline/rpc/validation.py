"""Applies the rules that are written in the protos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import protovalidate

from tideline.errors import InvalidField

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from protovalidate import Violation


def first_violation(message: Message, path: str = "") -> InvalidField | None:
    """Return the first rule that `message` breaks, its field given below `path`; None when it keeps them all."""
    violations = protovalidate.collect_violations(message, fail_fast=True)
    if not violations:
        return None
    field, said = _path(violations[0]), violations[0].proto.message or violations[0].proto.rule_id
    # A rule of a whole message starts with the field it is about: `events: must have ...`.
    if not field and ": " in said:
        field, said = said.split(": ", 1)
    return InvalidField(said, field=".".join(filter(None, (path, field))))


def _path(violation: Violation) -> str:
    if violation.proto.field is None:
        return ""
    return ".".join(
        f"{element.field_name}[{element.subscript.value!r}]" if element.subscript is not None else element.field_name
        for element in violation.proto.field.elements
    )
