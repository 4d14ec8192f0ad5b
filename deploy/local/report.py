"""What the demo and the quality harness print."""

from __future__ import annotations

from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.local.measure import ndcg
from deploy.local.world import ROLES, User, World
from tideline.clickstream.v1.propensity_service_pb2 import PropensityMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console

    from deploy.local.client import Recorded
    from deploy.local.experiment import Ranking
    from deploy.local.outcome import Outcome
    from tideline.clickstream.v1.propensity_service_pb2 import Propensities
    from tideline.improvement.v1.improvement_service_pb2 import Run

NO_TARGETS: Mapping[str, float] = MappingProxyType({})


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar; yields a function that moves it on by so many."""
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def run_summary(run: Run, recorded: Sequence[Recorded]) -> str:
    """What was recorded and what was learned from it."""
    took = run.finished_at.ToDatetime() - run.started_at.ToDatetime()
    clicks = sum(len(one.clicked) for one in recorded)
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(run.sessions.by_reason.items()))
    return (
        f"{len(recorded):,} sessions with {clicks:,} clicks; learned from {run.sessions.done:,} sessions of "
        f"{run.users.settled:,} people in {took.total_seconds():.1f} s"
        + (f" (left out: {left_out})" if left_out else "")
    )


def vectors_summary(run: Run) -> str:
    """How many vectors a run moved, and how far."""
    return f"{run.vectors_moved:,} personal vectors, turned by {run.mean_angle:.3f} rad on average"


def examination_summary(found: Propensities, ranks: Sequence[int] = (2, 5, 10, 20)) -> str:
    """How examination was estimated, and what came out, beside the 1 / rank that clicks are drawn with."""
    method = PropensityMethod.Name(found.method).removeprefix("PROPENSITY_METHOD_").lower().replace("_", " ")
    curve = ", ".join(
        f"{found.ranks[rank - 1].examination:.2f} ({1 / rank:.2f}) at rank {rank}"
        for rank in ranks
        if rank <= len(found.ranks)
    )
    floor = ", too little data to estimate it" if found.below_floor else ""
    return f"{found.session_count:,} sessions, {method}{floor}: {curve}"


def before_and_after(found: Mapping[str, Outcome], targets: Mapping[str, float] = NO_TARGETS) -> Table:
    """NDCG@10 on each kind of query, without and with what was learned, and the change that is wanted of it."""
    table = Table("queries", box=box.SIMPLE_HEAD)
    for column in ("before", "after", "change", "95 % interval", *(["wanted", ""] if targets else [])):
        table.add_column(column, justify="right")
    for role, outcome in found.items():
        change = outcome.change
        cells = [
            ROLES[role],
            f"{outcome.before:.3f}",
            f"{outcome.after:.3f}",
            f"{change.mean:+.3f}",
            f"{change.low:+.3f} to {change.high:+.3f}",
        ]
        if targets:
            cells += [f"{targets[role]:+.3f}", "met" if change.mean >= targets[role] else "[red]missed[/]"]
        table.add_row(*cells)
    return table


def top_five(world: World, user: User, query: int, before: Ranking, after: Ranking) -> Table:
    """The first five results of one query for one user, without and with what was learned."""
    table = Table(
        title=f"Where it helped most: {user.user_id} searches for “{world.queries[query]}”", box=box.SIMPLE_HEAD
    )
    table.add_column("", justify="right")
    table.add_column(f"before (NDCG@10 {ndcg(before, user.relevant[query]):.2f})")
    table.add_column(f"after (NDCG@10 {ndcg(after, user.relevant[query]):.2f})")

    def shown(row: int) -> str:
        title = world.items[row]["title"]
        return f"[bold green]✓ {title}[/]" if row in user.relevant[query] else f"  {title}"

    for place, (old, new) in enumerate(zip(before[:5], after[:5], strict=True), start=1):
        table.add_row(str(place), shown(old), shown(new))
    table.caption = "✓ what this user is glad to find"
    return table
