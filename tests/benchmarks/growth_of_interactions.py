"""What does it cost when there is ten times as much? Import, rollups, signals, position bias, exports at several sizes.

    python -m tests.benchmarks.growth_of_interactions [--sizes 500000 5000000] [--folder DIR]

On a MongoDB and a clickstream service of its own, as the local stack starts them; a month of generated interactions
goes in by `tideline import` and comes out by `tideline export`. Prints how long each step took, the peak of resident
memory of the service, of the command and of MongoDB meanwhile, and, with several sizes, how the cost of an interaction
grows from the smallest to the largest. Exit code 1 when a step took 1 GiB in the service or the command, or a question
about signals read more than rollups.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc
from pymongo import MongoClient

from deploy.local.mongod import Mongod
from deploy.local.service import Service
from deploy.local.stack import stop_on_sigterm
from tests.benchmarks import generated_log
from tests.benchmarks.counted import counted
from tests.faults.slow_readers import memory_mb
from tideline.clickstream.v1 import propensity_service_pb2 as propensity_pb
from tideline.clickstream.v1 import signal_pb2
from tideline.clickstream.v1 import signal_service_pb2 as pb
from tideline.clickstream.v1.propensity_service_pb2_grpc import PropensityServiceStub
from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SIZES = (500_000, 5_000_000)
DATABASE = "growth_clickstream"
MEMORY_LIMIT = 1024
"""MiB, of the service and of a command."""
TIMES_ASKED = 5
PATIENCE_S = 24 * 3600.0
RECORDED = ("sessions", "session_events", "oplog.rs")
EXPORTS = (("training-pairs", "parquet"), ("training-pairs", "jsonl"), ("interactions", "parquet"))


@dataclass
class Step:
    """What one step took: seconds, and peaks of memory in MiB."""

    name: str
    seconds: float = 0.0
    items: int = 0
    service: float = 0.0
    command: float = 0.0
    mongod: float = 0.0
    cpu: float = 0.0
    """Seconds of CPU of all three: what the step costs, however busy the machine is."""


@dataclass
class Size:
    """All steps with one length of log."""

    interactions: int
    sessions: int = 0
    steps: list[Step] = field(default_factory=list)
    questions: dict[str, float] = field(default_factory=dict)
    """Milliseconds, by question."""
    read: dict[str, int] = field(default_factory=dict)
    """The most documents that a question about signals has read, by question."""
    astray: list[str] = field(default_factory=list)
    """What questions have read beside rollups."""


class Run:
    """One length of log on databases of its own."""

    def __init__(self, folder: Path, interactions: int, cache_gb: float) -> None:
        self._folder = folder
        self._cache_gb = cache_gb
        self.size = Size(interactions)

    def measure(self) -> Size:
        log = self._folder / "log.jsonl"
        began = time.monotonic()
        written = generated_log.write(log, self.size.interactions)
        self.size.sessions = written.sessions
        items = written.sessions + written.interactions
        _say(f"{written.interactions:,} interactions of {written.sessions:,} searches generated in "
             f"{time.monotonic() - began:.0f} s, {log.stat().st_size / 2**20:,.0f} MiB")  # fmt: skip
        with Mongod(self._folder, cache_gb=self._cache_gb) as self._mongod:
            settings = {"MONGO_URI": self._mongod.uri, "MONGO_DATABASE": DATABASE, "LOG_LEVEL": "warning"}
            self._service = Service("clickstream", self._folder, settings)
            self._service.start()
            try:
                with self._step("import", items) as step:
                    self._command(step, "import", "tideline", str(log))
                log.unlink()
                with self._step("rollups current after that", items):
                    asyncio.run(counted(self._mongod.uri, DATABASE))
                with grpc.insecure_channel(self._service.address) as channel:
                    self._ask(SignalServiceStub(channel))
                    with self._step("EstimatePropensities", written.sessions):
                        found = PropensityServiceStub(channel).EstimatePropensities(_the_month(), timeout=PATIENCE_S)
                self._compare_with_the_truth(found.propensities)
                for kind, form in EXPORTS:
                    with self._step(f"export {kind} {form}", items) as step:
                        out = self._folder / f"out.{form}"
                        self._command(step, "export", kind, "--format", form, "--out", str(out))
                        _say(f"    {out.stat().st_size / 2**20:,.0f} MiB written")
                        out.unlink()
                with self._step("rollups counted again", items) as step:
                    environment = {f"CLICKSTREAM_{name}": value for name, value in settings.items()}
                    self._command(step, "rebuild-rollups", environment=environment)
            finally:
                self._service.stop()
        return self.size

    @contextmanager
    def _step(self, name: str, items: int) -> Iterator[Step]:
        step = Step(name, items=items)
        pids = {"service": self._service.process.pid, "mongod": self._mongod.pid}
        for pid in pids.values():
            _forget_peak(pid)
        began, used = time.monotonic(), sum(map(_cpu, pids.values()))
        yield step
        step.seconds = time.monotonic() - began
        step.cpu += sum(map(_cpu, pids.values())) - used
        step.service, step.mongod = (memory_mb(pids[name], "VmHWM") for name in ("service", "mongod"))
        self.size.steps.append(step)
        _say(_line(step))

    def _command(self, step: Step, *arguments: str, environment: dict[str, str] | None = None) -> None:
        where = () if arguments[0] == "rebuild-rollups" else ("--address", self._service.address)
        started = subprocess.Popen(
            [sys.executable, "-m", "tideline.cli", *arguments, *where],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = started.stdout.read() if started.stdout else ""
        _, status, used = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            raise SystemExit(f"tideline {' '.join(arguments)} ended with {started.returncode}: {said}")
        step.command, step.cpu = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
        _say("    " + "; ".join(line.strip() for line in said.strip().splitlines()))

    def _ask(self, signals: Any) -> None:
        """Ask everything that `SignalService` answers about one day in the middle, and about the whole month."""
        with self._step("questions about signals", 1), MongoClient[dict[str, Any]](self._mongod.uri) as client:
            database = client[DATABASE]
            for name, question in _questions(signals).items():
                question()
                took = []
                for _ in range(TIMES_ASKED):
                    began = time.perf_counter()
                    question()
                    took.append(time.perf_counter() - began)
                self.size.questions[name] = 1000 * median(took)
                database.command("profile", 2)
                question()
                database.command("profile", 0)
                self._note(name, list(database["system.profile"].find()))
                database["system.profile"].drop()
                _say(f"    {name:48}{self.size.questions[name]:10,.1f} ms  {self.size.read[name]:>9,} documents read")

    def _note(self, name: str, operations: Sequence[dict[str, Any]]) -> None:
        """Take down what a question has read; what goes on in the background is in the profile, too."""
        asked = [each for each in operations if each.get("docsExamined")]
        self.size.read[name] = sum(each["docsExamined"] for each in asked)
        for each in asked:
            collection, plan = each["ns"].removeprefix(f"{DATABASE}."), each.get("planSummary", "")
            # What a user has consumed is found among this user's events, which an index has together.
            of_user = "Consumed" in name and "user_id" in plan
            if collection in RECORDED and not of_user:
                self.size.astray.append(f"{name}: {collection} by {plan}")

    def _compare_with_the_truth(self, found: propensity_pb.Propensities) -> None:
        errors = [abs(each.examination * each.rank - 1) for each in found.ranks[:10]]
        method = propensity_pb.PropensityMethod.Name(found.method).removeprefix("PROPENSITY_METHOD_").lower()
        _say(f"    {method}, ranks 1-10 off by at most {max(errors):.1%}")


def _questions(signals: Any) -> dict[str, Callable[[], Any]]:
    def scopes() -> Iterator[tuple[str, signal_pb2.SignalScope, signal_pb2.SignalScope]]:
        middle = generated_log.BEGIN + timedelta(days=generated_log.DAYS // 2)
        for name, length in (("day", timedelta(days=1)), ("month", timedelta(days=generated_log.DAYS))):
            since = middle if name == "day" else generated_log.BEGIN
            between = [
                signal_pb2.SignalScope(**{"from": begin, "before": begin + length}) for begin in (since, since - length)
            ]
            yield name, between[0], between[1]

    found: dict[str, Callable[[], Any]] = {}

    def ask(name: str, call: Any, request: Any) -> None:
        found[name] = lambda: call(request, timeout=PATIENCE_S)

    for name, scope, before in scopes():
        of_phones = signal_pb2.SignalScope(segment="device", segment_value="phone", surface="web")
        of_phones.MergeFrom(scope)
        hourly, daily = signal_pb2.SIGNAL_STEP_HOUR, signal_pb2.SIGNAL_STEP_DAY
        ask(f"GetMetrics by hour, {name}", signals.GetMetrics, pb.GetMetricsRequest(scope=scope, step=hourly))
        ask(f"GetMetrics of phones, {name}", signals.GetMetrics, pb.GetMetricsRequest(scope=of_phones, step=daily))
        ask(f"GetPositionMetrics, {name}", signals.GetPositionMetrics, pb.GetPositionMetricsRequest(scope=scope))
        ask(f"GetEventDistribution, {name}", signals.GetEventDistribution, pb.GetEventDistributionRequest(scope=scope))
        ask(f"ListSkippedObjects, {name}", signals.ListSkippedObjects, pb.ListSkippedObjectsRequest(scope=scope))
        ask(f"ListQueries below 5 %, {name}", signals.ListQueries, pb.ListQueriesRequest(scope=scope))
        ask(
            f"ListQueries without results, {name}", signals.ListQueries,
            pb.ListQueriesRequest(scope=scope, zero_results=True),
        )  # fmt: skip
        ask(f"ListTopObjects, {name}", signals.ListTopObjects, pb.ListTopObjectsRequest(scope=scope))
        ask(
            f"ListTopObjects trending by half life, {name}", signals.ListTopObjects,
            pb.ListTopObjectsRequest(scope=scope, trending=True, half_life=timedelta(hours=6)),
        )  # fmt: skip
        ask(f"ComparePeriods, {name}", signals.ComparePeriods, pb.ComparePeriodsRequest(scope=scope, baseline=before))
    ask(
        "ListConsumedObjects of a user", signals.ListConsumedObjects,
        pb.ListConsumedObjectsRequest(user_id=generated_log.A_USER, days=3650),
    )  # fmt: skip
    return found


def _the_month() -> propensity_pb.EstimatePropensitiesRequest:
    return propensity_pb.EstimatePropensitiesRequest(
        created_from=generated_log.BEGIN, created_before=generated_log.BEGIN + timedelta(days=generated_log.DAYS + 1)
    )


def _forget_peak(pid: int) -> None:
    """Have the kernel count the peak of resident memory from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _line(step: Step) -> str:
    command = f"{step.command:6,.0f}" if step.command else "     -"
    rate = f"{step.items / step.seconds:10,.0f} /s" if step.items > 1 else " " * 13
    memory = f"service {step.service:6,.0f}  command {command}  mongod {step.mongod:6,.0f} MiB"
    return f"{step.name:32}{step.seconds:9,.1f} s{rate}  CPU {step.cpu:8,.1f} s   {memory}"


