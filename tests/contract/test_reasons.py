"""Every failure has a public name, a status and a description."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import clickstream_service.domain
import improvement_service.domain
import tideline.errors
from tideline.common.v1.error_reason_pb2 import ErrorReason
from tideline.errors import TidelineError
from tideline.rpc.status import CODES, RETRY_AFTER_S, to_status

PROTO = Path(tideline.errors.__file__).parent / "common/v1/error_reason.proto"
REASONS = [
    name.removeprefix("ERROR_REASON_")
    for name in ErrorReason.DESCRIPTOR.values_by_name
    if not name.endswith("_UNSPECIFIED")
]


def _domain_errors() -> list[type[TidelineError]]:
    modules = [tideline.errors]
    for package in (clickstream_service.domain, improvement_service.domain):
        modules += [
            importlib.import_module(f"{package.__name__}.{found.name}")
            for found in pkgutil.iter_modules(package.__path__)
        ]
    members = (member for module in modules for _, member in inspect.getmembers(module, inspect.isclass))
    return sorted({member for member in members if issubclass(member, TidelineError)}, key=lambda found: found.__name__)


def test_every_reason_has_a_status() -> None:
    assert set(CODES) == set(REASONS)


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_documented_with_its_status_and_an_example(reason: str) -> None:
    comment = re.search(rf"((?:  //.*\n)+)  ERROR_REASON_{reason} = ", PROTO.read_text())
    assert comment is not None
    assert CODES[reason].name in comment[1]
    assert "Example: " in " ".join(line.strip(" /") for line in comment[1].splitlines())
    assert ("with RetryInfo" in comment[1]) == (reason in RETRY_AFTER_S)


@pytest.mark.parametrize("error", _domain_errors(), ids=lambda error: error.__name__)
def test_an_error_of_either_service_has_a_public_reason(error: type[TidelineError]) -> None:
    assert error.reason in REASONS


def test_a_status_names_the_field_to_blame_and_when_to_try_again() -> None:
    blamed = to_status(tideline.errors.InvalidField("must be finite", field="session.query_vector[0]"))
    assert blamed.message == "session.query_vector[0]: must be finite"
    assert [detail.TypeName() for detail in blamed.details] == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]
    busy = to_status(tideline.errors.Overloaded("too much is waiting"))
    assert [detail.TypeName() for detail in busy.details] == ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"]


def test_no_service_raises_a_bare_exception_through_its_rpcs() -> None:
    """Servicers hold no `try`: the interceptor is the one place where errors become statuses."""
    found = [
        path
        for service in (clickstream_service, improvement_service)
        for path in Path(service.__path__[0]).glob("rpc/*_servicer.py")
        if any(isinstance(node, ast.Try) for node in ast.walk(ast.parse(path.read_text())))
    ]
    assert found == []


def test_names_that_a_client_made_up_do_not_fill_the_trailers() -> None:
    status = to_status(tideline.errors.InvalidField("no such name: " + "é" * 20_000, field="k" * 20_000))
    assert status.ByteSize() < 4096
