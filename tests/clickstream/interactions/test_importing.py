"""`tideline import` records what other systems have logged: all of it, once, and says what it could not take."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clickstream_service.commands import exporting_log, importing
from clickstream_service.importers import sending
from clickstream_service.importers.names import Names
from clickstream_service.importers.source import Source
from clickstream_service.importers.ubi import Ubi
from tests.clickstream.calls import create, get, push
from tests.clickstream.conftest import serving
from tests.clickstream.interactions.calls import an_interaction, exported, listed, match, record
from tests.clickstream.samples import a_session, an_event
from tideline.cli import Commands
from tideline.clickstream.v1 import session_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickstream_service.config import Settings
    from clickstream_service.importers.items import Item
    from tests.clickstream.conftest import Clock, Service
    from tideline.clickstream.v1.interaction_pb2 import Interaction
    from tideline.clickstream.v1.session_pb2 import Session

AT = "2024-12-10T00:01:29.378Z"
DATA = Path(os.environ.get("TIDELINE_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
UBI_SAMPLE = DATA / "ubi" / "ubi_queries_events.ndjson.gz"


async def tideline(service: Service, *words: str | Path) -> int:
    """Run a command against the service, and return its exit code."""
    parser = argparse.ArgumentParser()
    commands = Commands(parser)
    importing.register(commands)
    exporting_log.register(commands)
    arguments = parser.parse_args([*map(str, words), "--address", f"127.0.0.1:{service.port}"])
    code: int = await asyncio.to_thread(arguments.run, arguments)
    return code


def lines(path: Path, *objects: dict[str, Any] | str) -> Path:
    """Write one JSON object a line; texts are written as they are."""
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in objects))
    return path


def rejected(path: Path) -> list[tuple[int, str]]:
    """The numbers of rejected lines, and why."""
    kept = path.with_name(path.name + ".rejected")
    if not kept.exists():
        return []
    return [(found["line"], found["reason"]) for found in map(json.loads, kept.read_text().splitlines())]


async def sessions_of(service: Service) -> dict[str, Session]:
    page = await service.sessions.ListSessions(session_service_pb2.ListSessionsRequest(page_size=1000))
    return {session.session_id: session for session in page.sessions}


async def interactions_of(service: Service) -> dict[str, Interaction]:
    return {found.interaction_id: found for found in await exported(service.interactions)}


def a_query(query_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "query_id": query_id,
        "client_id": "ann",
        "user_query": "red shoes",
        "application": "shop",
        "query_attributes": {},
        "timestamp": AT,
        **fields,
    }


def ubi_event(
    action: str, query_id: str, object_id: str = "", ordinal: int | None = None, **fields: Any
) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if object_id:
        attributes["object"] = {"object_id": object_id, "object_id_field": "asin"}
    if ordinal is not None:
        attributes["position"] = {"ordinal": ordinal}
    return {
        "action_name": action,
        "query_id": query_id,
        "client_id": "ann",
        "session_id": "visit",
        "timestamp": AT,
        "event_attributes": attributes,
        **fields,
    }


def test_impressions_and_hits_become_results_in_the_order_shown(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "ubi",
        ubi_event("impression", "q1", "late", 7),
        a_query("q1"),
        ubi_event("impression", "q1", "b", 1),
        ubi_event("impression", "q1", "a", 0),
        ubi_event("impression", "q1", "also", 1),
        ubi_event("impression", "q2", "d", 0),
        a_query("q2", query_response_hit_ids=["x", "y", "x"]),
    )
    found = [item.message for item in Ubi(Names({})).read(Source(path)) if hasattr(item, "message")]
    results = [[(one.object_id, one.rank) for one in each.search_results] for each in found[:2]]
    assert results == [[("a", 1), ("also", 2), ("b", 3), ("late", 8)], [("x", 1), ("y", 2), ("d", 3)]]


def test_ordinals_that_count_from_one_are_told_by_the_hits(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "ubi",
        a_query("one", query_response_hit_ids=["a", "b", "c"]),
        a_query("zero", query_response_hit_ids=["a", "b", "c"]),
        *(ubi_event("impression", "one", object_id, number) for number, object_id in enumerate("abcd", 1)),
        *(ubi_event("impression", "zero", object_id, number) for number, object_id in enumerate("abcd")),
        ubi_event("click", "one", "b", 2),
        ubi_event("click", "zero", "b", 1),
        ubi_event("click", "one", "b", 0),
    )
    found = [item.message for item in Ubi(Names({})).read(Source(path)) if hasattr(item, "message")]
    assert [[(one.object_id, one.rank) for one in each.search_results] for each in found[:2]] == [
        [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    ] * 2
    clicks = [each for each in found[2:] if each.interaction_types == ["click"]]
    assert [each.position if each.HasField("position") else None for each in clicks] == [1, 1, None]


async def test_ubi_queries_become_sessions_and_their_events_what_was_done(service: Service, tmp_path: Path) -> None:
    path = lines(
        tmp_path / "ubi.ndjson",
        {"index": {"_index": "ubi_queries", "_id": "1"}},
        a_query("q1", query_attributes={"device": "phone"}),
        {"index": {"_index": "ubi_events", "_id": "e1"}},
        ubi_event("impression", "q1", "a", 0),
        {"index": {"_index": "ubi_events", "_id": "e2"}},
        ubi_event("item_click", "q1", "a", 0, timestamp=1733788890000),
        {"index": {"_index": "ubi_events", "_id": "e3"}},
        ubi_event("on_search", "q1") | {"event_attributes": {"result_count": 0, "dwell_time": 1.5}},
        {"index": {"_index": "ubi_events", "_id": "e4"}},
        ubi_event("brand_filter", "q1")
        | {"event_attributes": {"object": {"object_id": "f", "object_id_field": "filter_data"}}},
        {"index": {"_index": "ubi_events", "_id": "e5"}},
        ubi_event("purchase", "gone", "b", user_id="bob", user_query="boots"),
    )
    assert await tideline(service, "import", "ubi", path) == 0
    [session] = (await sessions_of(service)).values()
    assert (session.session_id, session.user_id, session.search_query.text) == ("q1", "ann", "red shoes")
    assert session.created_at.ToDatetime(UTC) == datetime(2024, 12, 10, 0, 1, 29, 378000, tzinfo=UTC)
    assert [one.object_id for one in session.search_results] == ["a"]
    assert dict(session.search_meta["query_attributes"]) == {"device": "phone"}

    found = await interactions_of(service)
    assert {name: (one.session_id, one.feature_id, list(one.interaction_types)) for name, one in found.items()} == {
        "e1": ("q1", "a", ["view"]),
        "e2": ("q1", "a", ["click"]),
        "e3": ("q1", "", ["on_search", "zero_results"]),
        "e4": ("q1", "", ["filter_toggle"]),
        "e5": ("", "b", ["purchase"]),
    }
    assert (found["e2"].position, found["e2"].user_id, found["e2"].query_text) == (0, "ann", "red shoes")
    assert found["e2"].occurred_at.ToDatetime(UTC) == datetime(2024, 12, 10, 0, 1, 30, tzinfo=UTC)
    assert (found["e3"].result_set_size, found["e3"].duration.ToTimedelta()) == (0, timedelta(seconds=1.5))
    assert (found["e5"].user_id, found["e5"].query_text, found["e5"].metadata["query_id"]) == ("bob", "boots", "gone")
    assert (found["e4"].metadata["action_name"], found["e4"].metadata["session_id"]) == ("brand_filter", "visit")
    assert rejected(path) == []


async def test_requests_under_one_query_id_are_one_session_of_the_one_that_returned_most(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(
        tmp_path / "ubi.ndjson",
        a_query("q1", user_query="red", timestamp="2024-12-10T00:00:02Z"),
        a_query("q1", query_response_hit_ids=["a", "b"], timestamp="2024-12-10T00:00:03Z"),
        a_query("q1", user_query="re", timestamp="2024-12-10T00:00:01Z"),
    )
    assert await tideline(service, "import", "ubi", path) == 0
    [session] = (await sessions_of(service)).values()
    assert (session.search_query.text, len(session.search_results)) == ("red shoes", 2)
    assert session.created_at.ToDatetime(UTC) == datetime(2024, 12, 10, 0, 0, 1, tzinfo=UTC)
    assert "2 queries that are one with another" in capsys.readouterr().out


@pytest.mark.skipif(
    not UBI_SAMPLE.exists(), reason="the sample of UBI is not here; TIDELINE_TEST_DATA names its folder"
)
async def test_the_sample_of_ubi_is_imported_whole(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ubi.ndjson.gz"
    path.write_bytes(UBI_SAMPLE.read_bytes())
    with gzip.open(path, "rt") as file:
        documents = [document for document in map(json.loads, file) if len(document) > 1]
    queries = [document for document in documents if "action_name" not in document]
    events = [document for document in documents if "action_name" in document]
    known = {query["query_id"] for query in queries}

    assert await tideline(service, "import", "ubi", path) == 0
    said = capsys.readouterr().out
    assert f"{len(known)} sessions recorded, 0 were there" in said
    assert f"{len(events):,} interactions recorded, 0 were there" in said
    assert f"{len(queries) - len(known)} queries that are one with another" in said
    assert "0 rejected" in said

    sessions, found = await sessions_of(service), await interactions_of(service)
    assert sessions.keys() == known
    assert Counter(one.session_id for one in found.values() if one.session_id) == Counter(
        event["query_id"] for event in events if event["query_id"] in known
    )
    assert Counter(str(one.metadata["action_name"]) for one in found.values()) == Counter(
        event["action_name"] for event in events
    )
    # What was shown to an earlier version of a query is not among the results of the one that its session tells.
    shown = {name: {one.object_id: one.rank for one in session.search_results} for name, session in sessions.items()}
    clicks = [one for one in found.values() if "click" in one.interaction_types and one.session_id]
    in_place = [one for one in clicks if shown[one.session_id].get(one.feature_id) == one.position + 1]
    assert len(in_place) > len(clicks) * 0.8

    assert await tideline(service, "import", "ubi", path) == 0
    assert f"0 interactions recorded, {len(events):,} were there" in capsys.readouterr().out
    assert len(await interactions_of(service)) == len(events)


async def test_metarank_rankings_become_sessions_and_interactions_their_events(
    service: Service, tmp_path: Path
) -> None:
    common = {"timestamp": "1599391467000", "user": "ann", "session": "visit"}
    path = lines(
        tmp_path / "events.jsonl",
        {"event": "item", "id": "m1", "item": "a", "timestamp": "1599391467000", "fields": []},
        {
            "event": "ranking",
            "id": "r1",
            **common,
            "fields": [{"name": "query", "value": "jedi"}, {"name": "source", "value": "search"}],
            "items": [{"id": "b", "relevancy": 2.5}, {"id": "a", "fields": [{"name": "relevancy", "value": 1}]}],
        },
        {"event": "interaction", "id": "i1", **common, "ranking": "r1", "type": "click", "item": "a", "fields": []},
        {"event": "interaction", "id": "i2", **common, "ranking": "elsewhere", "type": "Purchase", "item": "b"},
        {"event": "interaction", "id": "i3", **common, "type": "add-to-cart", "item": "b"},
        {"event": "interaction", "id": "i4", **common, "type": "click"},
        {"event": "party", "id": "i5"},
    )
    assert await tideline(service, "import", "metarank", path) == 1
    [session] = (await sessions_of(service)).values()
    assert (session.session_id, session.search_query.text, session.user_id) == ("r1", "jedi", "ann")
    assert [(one.object_id, one.rank, one.score) for one in session.search_results] == [("b", 1, 2.5), ("a", 2, 1)]
    assert session.search_meta["fields"]["source"] == "search"
    found = await interactions_of(service)
    assert {name: (one.session_id, list(one.interaction_types), one.user_id) for name, one in found.items()} == {
        "i1": ("r1", ["click"], "ann"),
        "i2": ("", ["purchase"], "ann"),
        "i3": ("", ["add_to_cart"], "ann"),
    }
    assert found["i2"].metadata["ranking"] == "elsewhere"
    assert rejected(path) == [(6, "item is missing"), (7, "event is not one of ranking, interaction, item and user")]


async def test_rows_of_personalize_stand_alone(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "interactions.csv"
    path.write_text(
        "\ufeffUSER_ID,ITEM_ID,EVENT_TYPE,TIMESTAMP,IMPRESSION,LOCATION\n"
        "35,73,Click,1586731606,72|73|70,Ohio\n"
        "\n"
        '54,"3,5",,1586731609,,"a ""b"""\n'
        "54,35,Watch,1586731610,,\n"
        "54,35,Watch,soon,,\n"
        ",35,Watch,1586731610,,\n"
        "54,35\n"
    )
    assert await tideline(service, "import", "personalize", path, "--type", "Watch=long_view") == 1
    found = sorted(await exported(service.interactions), key=lambda one: one.occurred_at.seconds)
    assert [(one.user_id, one.feature_id, list(one.interaction_types)) for one in found] == [
        ("35", "73", ["click"]),
        ("54", "3,5", ["click"]),
        ("54", "35", ["long_view"]),
    ]
    first = found[0]
    assert (first.position, first.result_set_size, first.occurred_at.seconds) == (1, 3, 1586731606)
    assert (first.metadata["location"], list(first.metadata["impression"])) == ("Ohio", ["72", "73", "70"])
    assert found[1].metadata["location"] == 'a "b"'
    assert not found[1].HasField("position")
    assert rejected(path) == [
        (6, "TIMESTAMP is no time"),
        (7, "USER_ID is missing"),
        (8, "has 2 values where the header has 6"),
    ]


