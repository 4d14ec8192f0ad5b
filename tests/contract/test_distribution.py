"""What is installed, and what other languages need."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata, resources
from pathlib import Path

from grpc_tools import protoc
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROTOS = sorted(str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos").rglob("*.proto"))


def test_a_wheel_has_typed_stubs_next_to_every_proto(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "tideline/service_config.json" in names
    for proto in PROTOS:
        assert {proto, proto.replace(".proto", "_pb2.py"), proto.replace(".proto", "_pb2.pyi")} <= names
        if proto.endswith("_service.proto"):
            assert {proto.replace(".proto", "_pb2_grpc.py"), proto.replace(".proto", "_pb2_grpc.pyi")} <= names


def test_the_contract_compiles_with_nothing_but_its_own_folder(tmp_path: Path) -> None:
    well_known = resources.files("grpc_tools") / "_proto"  # what every protoc but this one brings by itself
    arguments = ["protoc", f"-I{ROOT / 'protos'}", f"-I{well_known}", f"--descriptor_set_out={tmp_path / 'set'}"]
    assert protoc.main([*arguments, *PROTOS]) == 0


def test_the_clickstream_install_asks_for_nothing_heavy() -> None:
    wanted = {"clickstream", "serve"}
    names = {
        parsed.name
        for requirement in metadata.requires("tideline") or ()
        if (parsed := Requirement(requirement)).marker is None
        or any(parsed.marker.evaluate({"extra": extra}) for extra in wanted)
    }
    assert {"motor", "grpcio"} <= names
    assert not names & {"torch", "pymilvus", "apscheduler", "numpy"}


def test_importing_the_clickstream_service_loads_nothing_heavy() -> None:
    code = (
        "import sys, clickstream_service.app, clickstream_service.cli;"
        "print(sorted({'torch', 'pymilvus', 'apscheduler', 'numpy', 'improvement_service'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_a_client_needs_nothing_that_serves() -> None:
    code = (
        "import sys, tideline.client;"
        "print(sorted({'structlog', 'protovalidate', 'pydantic', 'motor', 'prometheus_client'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_commands_say_what_to_install_for_them() -> None:
    code = "import sys; sys.modules['structlog'] = None; from tideline.cli import main; sys.exit(main(sys.argv[1:]))"

    def run(*words: str) -> tuple[int, str]:
        ran = subprocess.run([sys.executable, "-c", code, *words], check=False, capture_output=True, text=True)
        assert "Traceback" not in ran.stderr
        return ran.returncode, " ".join((ran.stdout + ran.stderr).split())

    wanted = "pip install 'tideline[clickstream]'"
    for words, code_of in (
        (["--help"], 0),
        (["erase", "ann"], 2),
        (["migrate", "clickstream"], 2),
        (["serve", "clickstream"], 2),
    ):
        returned, said = run(*words)
        assert (returned, wanted in said) == (code_of, True), said
    returned, said = run("serve", "improvement")
    assert (returned, "'tideline[improvement]'" in said) == (1, True), said


def test_generated_code_is_not_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files", "*_pb2*"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert listed.stdout == ""
