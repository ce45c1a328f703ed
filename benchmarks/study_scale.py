"""The cost of a large study without its training: plan, driver and report of 10,000 trials on 200 simulated workers.

Run it as ``python benchmarks/study_scale.py [--small] [--out OUT.json]``. Simulated nodes write plausible records and
times through the real folder, on a simulated clock on which a trial takes ten minutes. Everything else is the code of
a study. The nodes' own seconds are taken off the driver's. Every phase runs in a process of its own.
"""

import argparse
import contextlib
import heapq
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from rich.console import Console

from steepest.cli.live import LiveTable
from steepest.cli.plain import PlainLines
from steepest.study import workloads
from steepest.study.data import adapt
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.records import machine
from steepest.study.records.format import FINISHED, SEARCH
from steepest.study.report.write import write_files
from steepest.study.running import engine, remote
from steepest.study.running.progress import Progress
from steepest.study.running.remote import Assignment, Job, Outcome, Remote
from steepest.study.running.store import StudyFolder, TrialLog
from steepest.study.running.workers import Take, TrialUpdate
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event, start_of

OPTIMIZERS: Final = ("adamw", "sgd", "momentum", "nag", "adam", "nadam", "radam", "rmsprop", "adagrad", "lion")
TRIAL_SECONDS: Final = 600.0
EPOCHS: Final = 20
STEPS_PER_EPOCH: Final = 8
MEBIBYTE: Final = 2**20


@dataclass(frozen=True)
class Size:
    """The size of a study: every optimizer has so many points on so many tuning seeds, and so many evaluation seeds."""

    points: int = 64
    tuning_seeds: int = 10
    seeds: int = 350
    workers: int = 200

    def plan(self) -> Plan:
        """Return its plan."""
        request = Request(
            workloads.find("digits-mlp"),
            "smoke",
            OPTIMIZERS,
            epochs_wanted=EPOCHS,
            trials_wanted=self.points,
            tuning_seeds_wanted=self.tuning_seeds,
            seeds_wanted=self.seeds,
            timing_rounds=0,
            threads=1,
        )
        return make_plan(request, adapt.load(request.workload.data), "benchmark")


FULL: Final = Size()
SMALL: Final = Size(points=16, tuning_seeds=2, seeds=66, workers=200)


def events_of(spec: TrialSpec) -> Iterator[Event]:
    """Yield what a trial of two hundred records might have said."""
    rng = random.Random(spec.digest)
    good, seconds = rng.uniform(0.5, 0.9), 0.0
    yield start_of(spec)
    for epoch in range(EPOCHS + 1):
        for step in range((epoch - 1) * STEPS_PER_EPOCH + 1, epoch * STEPS_PER_EPOCH + 1):
            yield Event(
                {"kind": "step", "epoch": epoch, "step": step, "loss": 2.3 * math.exp(-step / 80) + rng.random()}
            )
        at: dict[str, Any] = {"kind": "epoch", "epoch": epoch, "step": epoch * STEPS_PER_EPOCH}
        figures = {f"validation_{name}": good * rng.uniform(0.9, 1.1) for name in ("accuracy", "loss")}
        if epoch:
            figures |= {f"train_{name}": good * rng.uniform(0.9, 1.1) for name in ("accuracy", "loss")}
        seconds += rng.uniform(20, 30)
        clock = {"examples": 256 * epoch, "train_seconds": seconds}
        yield Event({**at, **figures, "evaluations": at["step"]}, {**at, **clock})
    test = (
        {} if spec.phase == SEARCH else {f"test_{name}": good * rng.uniform(0.9, 1.1) for name in ("accuracy", "loss")}
    )
    last = {**at, "kind": "end"}
    yield Event(
        {**last, **test, "evaluations": at["step"], "status": FINISHED},
        {**last, **clock, "executor": "native", "started": "2026-01-01T00:00:00+00:00", "total_seconds": seconds + 30},
    )


