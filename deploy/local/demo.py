"""The whole loop on this machine, to watch: people search and click, the service learns, they search again.

`python -m deploy.local.demo [--data DIR] [--keep] [--milvus server]`; `world.py` says what DIR holds.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from deploy.local import report, world
from deploy.local.client import Client
from deploy.local.experiment import Arm, Experiment
from deploy.local.first_call import first_calls
from deploy.local.measure import ndcg
from deploy.local.outcome import outcomes
from deploy.local.processes import StartFailed
from deploy.local.stack import LITE, SERVER, Stack, stop_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.local.experiment import Ranking
    from deploy.local.world import User, World
    from tideline.improvement.v1.improvement_service_pb2 import Run

REPEATS = 2
"""How often everybody types each learned query."""


async def demonstrate(stack: Stack, arm: Arm, people: World, console: Console) -> None:
    """Run the loop once and print what it did."""
    async with Client(stack.clickstream.address, stack.improvement.address, stack.access) as client:
        experiment = Experiment(client, people)
        with console.status(f"writing {len(people.items):,} items with their vectors"):
            await client.create_collection(arm.collection, people)
        with report.progress(console, "searching as nobody", len(experiment.queries)) as advance:
            shown = await experiment.base_rankings(arm.collection, advance)
        recorded = experiment.sessions(arm, shown, REPEATS)
        with report.progress(console, "recording sessions and clicks", len(recorded)) as advance:
            await client.record(recorded, advance)
        run = await learn(client, len(people.users), console)
        with report.progress(console, "searching as each of them", experiment.searches) as advance:
            after = await experiment.personal_rankings(arm, advance)

    console.print(report.run_summary(run, recorded), highlight=False, soft_wrap=True)
    console.print(report.vectors_summary(run), highlight=False)
    console.print("\nNDCG@10 of all searches, before and after:", highlight=False)
    console.print(report.before_and_after(outcomes(people, shown, [after])))
    user, query, place = _most_helped(people, shown, after)
    console.print(report.top_five(people, user, query, shown[query], after[place][query]))


async def learn(client: Client, users: int, console: Console) -> Run:
    """One improvement run, with a bar that goes by users."""
    settled = 0
    with report.progress(console, "learning, person by person", users) as advance:

        def watch(run: Run) -> None:
            nonlocal settled
            advance(run.users.settled - settled)
            settled = run.users.settled

        return await client.run(watch)


def _most_helped(
    people: World, before: dict[int, Ranking], after: Sequence[dict[int, Ranking]]
) -> tuple[User, int, int]:
    """The learned query that gained most, of the user it is of, and the user's place."""

    def gain(found: tuple[User, int, int]) -> float:
        user, query, place = found
        return ndcg(after[place][query], user.relevant[query]) - ndcg(before[query], user.relevant[query])

    return max(
        ((user, query, place) for place, user in enumerate(people.users) for query in user.queries["train"]), key=gain
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description="Search, click, learn and search again, on this machine.")
    arguments.add_argument("--data", type=Path, help="a folder with other people: world.json and vectors.npz")
    arguments.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    arguments.add_argument("--milvus", choices=[LITE, SERVER], default=LITE, help="Milvus Lite, or a Milvus server")
    arguments.add_argument("--secure", action="store_true", help="TLS and API keys, with a throwaway CA")
    chosen = arguments.parse_args()
    stop_on_sigterm()
    console = Console()
    # A name of its own, should the databases be ones that are there already.
    arm = Arm(f"demo_{secrets.token_hex(3)}", seed=1)
    people = world.load(chosen.data or world.CATALOGUE)
    console.print(
        f"{len(people.users)} simulated shoppers with made-up tastes, in a made-up shop"
        if people.simulated
        else f"{len(people.users)} people of {chosen.data}: what they like is real, their clicks are simulated",
        highlight=False,
        soft_wrap=True,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="tideline-demo-") as folder, ExitStack() as running:
            stack = Stack.from_environment(Path(folder), chosen.milvus, secure=chosen.secure)
            with console.status("starting MongoDB, Milvus and both services"):
                running.enter_context(stack)
            asyncio.run(demonstrate(stack, arm, people, console))
            if chosen.keep:
                user = people.users[0]
                print(first_calls(stack, arm.collection, people, user, arm.user_id(user)), flush=True)
                signal.pause()
    except KeyboardInterrupt:
        pass
    except StartFailed as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