def _growth(small: Size, large: Size) -> Iterator[str]:
    yield f"\nCost of an interaction at {large.interactions:,}, of one at {small.interactions:,} (1 is flat)"
    times = large.interactions / small.interactions
    for one, other in zip(small.steps, large.steps, strict=True):
        if one.items > 1:
            memory = f"service {other.service / one.service:5.2f}x"
            if one.command:
                memory += f", command {other.command / one.command:5.2f}x"
            took, used = other.seconds / one.seconds / times, other.cpu / one.cpu / times
            yield f"  {one.name:34}{took:8.2f}, CPU {used:.2f}   memory: {memory}"
    yield "Time of a question, as a whole"
    for name, took in small.questions.items():
        yield f"  {name:46}{took:9,.1f} -> {large.questions[name]:9,.1f} ms"


def _verdict(sizes: Sequence[Size]) -> Iterator[str]:
    for size in sizes:
        for step in size.steps:
            if max(step.service, step.command) >= MEMORY_LIMIT:
                yield f"{size.interactions:,}: {step.name} took {max(step.service, step.command):,.0f} MiB"
        yield from (f"{size.interactions:,}: {each} was read" for each in sorted(set(size.astray)))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main() -> None:
    arguments = argparse.ArgumentParser(description="Measure what it costs when there is ten times as much.")
    arguments.add_argument(
        "--sizes", type=int, nargs="+", default=list(SIZES), help="interactions (default: %(default)s)"
    )
    arguments.add_argument("--folder", type=Path, help="where to keep data meanwhile (default: a temporary folder)")
    arguments.add_argument("--cache-gb", type=float, default=1.0, help="what MongoDB caches (default: %(default)s)")
    chosen = arguments.parse_args()
    stop_on_sigterm()
    sizes = []
    for interactions in chosen.sizes:
        with tempfile.TemporaryDirectory(prefix="tideline-growth-", dir=chosen.folder) as folder:
            sizes.append(Run(Path(folder), interactions, chosen.cache_gb).measure())
        _say("")
    if len(sizes) > 1:
        _say("\n".join(_growth(sizes[0], sizes[-1])))
    missed = list(_verdict(sizes))
    sys.exit("\n".join(missed) if missed else 0)


if __name__ == "__main__":
    main()
