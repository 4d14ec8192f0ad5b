"""Embedders, adjusters and session filters that somebody else installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.improvement.cycle.loop import OBJECTS, QUERY, Loop, object_vectors
from tideline.clickstream.v1 import session_pb2
from tideline.improvement.v1 import improvement_service_pb2 as pb
from tideline.improvement.v1 import object_pb2

if TYPE_CHECKING:
    from pathlib import Path

TOY = """
import numpy as np


class Embedder:
    def embed(self, texts):
        if "spoilt" in texts:
            raise ValueError("cannot embed this")
        return np.array([[float(len(text))] + [0.0] * 7 for text in texts])


class Adjuster:
    def __init__(self, metric, aggregation, parameters, device):
        pass

    def adjust(self, evidence):
        # Chokes on whoever asked for this.
        if (evidence.queries[:, 0] == len("choke")).any():
            raise ZeroDivisionError
        return evidence.vectors[:, ::-1].copy()


class Filter:
    def __init__(self, rules):
        pass

    def judge(self, session):
        from improvement_service.domain.feedback import Verdict

        if session.search_meta.get("surface") == "broken":
            raise KeyError("surface")
        return Verdict("wrong_surface") if session.search_meta.get("surface") == "kiosk" else Verdict()
"""
ENTRY_POINTS = """
[tideline.embedders]
toy = toy_plugins:Embedder
[tideline.adjusters]
toy = toy_plugins:Adjuster
[tideline.session_filters]
toy = toy_plugins:Filter
"""


@pytest.fixture
def _toy_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with a plug-in of each kind."""
    (tmp_path / "toy_plugins.py").write_text(TOY)
    info = tmp_path / "toy_plugins-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugins\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)


def text(words: str) -> session_pb2.SearchQuery:
    return session_pb2.SearchQuery(text=words)


@pytest.mark.usefixtures("_toy_plugins")
@pytest.mark.parametrize("loop", [{"embedder": "toy"}], indirect=True)
async def test_queries_that_come_as_text_are_embedded_and_one_that_cannot_be_fails_alone(loop: Loop) -> None:
    await loop.record("ann", OBJECTS[1], query=[], search_query=text("boots"))
    await loop.record("bob", OBJECTS[1], query=[], search_query=text("spoilt"))
    await loop.record("cid", OBJECTS[1], query=[], search_query=text("shoes"))

    run = await loop.worker.run()

    assert run.sessions == pb.SessionCounts(done=2, failed=1, by_reason={"embedding_failed": 1})
    assert await loop.personal("ann") == await loop.personal("cid") != {}
    found = await loop.search("ann", query_vector=[], text="boots")
    assert any(result.personal for result in found)


@pytest.mark.usefixtures("_toy_plugins")
async def test_an_adjuster_that_fails_for_one_user_fails_for_nobody_else(loop: Loop) -> None:
    name = f"{loop.collection}_toy"
    await loop.create_collection(name, adjuster=object_pb2.Adjuster(name="toy"))
    choke = [float(len("choke")), *[0.0] * 7]
    for user_id, query in (("ann", QUERY), ("bob", choke), ("cid", QUERY)):
        await loop.record(user_id, OBJECTS[0], collection=name, query=query)

    run = await loop.worker.run()

    assert run.users == pb.UserCounts(leased=3, settled=2, failed=1)
    assert run.sessions == pb.SessionCounts(done=2, failed=1, by_reason={"adjust_failed": 1})
    assert await loop.personal("bob", name) == {}
    [moved] = (await loop.personal("ann", name))[OBJECTS[0]]
    assert moved == pytest.approx(object_vectors()[0][::-1].tolist())


@pytest.mark.usefixtures("_toy_plugins")
@pytest.mark.parametrize("loop", [{"session_filter": "toy"}], indirect=True)
async def test_another_filter_may_have_reasons_of_its_own_and_may_fail(loop: Loop) -> None:
    for user_id, surface in (("ann", "kiosk"), ("bob", "broken"), ("cid", "web")):
        await loop.record(user_id, OBJECTS[0], search_meta={"surface": surface})

    run = await loop.worker.run()

    by_reason = {"wrong_surface": 1, "filter_failed": 1}
    assert run.sessions == pb.SessionCounts(done=1, skipped=1, failed=1, by_reason=by_reason)