class Nodes:
    """Simulated nodes with a clock of their own. `seconds` is the processor time that the simulation itself took."""

    def __init__(self, folder: StudyFolder) -> None:
        self.now = 0.0
        self.seconds = 0.0
        self.ended: set[str] = set()
        self._folder = folder
        self._next: list[tuple[float, str, TrialSpec, Iterator[Event], TrialLog]] = []

    def begin(self, spec: TrialSpec) -> None:
        """Let a node begin a trial."""
        with self._simulating():
            heapq.heappush(self._next, (self.now, spec.id, spec, events_of(spec), self._folder.log(spec.id)))

    def until(self, moment: float) -> list[tuple[TrialSpec, Event]]:
        """Let the nodes write up to a moment. Return what they wrote."""
        with self._simulating():
            told = []
            while self._next and self._next[0][0] <= moment:
                told.append(self._step())
            self.now = moment
            return told

    @property
    def next_moment(self) -> float:
        """The moment of the next record."""
        return self._next[0][0]

    def _step(self) -> tuple[TrialSpec, Event]:
        now, name, spec, events, log = heapq.heappop(self._next)
        event = next(events)
        log.write(event)
        if event.record["kind"] == "end":
            log.__exit__()
            self.ended.add(name)
        else:
            pause = TRIAL_SECONDS / (EPOCHS * (STEPS_PER_EPOCH + 1) + 2)
            heapq.heappush(self._next, (now + pause, name, spec, events, log))
        return spec, event

    @contextlib.contextmanager
    def _simulating(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds += time.process_time() - began


class Simulated:
    """Workers whose trials run on simulated nodes and tell every event, as worker processes do."""

    def __init__(self, nodes: Nodes, places: int) -> None:
        self._nodes = nodes
        self._places = places
        self._waiting: list[TrialSpec] = []

    def submit(self, trial: TrialSpec) -> None:
        """Put a trial into the queue."""
        self._waiting.append(trial)

    def collect(self, take: Take) -> None:
        """Tell the events of all trials, in the order of their moments."""
        waiting, running = iter(self._waiting), 0
        self._waiting = []
        while True:
            for spec in (spec for _, spec in zip(range(self._places - running), waiting, strict=False)):
                running += 1
                take(TrialUpdate(spec))
                self._nodes.begin(spec)
            if not running:
                return
            for spec, event in self._nodes.until(self._nodes.next_moment):
                running -= event.record["kind"] == "end"
                take(TrialUpdate(spec, event))

    def forget(self) -> None:
        """Forget the waiting trials."""
        self._waiting.clear()

    cancel = forget


@dataclass(frozen=True)
class SimulatedJob:
    """A job of the simulated cluster."""

    nodes: Nodes
    trial: str

    def outcome(self) -> Outcome | None:
        """Return the end of the job once its trial has ended."""
        return Outcome() if self.trial in self.nodes.ended else None

    def cancel(self) -> None:
        """Nothing is left to cancel."""


class SimulatedCluster:
    """A cluster of simulated nodes."""

    name = "simulated"

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def start(self, assignments: Sequence[Assignment]) -> Sequence[Job]:
        """Begin trials."""
        return [self._started(TrialSpec.read(assignment.document)) for assignment in assignments]

    def _started(self, spec: TrialSpec) -> SimulatedJob:
        self._nodes.begin(spec)
        return SimulatedJob(self._nodes, spec.id)


def measured(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return a call's result, its seconds, its processor seconds, and the process's peak memory after it."""
    began, busy = time.perf_counter(), time.process_time()
    result = call()
    return result, {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - busy,
        "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def planned(size: Size, folder: Path) -> dict[str, Any]:
    """Measure the plan."""
    plan, cost = measured(size.plan)
    searched, enumerating = measured(lambda: len([trial.id for trial in plan.search_trials]))
    evaluated = len(plan.configs) * len(plan.seeds)
    return {"trials": searched + evaluated, **cost, "naming_seconds": enumerating["seconds"]}


def driven(size: Size, path: Path, on_cluster: bool) -> dict[str, Any]:
    """Measure the driver of a whole study."""
    plan, folder = size.plan(), StudyFolder(path)
    nodes, before = Nodes(folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    progress = Progress(plan, folder, size.workers)
    workers = (
        Remote(folder, SimulatedCluster(nodes), at_once=size.workers) if on_cluster else Simulated(nodes, size.workers)
    )
    clock = SimpleNamespace(
        sleep=lambda pause: nodes.until(nodes.now + pause), monotonic=lambda: nodes.now, thread_time=time.thread_time
    )
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere, simulated_sleep(clock):
        lines = PlainLines(progress, Console(file=nowhere, width=120))
        summary, cost = measured(lambda: engine.run(plan, folder, lines, workers=workers))
    _, drawing = measured(lambda: Console(file=sys.stderr, quiet=True, height=50).print(LiveTable(progress)))
    trials, driver = sum(summary.ended.values()), cost["cpu_seconds"] - nodes.seconds
    return {
        "trials": trials,
        "ended": dict(summary.ended),
        "simulated_hours": nodes.now / 3600,
        "driver_cpu_seconds": driver,
        "share_of_a_core": driver / nodes.now,
        "milliseconds_per_trial": 1000 * driver / trials,
        "nodes_cpu_seconds": nodes.seconds,
        "peak_mebibytes": cost["peak_mebibytes"],
        "peak_mebibytes_of_the_plan": before,
        "live_table_milliseconds": 1000 * drawing["seconds"],
        "study_json_mebibytes": folder.document_path.stat().st_size / MEBIBYTE,
        "records_mebibytes": sum(file.stat().st_size for file in (path / "trials").iterdir()) / MEBIBYTE,
    }


@contextlib.contextmanager
def simulated_sleep(clock: SimpleNamespace) -> Iterator[None]:
    """Let the cluster's driver sleep on the simulated clock."""
    real, remote.time = remote.time, clock  # type: ignore[assignment]
    try:
        yield
    finally:
        remote.time = real


def reported(size: Size, path: Path) -> dict[str, Any]:
    """Measure the report."""
    page, cost = measured(lambda: write_files(path))
    everything = sum(file.stat().st_size for file in (path / "report").rglob("*") if file.is_file())
    return {
        **cost,
        "page_mebibytes": page.stat().st_size / MEBIBYTE,
        "folder_mebibytes": everything / MEBIBYTE,
        "largest_mebibytes": {
            file.name: round(file.stat().st_size / MEBIBYTE, 2)
            for file in sorted((path / "report").rglob("*.*"), key=lambda file: -file.stat().st_size)[:6]
        },
    }


PHASES: Final[dict[str, Callable[[Size, Path], dict[str, Any]]]] = {
    "plan": planned,
    "processes": lambda size, path: driven(size, path / "processes", False),
    "cluster": lambda size, path: driven(size, path / "cluster", True),
    "report": lambda size, path: reported(size, path / "processes"),
}


def phase(name: str, size: Size, path: Path) -> dict[str, Any]:
    """Measure a phase in a process of its own."""
    command = [sys.executable, __file__, "--phase", name, "--folder", str(path), "--size", json.dumps(asdict(size))]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(ran.stdout)
    print(name, json.dumps(found, indent=2), file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a tenth of the trials")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--phase", choices=PHASES)
    parser.add_argument("--only", nargs="*", choices=PHASES, default=list(PHASES))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--size", type=json.loads)
    asked = parser.parse_args()
    size = Size(**asked.size) if asked.size else SMALL if asked.small else FULL
    if asked.phase:
        print(json.dumps(PHASES[asked.phase](size, asked.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = asked.folder or Path(temporary)
        found = {"machine": machine.machine() | machine.versions(), "size": asdict(size)}
        found |= {name: phase(name, size, path) for name in asked.only}
    text = json.dumps(found, indent=2)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
