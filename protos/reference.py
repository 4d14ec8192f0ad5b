"""Writes `protos/REFERENCE.md`, the pages of the contract, from the comments in the `.proto` files (`make docs`)."""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

from tideline.common.v1 import access_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor_pb2 import (
        EnumDescriptorProto,
        FileDescriptorProto,
        MethodDescriptorProto,
        ServiceDescriptorProto,
    )

PROTOS = Path(__file__).parent
PAGE = PROTOS / "REFERENCE.md"
# Field numbers in descriptor.proto, which paths of comments are made of.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
FIELDS, NESTED_MESSAGES, NESTED_ENUMS = 2, 3, 4
VALUES, METHODS = 2, 2

HEAD = """\
# Reference of the contract

Made from the comments in the `.proto` files by `make docs`: change those. Failures are told as
[`ErrorReason`](#tideline.common.v1.ErrorReason) says; limits of fields are enforced before a call is looked at.
"""


def compiled() -> FileDescriptorSet:
    """Compile the contract, with its comments; raises `RuntimeError` when it does not compile."""
    from grpc_tools import protoc  # type: ignore[import-untyped]  # noqa: PLC0415 - pages may be made without it

    names = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "tideline").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        well_known = Path(protoc.__file__).parent / "_proto"
        options = ["--include_source_info", f"--descriptor_set_out={out}"]
        if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *options, *names]) != 0:
            raise RuntimeError("protoc could not compile the contract; its messages are above")
        return FileDescriptorSet.FromString(out.read_bytes())


def pages(contract: FileDescriptorSet) -> str:
    """Return the reference as Markdown: for each package its services, then its messages and enums by name."""
    packages: dict[str, list[FileDescriptorProto]] = defaultdict(list)
    for file in contract.file:
        packages[file.package].append(file)
    known = {f".{name}" for file in contract.file for name, _ in _types(file)}
    lines = [HEAD]
    lines += [f"- [{package}](#{package})" for package in sorted(packages)]
    for package in sorted(packages):
        lines += ["", f'<a id="{package}"></a>', f"## {package}"]
        readers = [_Reader(file, known) for file in packages[package]]
        for reader in readers:
            lines += reader.services()
        types = sorted(entry for reader in readers for entry in reader.types())
        lines += [line for _, text in types for line in text]
    return "\n".join(lines) + "\n"


class _Reader:
    """One file, whose elements are found with the comments above them."""

    def __init__(self, file: FileDescriptorProto, known: set[str]) -> None:
        self._file = file
        self._known = known
        self._comments = {
            tuple(place.path): place.leading_comments.strip("\n") for place in file.source_code_info.location
        }

    def services(self) -> Iterator[str]:
        for index, service in enumerate(self._file.service):
            yield from self._head(service.name, (SERVICES, index))
            for number, method in enumerate(service.method):
                yield from self._method(service, method, (SERVICES, index, METHODS, number))

    def types(self) -> Iterator[tuple[str, Sequence[str]]]:
        for name, path in _types(self._file):
            element = _at(self._file, path)
            text = self._message(element, path) if isinstance(element, DescriptorProto) else self._enum(element, path)
            yield name, [*self._head(name.removeprefix(f"{self._file.package}."), path), *text]

    def _head(self, name: str, path: tuple[int, ...]) -> Iterator[str]:
        yield from ("", f'<a id="{self._file.package}.{name}"></a>', f"### {name}", "", *self._prose(path))

    def _method(
        self, service: ServiceDescriptorProto, method: MethodDescriptorProto, path: tuple[int, ...]
    ) -> Iterator[str]:
        asked = ("stream " if method.client_streaming else "") + self._link(method.input_type)
        answer = ("stream " if method.server_streaming else "") + self._link(method.output_type)
        full = f"{self._file.package}.{service.name}.{method.name}"
        yield from ("", f'<a id="{full}"></a>', f"#### {service.name}.{method.name}", "", f"{asked} → {answer}", "")
        yield from self._prose(path)
        roles = [access_pb2.Role.Name(role) for role in method.options.Extensions[access_pb2.allowed_to]]
        yield from ("", f"For {', '.join(f'`{role}`' for role in dict.fromkeys((*roles, 'ROLE_ADMIN')))}.")

    def _message(self, message: DescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        if message.field:
            yield from ("", "| field | type | |", "|---|---|---|")
        for index, field in enumerate(message.field):
            choice = ""
            if field.HasField("oneof_index") and not field.proto3_optional:
                choice = f"One of `{message.oneof_decl[field.oneof_index].name}`. "
            told = choice + self._cell((*path, FIELDS, index))
            yield f"| `{field.name}` = {field.number} | {self._type(message, field)} | {told} |"

    def _enum(self, enum: EnumDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield from ("", "| value | |", "|---|---|")
        for index, value in enumerate(enum.value):
            yield f"| `{value.name}` = {value.number} | {self._cell((*path, VALUES, index))} |"

    def _type(self, message: DescriptorProto, field: FieldDescriptorProto) -> str:
        entry = next(
            (one for one in message.nested_type if field.type_name.endswith(f".{message.name}.{one.name}")), None
        )
        if entry is not None and entry.options.map_entry:
            return f"map of {self._type(entry, entry.field[0])} to {self._type(entry, entry.field[1])}"
        name = self._link(field.type_name) if field.type_name else _scalar(field)
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return f"repeated {name}"
        return f"optional {name}" if field.proto3_optional else name

    def _link(self, type_name: str) -> str:
        full = type_name.removeprefix(".")
        short = full.removeprefix(f"{self._file.package}.")
        return f"[{short}](#{full})" if type_name in self._known else f"`{full}`"

    def _prose(self, path: tuple[int, ...]) -> list[str]:
        return [line.removeprefix(" ") for line in self._comments.get(path, "").splitlines()]

    def _cell(self, path: tuple[int, ...]) -> str:
        return " ".join(" ".join(self._prose(path)).split()).replace("|", "\\|")


def _scalar(field: FieldDescriptorProto) -> str:
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _types(file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The full names of messages and enums and where they are, without what only stands for a map."""
    for index, enum in enumerate(file.enum_type):
        yield f"{file.package}.{enum.name}", (ENUMS, index)
    for index, message in enumerate(file.message_type):
        yield from _types_of(message, f"{file.package}.{message.name}", (MESSAGES, index))


def _types_of(message: DescriptorProto, name: str, path: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    if message.options.map_entry:
        return
    yield name, path
    for index, enum in enumerate(message.enum_type):
        yield f"{name}.{enum.name}", (*path, NESTED_ENUMS, index)
    for index, nested in enumerate(message.nested_type):
        yield from _types_of(nested, f"{name}.{nested.name}", (*path, NESTED_MESSAGES, index))


def _at(file: FileDescriptorProto, path: tuple[int, ...]) -> DescriptorProto | EnumDescriptorProto:
    if path[0] == ENUMS:
        return file.enum_type[path[1]]
    element = file.message_type[path[1]]
    for kind, index in zip(path[2::2], path[3::2], strict=True):
        if kind == NESTED_ENUMS:
            return element.enum_type[index]
        element = element.nested_type[index]
    return element


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE).write_text(pages(compiled()))
