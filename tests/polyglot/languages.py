"""How a client in each language is made from `protos/`: what that takes, and the command that runs what came of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import google.rpc

import tideline
from tideline.clickstream.v1 import session_service_pb2
from tideline.improvement.v1 import search_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.descriptor import FileDescriptor

HERE = Path(__file__).parent
PROTOS = Path(tideline.__file__ or "").parent.parent
GOOGLEAPIS = Path(google.rpc.__path__[0]).parent.parent
"""Where `google/rpc/error_details.proto` is found, which failures are told in."""
DETAILS = ("google/rpc/status.proto", "google/rpc/error_details.proto")

GOCODE = Path("/usr/share/gocode")
JARS = Path("/usr/share/java")
JAVA_PARTS = (
    *(f"grpc-{part}" for part in ("api", "context", "core", "netty", "protobuf", "protobuf-lite", "stub")),
    *(f"netty-{part}" for part in ("buffer", "codec", "codec-http", "codec-http2", "common", "handler", "resolver")),
    *("netty-handler-proxy", "netty-transport", "netty-transport-native-unix-common"),
    *("protobuf", "guava", "perfmark-api", "geronimo-annotation-1.3-spec"),
)
"""Debian's jars that a Java client is made and run with."""


@dataclass(frozen=True)
class Language:
    """`programs` and `files` are what there has to be; `build` makes a client in a folder and returns its command."""

    programs: Sequence[str]
    files: Sequence[Path]
    install: str
    build: Callable[[Path], Sequence[str | Path]]

    def missing(self) -> str:
        """Return why no client can be made here, and what would help; empty when one can."""
        absent = [name for name in self.programs if shutil.which(name) is None]
        absent += [str(path) for path in self.files if not path.exists()]
        return f"no {', '.join(absent)}: {self.install} (.ci/toolchains does)" if absent else ""


def _node(_: Path) -> Sequence[str | Path]:
    # It makes its stubs by itself, as it starts.
    return ["node", HERE / "node" / "client.js"]


def _go(folder: Path) -> Sequence[str | Path]:
    source = folder / "src"
    _protoc(source, "go", "go-grpc", files=_contract())
    # Without modules, Debian's libraries are found where Debian puts them.
    environment = {"GO111MODULE": "off", "GOPATH": f"{folder}:{GOCODE}", "GOFLAGS": ""}
    _do("go", "build", "-o", folder / "client", HERE / "go" / "client.go", environment=environment)
    return [folder / "client"]


def _java(folder: Path) -> Sequence[str | Path]:
    plugin = f"--plugin=protoc-gen-grpc={shutil.which('grpc_java_plugin')}"
    _protoc(folder / "src", plugin, "java", "grpc", files=[*_contract(), *DETAILS])
    classes = ":".join([str(folder), *(str(_jar(part)) for part in JAVA_PARTS)])
    sources = sorted((folder / "src").rglob("*.java"))
    options = ("-proc:none", "-nowarn", "-g:none", "-J-XX:TieredStopAtLevel=1", "-cp", classes, "-d", folder)
    _do("javac", *options, HERE / "java" / "Client.java", *sources)
    return ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", classes, "Client"]


def _cpp(folder: Path) -> Sequence[str | Path]:
    plugin = f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}"
    _protoc(folder, plugin, "cpp", "grpc", files=[*_contract(), *DETAILS])
    # In one piece, the headers of gRPC and protobuf are read once and not a dozen times. What all files call
    # the same has to be told apart then.
    alike = ("schemas", "file_default_instances")
    lines = [f'#include "{HERE / "cpp" / "client.cc"}"']
    for number, part in enumerate(sorted(folder.rglob("*.pb.cc"))):
        lines += [f"#define {name} {name}_{number}" for name in alike]
        lines += [f'#include "{part}"', *(f"#undef {name}" for name in alike)]
    whole = folder / "whole.cc"
    whole.write_text("\n".join(lines) + "\n")
    flags = _do("pkg-config", "--cflags", "--libs", "grpc++", "protobuf").split()
    _do("g++", "-std=c++17", "-O0", "-w", f"-I{folder}", whole, "-o", folder / "client", *flags)
    return [folder / "client"]


LANGUAGES: Mapping[str, Language] = {
    "node": Language(
        programs=("node",),
        files=tuple(HERE / "node" / "node_modules" / "@grpc" / part for part in ("grpc-js", "proto-loader")),
        install="`npm ci --prefix tests/polyglot/node` installs what it needs",
        build=_node,
    ),
    "go": Language(
        programs=("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc"),
        files=tuple(GOCODE / "src" / "google.golang.org" / part for part in ("grpc", "protobuf", "genproto")),
        install="Debian has golang-go, golang-google-grpc-dev, golang-github-golang-protobuf-1-5-dev and their plugins",
        build=_go,
    ),
    "java": Language(
        programs=("java", "javac", "protoc", "grpc_java_plugin"),
        files=tuple(JARS / f"{part}.jar" for part in JAVA_PARTS),
        install="Debian has default-jdk-headless, libgrpc-java, protobuf-compiler-grpc-java-plugin",
        build=_java,
    ),
    "cpp": Language(
        programs=("g++", "pkg-config", "protoc", "grpc_cpp_plugin"),
        files=(Path("/usr/include/grpcpp/grpcpp.h"), Path("/usr/include/google/protobuf/message.h")),
        install="Debian has libgrpc++-dev, libprotobuf-dev and protobuf-compiler-grpc",
        build=_cpp,
    ),
}


def _contract() -> Sequence[str]:
    """The files of the contract that sessions and searches are made of."""
    names: dict[str, None] = {}

    def gather(file: FileDescriptor) -> None:
        for needed in file.dependencies:
            gather(needed)
        if not file.name.startswith("google/"):
            names[file.name] = None

    gather(session_service_pb2.DESCRIPTOR)
    gather(search_service_pb2.DESCRIPTOR)
    return list(names)


def _jar(part: str) -> Path:
    return JARS / f"{part}.jar"


def _protoc(out: Path, *outputs: str, files: Sequence[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    options = [option if option.startswith("--") else f"--{option}_out={out}" for option in outputs]
    _do("protoc", f"-I{PROTOS}", f"-I{GOOGLEAPIS}", *options, *files)


def _do(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
