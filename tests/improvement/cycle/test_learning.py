"""What a run learns, as searches and objects show it afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from tests.improvement.cycle.loop import OBJECTS, QUERY, Loop, object_vectors
from tideline.improvement.v1 import improvement_service_pb2 as pb
from tideline.improvement.v1 import object_pb2

SUCCEEDED = pb.RUN_STATE_SUCCEEDED


async def test_a_click_moves_what_was_clicked_and_what_was_passed_over_for_that_user_only(loop: Loop) -> None:
    everybody = await loop.search()
    await loop.record("ann", OBJECTS[3])

    run = await loop.worker.run()

    assert run.state == SUCCEEDED
    assert run.trigger == pb.RUN_TRIGGER_REQUEST
    assert run.users == pb.UserCounts(leased=1, settled=1)
    assert run.sessions == pb.SessionCounts(done=1)
    assert run.vectors_moved == 4
    assert 0 < run.mean_angle < run.max_angle <= 0.15 + 1e-6
    assert set(await loop.personal("ann")) == set(OBJECTS[:4])
    base = {result.object_id: result.score for result in everybody}
    found = {result.object_id: result for result in await loop.search("ann")}
    assert found[OBJECTS[3]].score > base[OBJECTS[3]]
    for passed_over in OBJECTS[:3]:
        assert found[passed_over].score < base[passed_over]
    assert {o: r.base_score for o, r in found.items()} == pytest.approx(base)
    assert await loop.search() == await loop.search("bob") == everybody


async def test_running_again_for_the_same_sessions_changes_nothing(loop: Loop) -> None:
    for user_id in ("ann", "bob"):
        await loop.record(user_id, OBJECTS[2])
        await loop.record(user_id, OBJECTS[5], OBJECTS[6], query=object_vectors()[0].tolist())
    await loop.worker.run()
    first = [await loop.personal("ann"), await loop.personal("bob")]
    await loop.requeue("ann", "bob")

    again = await loop.worker.run()

    assert again.users.settled == 2
    assert again.copies_removed == 0
    assert [await loop.personal("ann"), await loop.personal("bob")] == first


async def test_what_is_learned_does_not_depend_on_how_sessions_are_spread_over_runs(loop: Loop) -> None:
    clicks = [(OBJECTS[number], object_vectors()[number].tolist()) for number in (1, 4, 7)]
    for clicked, query in clicks:
        await loop.record("all at once", clicked, query=query)
    await loop.worker.run()
    for clicked, query in clicks:
        await loop.record("bit by bit", clicked, query=query)
        await loop.worker.run()

    one, other = await loop.personal("all at once"), await loop.personal("bit by bit")
    assert one.keys() == other.keys()
    for object_id, parts in one.items():
        np.testing.assert_allclose(other[object_id], parts, atol=1e-6)


async def test_a_session_marked_irrelevant_is_unlearned_by_the_next_run(loop: Loop) -> None:
    kept = await loop.record("ann", OBJECTS[1])
    await loop.worker.run()
    before = await loop.personal("ann")
    mistaken = await loop.record("ann", OBJECTS[5])
    await loop.worker.run()
    assert len(await loop.personal("ann")) == 6

    await loop.mark_irrelevant(mistaken)
    run = await loop.worker.run()

    assert run.copies_removed == 4
    assert await loop.personal("ann") == before
    await loop.mark_irrelevant(kept)
    await loop.worker.run()
    assert await loop.personal("ann") == {}
    assert not any(result.personal for result in await loop.search("ann"))


async def test_a_user_learns_in_each_collection_apart(loop: Loop) -> None:
    other = f"{loop.collection}_other"
    await loop.create_collection(other, metric=object_pb2.METRIC_DOT)
    await loop.record("ann", OBJECTS[1])
    elsewhere = await loop.record("ann", OBJECTS[2], collection=other)
    await loop.worker.run()
    assert set(await loop.personal("ann")) == set(OBJECTS[:2])
    assert set(await loop.personal("ann", other)) == set(OBJECTS[:3])

    await loop.mark_irrelevant(elsewhere)
    await loop.worker.run()

    assert set(await loop.personal("ann")) == set(OBJECTS[:2])
    assert await loop.personal("ann", other) == {}


@pytest.mark.parametrize("loop", [{"chunk_users": 3, "chunk_vectors": 10}], indirect=True)
async def test_many_users_in_small_chunks_are_all_learned_from(loop: Loop) -> None:
    users = [f"user {number}" for number in range(25)]
    for number, user_id in enumerate(users):
        await loop.record(user_id, OBJECTS[number % 12])

    run = await loop.worker.run()

    assert run.users == pb.UserCounts(leased=25, settled=25)
    for number, user_id in enumerate(users):
        assert set(await loop.personal(user_id)) == set(OBJECTS[: number % 12 + 1])


async def test_what_was_only_looked_at_moves_nothing_and_what_was_turned_down_moves_away(loop: Loop) -> None:
    await loop.record("ann", OBJECTS[3], events={OBJECTS[0]: "view", OBJECTS[8]: "negative_feedback"})

    await loop.worker.run()

    copies = await loop.personal("ann")
    assert set(copies) == {OBJECTS[1], OBJECTS[2], OBJECTS[3], OBJECTS[8]}
    before = object_vectors()[8] @ np.array(QUERY)
    assert np.array(copies[OBJECTS[8]][0]) @ np.array(QUERY) < before


async def test_a_run_that_finds_nothing_is_recorded_when_it_was_asked_for(loop: Loop) -> None:
    run = await loop.worker.run()

    assert run.state == SUCCEEDED
    assert run.users == pb.UserCounts()
    assert run.HasField("finished_at")


@pytest.mark.parametrize("adjuster", ["bounded_rotation", "torch_based"])
async def test_every_adjuster_that_is_installed_can_be_chosen_for_a_collection(loop: Loop, adjuster: str) -> None:
    name = f"{loop.collection}_{adjuster}"
    await loop.create_collection(name, adjuster=object_pb2.Adjuster(name=adjuster))
    await loop.record("ann", OBJECTS[2], collection=name)

    run = await loop.worker.run()

    assert run.sessions == pb.SessionCounts(done=1)
    assert set(await loop.personal("ann", name)) == set(OBJECTS[:3])


async def test_changed_originals_are_learned_anew(loop: Loop) -> None:
    await loop.record("ann", OBJECTS[2])
    await loop.worker.run()
    changed = object_vectors(seed=4)
    await loop.upsert(changed)
    assert await loop.personal("ann") == {}, "copies of what is no more are dropped at once"

    await loop.worker.run()

    for object_id, parts in (await loop.personal("ann")).items():
        cosine = float(np.array(parts[0]) @ changed[OBJECTS.index(object_id)])
        assert np.cos(0.15) - 1e-5 <= cosine < 1 - 1e-5


async def test_a_session_as_large_as_they_get_is_learned_from(loop: Loop) -> None:
    shown = [*(f"elsewhere {number}" for number in range(988)), *OBJECTS]
    session_id = await loop.record("ann", shown=shown, submit=False)
    await loop.act(session_id, OBJECTS[-1], times=5_000)

    await loop.submit(session_id)
    run = await loop.worker.run()

    assert run.sessions == pb.SessionCounts(done=1)
    assert set(await loop.personal("ann")) == set(OBJECTS)
