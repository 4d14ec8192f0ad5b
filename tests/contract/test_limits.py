"""Whatever a request may hold has a limit, which its comment says."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor_pb2 import DescriptorProto

ROOT = Path(__file__).parents[2] / "protos"
NUMBERS = {
    Field.TYPE_INT32: "int32",
    Field.TYPE_INT64: "int64",
    Field.TYPE_FLOAT: "float",
    Field.TYPE_DOUBLE: "double",
}
ANY_NUMBER = {
    # Numbers of the client's own, or those that it got from the service: any of them is looked up or compared.
    "StreamEventsRequest.sequence",
    "FeedbackLease.fence",
    "FeedbackLease.attempts",
    "Session.session_number",
    "Event.weight",
}


@cache
def contract() -> dict[str, tuple[DescriptorProto, dict[str, str]]]:
    """All messages by their full name, each with the comments of its fields."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tideline").rglob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    with TemporaryDirectory() as folder:
        out = f"{folder}/set"
        arguments = ["protoc", f"-I{ROOT}", f"-I{well_known}", "--include_source_info", f"--descriptor_set_out={out}"]
        assert protoc.main([*arguments, *sources]) == 0
        files = FileDescriptorSet.FromString(Path(out).read_bytes())
    found: dict[str, tuple[DescriptorProto, dict[str, str]]] = {}
    for file in files.file:
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for number, message in enumerate(file.message_type):
            said = {field.name: comments.get((4, number, 2, place), "") for place, field in enumerate(message.field)}
            found[f".{file.package}.{message.name}"] = message, said
    return found


def asked() -> Iterator[tuple[str, Field, Any, str]]:
    """All fields that a request may hold: the name, the field, its rules and its comment."""
    messages = contract()
    waiting = [name for name in messages if name.endswith("Request")]
    seen = set(waiting)
    while waiting:
        message, comments = messages[waiting.pop()]
        for field in message.field:
            yield (
                f"{message.name}.{field.name}",
                field,
                field.options.Extensions[validate_pb2.field],
                comments[field.name],
            )
            if field.type_name in messages and field.type_name not in seen:
                seen.add(field.type_name)
                waiting.append(field.type_name)


FIELDS = list(asked())


@pytest.mark.parametrize(("name", "field", "rules", "comment"), FIELDS, ids=[name for name, *_ in FIELDS])
def test_a_field_of_a_request_has_a_limit_which_its_comment_says(
    name: str, field: Field, rules: Any, comment: str
) -> None:
    if field.label == Field.LABEL_REPEATED:
        if field.type_name.endswith("Entry"):
            assert rules.map.max_pairs
            assert says(comment, rules.map.max_pairs)
            assert rules.map.keys.string.max_bytes
            return
        by_item = rules.ignore == validate_pb2.IGNORE_ALWAYS  # then a rule of the whole message limits their number
        assert by_item or rules.repeated.max_items
        assert "at most" in comment.lower() or " to " in comment
        assert by_item or says(comment, rules.repeated.max_items)
        rules = rules.repeated.items
    if field.type == Field.TYPE_STRING:
        assert rules.string.max_bytes or rules.string.pattern.endswith("}$") or rules.string.pattern.endswith("})?$")
        assert not rules.string.max_bytes or says(comment, rules.string.max_bytes)
    elif field.type == Field.TYPE_ENUM:
        assert rules.enum.defined_only
    elif field.type_name == ".google.protobuf.Duration":
        assert rules.duration.HasField("lte")
        assert "at most" in comment or " to " in comment
    elif field.type in NUMBERS and name not in ANY_NUMBER:
        limits = getattr(rules, NUMBERS[field.type])
        assert any(limits.HasField(rule) for rule in ("gt", "gte")) or limits.finite
    else:
        assert field.type != Field.TYPE_BYTES


def says(comment: str, limit: int) -> bool:
    return f"{limit:,}" in comment