async def test_a_file_that_is_something_else_is_refused(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "interactions.csv", "a,b,c", "1,2,3")
    assert await tideline(service, "import", "personalize", path) == 1
    assert "the header has no USER_ID, ITEM_ID, TIMESTAMP" in capsys.readouterr().err
    assert await tideline(service, "import", "personalize", tmp_path / "missing.csv") == 1
    damaged = tmp_path / "damaged.gz"
    damaged.write_bytes(gzip.compress(b"x" * 1000)[:-20])
    assert await tideline(service, "import", "metarank", damaged) == 1


async def test_what_was_exported_is_the_same_when_it_is_imported_elsewhere(
    service: Service, settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    session = a_session("s1", query_vector=[0.1, -2.5], search_meta={"device": "phone"})
    await create(service.sessions, session)
    await create(service.sessions, a_session("s2"))
    await create(service.sessions, a_session("gone"))
    event = an_event("e1", "elsewhere", position=3, dwell=timedelta(seconds=2))
    event.meta.update({"a.b": [1.5, None]})
    await push(service.sessions, "s1", [event])
    await push(service.sessions, "gone", [an_event("e1")])
    mark = session_service_pb2.MarkSessionIrrelevantRequest(session_id="gone", reason="test")
    await service.sessions.MarkSessionIrrelevant(mark)
    await record(service.interactions, an_interaction("i1", user_id="bob", query_text="boots", document_score=0.5))
    path = tmp_path / "log.jsonl.gz"
    assert await tideline(service, "export-log", path) == 0

    clock.advance(timedelta(days=30))
    elsewhere = settings.model_copy(update={"mongo_database": settings.mongo_database + "_b"})
    async with serving(elsewhere, clock) as other:
        assert await tideline(other, "import", "tideline", path) == 0
        assert await exported(other.interactions) == await exported(service.interactions)
        assert (await sessions_of(other)).keys() == {"s1", "s2"}
        for session_id in ("s1", "s2"):
            here, there = await get(service.sessions, session_id), await get(other.sessions, session_id)
            for found in (here, there):
                found.session.ClearField("batch_id")
                found.session.ClearField("session_number")
            assert here == there
        assert await tideline(other, "import", "tideline", path) == 0
        assert len(await exported(other.interactions)) == 2


async def test_bad_lines_are_counted_and_kept_with_their_reason(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    future = {"interactionId": "new", "interactionTypes": ["click"], "occurredAt": "2999-01-01T00:00:00Z"}
    path = lines(
        tmp_path / "log.jsonl",
        {"interaction": {"interactionId": "good", "interactionTypes": ["click"], "occurredAt": AT}},
        "no json",
        "",
        '{"interaction": {"interactionId": "deep", "metadata": {"a": NaN}}}',
        "[" * 100_000,
        {"interaction": {"interactionId": "many", "interactionTypes": [], "occurredAt": AT}},
        {"interaction": {"interactionTypes": ["click"]}},
        {"interaction": {"interactionId": "what", "color": "red"}},
        {"interaction": future},
        {"session": {"sessionId": "s1", "searchResults": [{"objectId": "a"}, {"objectId": "a"}], "createdAt": AT}},
        {"interaction": {"interactionId": "lost", "interactionTypes": ["click"], "sessionId": "s1", "occurredAt": AT}},
        {"something": {}},
    )
    with path.open("ab") as file:
        file.write(b'{"interaction": "\xff"}\n')
    assert await tideline(service, "import", "tideline", path) == 1
    assert "11 rejected" in capsys.readouterr().out
    found = dict(sorted(rejected(path)))
    assert {line: reason.split(": ")[0] for line, reason in found.items()} == {
        2: "is not JSON",
        4: "is not JSON",
        5: "is not JSON",
        6: "INVALID_FIELD",
        7: "the interaction has no id",
        8: "does not fit the contract",
        9: "TIME_OUT_OF_RANGE",
        10: "INVALID_FIELD",
        11: "SESSION_NOT_FOUND",
        12: 'is neither {"session"',
        13: "is not UTF-8",
    }
    assert found[6].startswith("INVALID_FIELD: interaction_types: ")
    assert found[10].startswith("INVALID_FIELD: search_results[1].object_id: ")
    kept = {each["line"]: each["text"] for each in map(json.loads, path.with_name("log.jsonl.rejected").open())}
    assert kept[2] == "no json"
    assert json.loads(kept[9]) == future
    assert list(await interactions_of(service)) == ["good"]
    assert await tideline(service, "import", "tideline", path, "--allow-rejected") == 0


async def test_an_interrupted_import_goes_on_where_it_was(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sending, "BATCH", 10)
    events = [ubi_event("click", "q1", "a") for _ in range(200)]
    for number in (33, 150):
        events[number]["timestamp"] = "never"
    path = lines(tmp_path / "ubi.ndjson", a_query("q1"), *events)
    read = Ubi.read

    def interrupted(self: Ubi, source: Source) -> Iterator[Item]:
        for number, item in enumerate(read(self, source)):
            if number == 105:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(Ubi, "read", interrupted)
    assert await tideline(service, "import", "ubi", path) == 130
    assert "run it again to go on" in capsys.readouterr().err
    checkpoint = path.with_name("ubi.ndjson.checkpoint")
    done = json.loads(checkpoint.read_text())["progress"]["done"]
    assert 0 < done <= 100
    # What a run that was killed has written behind its last checkpoint.
    with path.with_name("ubi.ndjson.rejected").open("a") as file:
        file.write('{"half a line')

    sent: list[int] = []
    again = sending.Sender.send
    monkeypatch.setattr(Ubi, "read", read)
    monkeypatch.setattr(
        sending.Sender, "send", lambda self, items: again(self, (sent.append(item.line) or item for item in items))
    )
    assert await tideline(service, "import", "ubi", path) == 1
    assert len(sent) == 201 - done
    said = capsys.readouterr().out
    assert "2 rejected" in said
    assert len(await listed(service.interactions, filter=match(feature_ids=["a"]), page_size=1000)) == 198
    assert rejected(path) == [(35, "timestamp is no time"), (152, "timestamp is no time")]
    assert not checkpoint.exists()


async def test_a_checkpoint_of_another_file_is_none(service: Service, tmp_path: Path) -> None:
    path = lines(tmp_path / "ubi.ndjson", a_query("q1"), a_query("q2"))
    kept = {"job": "another", "progress": {"done": 2}}
    checkpoint = tmp_path / "elsewhere"
    checkpoint.write_text(json.dumps(kept))
    assert await tideline(service, "import", "ubi", path, "--checkpoint", checkpoint) == 0
    assert (await sessions_of(service)).keys() == {"q1", "q2"}


async def test_a_service_that_is_not_there_is_said_in_a_line(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sending, "PATIENCE_S", 0.2)
    service.port = 1
    assert await tideline(service, "import", "ubi", lines(tmp_path / "ubi.ndjson", a_query("q1"))) == 1
    assert "UNAVAILABLE; run it again to go on" in capsys.readouterr().err
