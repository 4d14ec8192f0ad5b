"""Does it help the people who search? Measured through the public RPCs of running services.

`python -m deploy.local.quality [--data DIR] [--seeds 3] [--sessions 2]`; `world.py` says what DIR holds. Everybody
types each learned query a few times and clicks by taste and place; then the service learns. The exit code is 0 when
the change of NDCG@10 over the whole collection, averaged over users and click seeds, is what `TARGETS` wants of the
default adjuster: once with examination by rank as it is taken to be before anything is known, 1 / rank, and once as
`EstimatePropensities` finds it in the recorded clicks of each seed. Other adjusters are shown beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from deploy.local import report, world
from deploy.local.clicks import SHOWN
from deploy.local.client import Client
from deploy.local.demo import learn
from deploy.local.experiment import Arm, Experiment
from deploy.local.outcome import outcomes
from deploy.local.processes import StartFailed
from deploy.local.stack import LITE, SERVER, Stack, stop_on_sigterm

if TYPE_CHECKING:
    from deploy.local.outcome import Outcome
    from deploy.local.world import World

DEFAULT = "bounded_rotation"


@dataclass(frozen=True)
class Way:
    """One way to learn."""

    adjuster: str
    estimated: bool = False
    """Whether examination is estimated from the clicks first."""

    def __str__(self) -> str:
        return f"{self.adjuster}, examination {'estimated from the clicks' if self.estimated else 'taken as 1 / rank'}"


WAYS = (Way(DEFAULT), Way(DEFAULT, estimated=True), Way("torch_based"))
TARGETS = {
    2: {"train": 0.045, "reworded": 0.045, "similar": 0.012, "unrelated": -0.003},
    5: {"train": 0.080, "reworded": 0.080, "similar": 0.018, "unrelated": -0.003},
}
"""The least change of NDCG@10 that the default adjuster must bring, by sessions a learned query and role of query."""
FEWEST_SEEDS = 3


async def measure(
    stack: Stack, people: World, seeds: int, sessions: int, console: Console
) -> dict[Way, dict[str, Outcome]]:
    """The outcomes by way to learn and role of query."""
    # Names of their own, should the databases be ones that are there already.
    collections = {way: f"quality_{secrets.token_hex(3)}_{way.adjuster}" for way in WAYS}
    arms = {way: [_arm(way, name, seed) for seed in range(1, seeds + 1)] for way, name in collections.items()}
    all_arms = [arm for some in arms.values() for arm in some]
    async with Client(stack.clickstream.address, stack.improvement.address) as client:
        experiment = Experiment(client, people)
        for way, collection in collections.items():
            with console.status(f"writing {len(people.items):,} items with their vectors"):
                await client.create_collection(collection, people, way.adjuster)
        with report.progress(console, "searching as nobody", len(experiment.queries)) as advance:
            before = await experiment.base_rankings(all_arms[0].collection, advance)
        recorded = [one for arm in all_arms for one in experiment.sessions(arm, before, sessions)]
        with report.progress(console, "recording sessions and clicks", len(recorded)) as advance:
            await client.record(recorded, advance)
        for arm in all_arms:
            if arm.surface:
                found = await client.estimate_examination(arm.surface, SHOWN)
                said = f"examination by the clicks of seed {arm.seed}: {report.examination_summary(found)}"
                console.print(said, highlight=False, soft_wrap=True)
        run = await learn(client, len(all_arms) * len(people.users), console)
        console.print(report.run_summary(run, recorded), highlight=False, soft_wrap=True)
        with report.progress(console, "searching as each of them", len(all_arms) * experiment.searches) as advance:
            after = {arm: await experiment.personal_rankings(arm, advance) for arm in all_arms}
    return {way: outcomes(people, before, [after[arm] for arm in some]) for way, some in arms.items()}


def _arm(way: Way, collection: str, seed: int) -> Arm:
    surface = f"{collection}/{seed}" if way.estimated else ""
    return Arm(collection, seed, f"{{user_id}}/{collection}/{seed}", surface)


def main() -> None:
    arguments = argparse.ArgumentParser(description="Measure whether learning helps the people who search.")
    arguments.add_argument("--data", type=Path, help="a folder with other people: world.json and vectors.npz")
    arguments.add_argument("--seeds", type=int, default=FEWEST_SEEDS, help="how often all clicks are drawn anew")
    arguments.add_argument("--sessions", type=int, choices=list(TARGETS), default=2, help="sessions a learned query")
    arguments.add_argument("--milvus", choices=[LITE, SERVER], default=LITE, help="Milvus Lite, or a Milvus server")
    chosen = arguments.parse_args()
    if chosen.seeds < FEWEST_SEEDS:
        arguments.error(f"--seeds: at least {FEWEST_SEEDS}")
    stop_on_sigterm()
    console = Console()
    people = world.load(chosen.data or world.CATALOGUE)
    try:
        with tempfile.TemporaryDirectory(prefix="tideline-quality-") as folder, ExitStack() as running:
            stack = Stack.from_environment(Path(folder), chosen.milvus)
            with console.status("starting MongoDB, Milvus and both services"):
                running.enter_context(stack)
            found = asyncio.run(measure(stack, people, chosen.seeds, chosen.sessions, console))
    except StartFailed as failure:
        sys.exit(str(failure))
    targets = TARGETS[chosen.sessions]
    how = f"{len(people.users)} people, {chosen.sessions} sessions a learned query, {chosen.seeds} click seeds"
    console.print(f"\nNDCG@10: {how}", highlight=False)
    missed = []
    for way, by_role in found.items():
        console.print(f"\n{way}", highlight=False)
        wanted = targets if way.adjuster == DEFAULT else report.NO_TARGETS
        console.print(report.before_and_after(by_role, wanted))
        missed += [f"{role} ({way})" for role in wanted if by_role[role].change.mean < wanted[role]]
    sys.exit(f"missed on: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
