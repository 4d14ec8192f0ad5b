"""Searches that the improvement service records: what is refused is named as the one who searches knows it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from improvement_service.domain.search import Query, RecordedSearch, Recording
from improvement_service.feedback.client import connected
from tideline.errors import TidelineError

if TYPE_CHECKING:
    from tests.clickstream.conftest import Service


def a_search(session_id: str, search_meta: dict[str, Any] | None = None) -> RecordedSearch:
    recording = Recording(session_id, search_meta)
    vector = np.array([1.0, 2.0], np.float32)
    query = Query(
        collection="products",
        vector=vector,
        text="red shoes",
        user_id="ann",
        limit=10,
        after=None,
        payload_filter={},
        wanted={},
        recording=recording,
    )
    return RecordedSearch(recording, query, vector, (), 1)


async def test_a_recording_that_is_refused_blames_the_field_of_the_search(service: Service) -> None:
    too_deep: dict[str, Any] = {"a": "b"}
    for _ in range(25):
        too_deep = {"a": too_deep}
    async with connected(f"127.0.0.1:{service.port}", timedelta(seconds=10)) as clickstream:
        await clickstream.record(a_search("s1"))
        for search, field in (
            (a_search("s1", {"other": True}), "record_session.session_id"),
            (a_search("s2", too_deep), "record_session.search_meta"),
            (a_search("s2", {"a": "b" * 3_200_000}), "record_session"),
        ):
            with pytest.raises(TidelineError) as refused:
                await clickstream.record(search)
            assert refused.value.field == field
