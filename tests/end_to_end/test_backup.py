"""Backup and restore as deploy/BACKUP.md has it: dump, lose everything, restore, and searches find what they did."""

from __future__ import annotations

import asyncio
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from deploy.local.client import Client
from deploy.local.stack import Stack
from tests.faults.backlog import a_backlog, a_world

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.local.world import World

USERS = 12
COLLECTION = "things"


async def tideline(*arguments: str) -> str:
    """Call the command line and return what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tideline.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def searches(stack: Stack, world: World) -> list[list[tuple[str, float, bool]]]:
    """What everybody, and each user, finds for some queries."""
    async with Client(stack.clickstream.address, stack.improvement.address) as client:
        return [
            [(one.object_id, pytest.approx(one.score, abs=1e-6), one.personal) for one in found]
            for user_id in ("", *(f"user {number}" for number in range(USERS)))
            for query in range(4)
            for found in [await client.search(COLLECTION, world.query_vectors[query], user_id=user_id, limit=20)]
        ]


def back_up(stack: Stack, to: Path) -> None:
    """Copy MongoDB's files while it holds still."""
    with MongoClient[dict[str, Any]](stack.mongo_uri) as client:
        client.admin.command("fsync", lock=True)
        try:
            shutil.copytree(stack.folder / "mongo", to, ignore=shutil.ignore_patterns("mongod.lock"))
        finally:
            client.admin.command("fsyncUnlock")


async def test_after_everything_was_lost_and_restored_searches_find_what_they_did(tmp_path: Path) -> None:
    world, folder, originals = a_world(), tmp_path / "stack", tmp_path / "originals.jsonl.gz"
    with Stack(folder, improvement_settings={"DEVICE": "cpu"}) as stack:
        async with Client(stack.clickstream.address, stack.improvement.address) as client:
            await client.create_collection(COLLECTION, world)
            await client.record(a_backlog(COLLECTION, world, USERS, "user "), lambda _: None)
            await client.run(lambda _: None)
        before = await searches(stack, world)
        said = await tideline("objects", "export", str(originals), "--address", stack.improvement.address)
        assert said.split() == ["objects", str(len(world.items))]
        await asyncio.to_thread(back_up, stack, tmp_path / "mongo")
    assert any(personal for found in before for _, _, personal in found)

    shutil.rmtree(folder)

    folder.mkdir()
    shutil.copytree(tmp_path / "mongo", folder / "mongo")
    with Stack(folder, improvement_settings={"DEVICE": "cpu"}) as stack:
        services = ("--address", stack.improvement.address, "--clickstream", stack.clickstream.address)
        said = await tideline("rebuild", "--originals", str(originals), *services)
        assert said.split() == ["objects", str(len(world.items)), "users", str(USERS), "left", "0"]
        assert await searches(stack, world) == before
