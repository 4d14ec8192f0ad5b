"""Generates the Python stubs, with types, next to each `.proto`: as a hatch build hook, or run by itself."""

from __future__ import annotations

import sys
import sysconfig
from importlib import resources
from pathlib import Path
from typing import Any

PROTOS = Path(__file__).parent


def generate() -> None:
    """Run protoc over every `.proto` below this folder; raises `RuntimeError` when one does not compile."""
    # Here and not above: the tools are there while the package is built, not where it is installed.
    from grpc_tools import protoc  # noqa: PLC0415

    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    scripts = Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))
    plugins = [
        f"--plugin={name}={folder / name}"
        for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
        for folder in dict.fromkeys(scripts)
        if (folder / name).exists()
    ]
    arguments = [
        "protoc",
        f"-I{PROTOS}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        *plugins,
        *(f"--{kind}_out={PROTOS}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *files,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc could not compile the contract; its messages are above")
    for empty in PROTOS.rglob("*_pb2_grpc.py*"):
        if "Stub" not in empty.read_text():
            empty.unlink()


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run by hand where hatchling is not installed
    pass
else:

    class StubsBuildHook(BuildHookInterface):  # type: ignore[type-arg,misc,unused-ignore]
        """Makes the stubs part of every wheel and every editable install."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
            """Generate before the files of the distribution are collected."""
            generate()


if __name__ == "__main__":
    generate()
