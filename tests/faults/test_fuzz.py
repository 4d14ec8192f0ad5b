"""The fuzz run in its short form, and what its long form (`make fuzz`) has found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from deploy.local.stack import Stack
from tests.faults.calling import answer, methods
from tests.faults.fuzz import SETTINGS, Fuzz, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUESTS = 600

FOUND = {
    # A threshold of more seconds than a timedelta holds was INTERNAL.
    "UpdateStrengths": "121508ffffffffffffffff7f1080808080f8ffffffff011863",
}


@pytest.fixture
def stack(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path, mongo_uri=mongo_uri, database=database_name, clickstream_settings=SETTINGS) as stack:
        yield stack


async def test_requests_that_were_tampered_with_are_answered_as_the_contract_says(
    stack: Stack, database_name: str
) -> None:
    fuzz = Fuzz(stack, seed=7, database=database_name)
    await prepare(stack)
    await fuzz.run(REQUESTS)
    assert fuzz.found == []
    assert sum(fuzz.counts.values()) == REQUESTS
    assert fuzz.compared

    known = {method.descriptor.name: method for method in methods()}
    for name, raw in FOUND.items():
        service = getattr(stack, known[name].service)
        async with grpc.aio.insecure_channel(service.address) as channel:
            with grpc.insecure_channel(service.address) as blocking:
                code, complaint = await answer((channel, blocking), known[name], [bytes.fromhex(raw)])
        assert (code, complaint) == (grpc.StatusCode.INVALID_ARGUMENT, "")
