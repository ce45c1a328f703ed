"""`steepest race`: optimizers on a surface, or in short trainings of a workload, with places that change."""

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.live import Live

from steepest.cli import console, text, tracing
from steepest.cli.preparation import prepare
from steepest.cli.race_table import Race, RaceTable, Runner
from steepest.landscapes.declaration import Surface
from steepest.landscapes.records import Path as Walked
from steepest.landscapes.records import value_curve
from steepest.landscapes.sources import find
from steepest.landscapes.surfaces import surfaces
from steepest.landscapes.traced import Traced
from steepest.landscapes.tracing import BUDGET, RATES, trace
from steepest.study import user_files, workloads
from steepest.study.declaration import Declared
from steepest.study.errors import UsageError
from steepest.study.planning.request import Request
from steepest.study.records.format import FINISHED
from steepest.study.running import engine, signals
from steepest.study.running.memory import keep_freed_memory
from steepest.study.running.preparation import Arguments as StudyArguments
from steepest.study.running.preparation import Prepared
from steepest.study.running.worker_limits import WorkerLimits
from steepest.study.suggest import choices
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

SPEED: Final = 40.0
"""Gradients of each optimizer in a second, on a surface that is watched."""
PRESET: Final = "smoke"
FRAMES: Final = 10
"""Pictures of the table in a second."""


@dataclass(frozen=True)
class Arguments:
    """The arguments of the command; None where one is not given."""

    where: str
    optimizers: Sequence[str]
    budget: int | None
    lr: float | None
    rates: int | None
    speed: float | None
    preset: str | None
    epochs: int | None
    steps: int | None
    data_dir: Path | None
    seed: int


def run(arguments: Arguments) -> int:
    """Run a race to its end, or until Ctrl-C; return the exit code."""
    found = place(arguments.where)
    of_surfaces = {name: getattr(arguments, name) for name in ("budget", "lr", "rates", "speed")}
    of_workloads = {name: getattr(arguments, name) for name in ("preset", "epochs", "steps", "data_dir")}
    useless = of_workloads if isinstance(found, Surface) else of_surfaces
    given = [f"--{name.replace('_', '-')}" for name, value in useless.items() if value is not None]
    if given:
        kind = "surface" if isinstance(found, Surface) else "workload"
        raise UsageError(f"{', '.join(given)} has no effect on {arguments.where}, which is a {kind}; leave it out")
    return _on_surface(arguments, found) if isinstance(found, Surface) else _on_workload(arguments, found)


def place(where: str) -> Surface | Declared:
    """Return the surface or the workload of a name or file. Raise UsageError if there is neither."""
    name, _, function = (
        where.partition("[")[0].rpartition(":") if ".py:" in where else (where.partition("[")[0], "", "")
    )
    if function:
        is_workload = isinstance(getattr(user_files.load(name), function, None), Declared)
        return workloads.find(where) if is_workload else find(where)
    if name.endswith(".py") or name.lower() in workloads.workloads():
        return workloads.find(where)
    if name.lower().replace("_", "-") in surfaces():
        return find(where)
    known = [*surfaces(), *workloads.workloads()]
    raise UsageError(
        choices("surface or workload", name, known) + " Or give a file: FILE.py:FUNCTION for a surface, FILE.py for a "
        "workload"
    )


class _Screen:
    """The view of a race: a table that stays on a terminal, or a line for every tenth of the race."""

    def __init__(self, screen: Console, race: Race) -> None:
        self._screen = screen
        self._race = race

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show the race inside the block, and the table as it stands at its end."""
        table = RaceTable(self._race)
        if self._screen.is_terminal:
            with Live(table, console=self._screen, refresh_per_second=FRAMES, vertical_overflow="crop"):
                yield
            return
        try:
            yield
        finally:
            self._screen.print(table)

    def changed(self) -> None:
        """Show that the race has moved on."""
        if self._race.reaches_mark() and not self._screen.is_terminal:
            self._screen.print(self._race.line(), markup=False)


def _on_surface(arguments: Arguments, surface: Surface) -> int:
    speed = SPEED if arguments.speed is None else arguments.speed
    if not 0 < speed < math.inf:
        raise UsageError(f"--speed must be a number of gradients per second above 0, not {speed:g}")
    optimizers = list(arguments.optimizers or tracing.USUAL)
    budget = BUDGET if arguments.budget is None else arguments.budget
    rates = RATES if arguments.rates is None else arguments.rates
    traced = trace(surface, optimizers, budget=budget, rates=rates, lr=arguments.lr, seed=arguments.seed)
    screen = console.out()
    searched = f"for each the best of its default rate and {rates} others, tried for as many"
    how = searched if arguments.lr is None else f"rate {arguments.lr:g} for all that take one"
    screen.print(f"{surface.title}. {budget} gradients; {how}", markup=False)
    for remark in (*filter(None, [surface.note]), *(f"{name} is skipped: {why}" for name, why in traced.skipped)):
        console.note(remark)
    if not traced.paths:
        return 1
    race = _race(traced)
    shown = _Screen(screen, race)
    try:
        with shown.showing():
            for count in range(1, budget + 1):
                _move(race, traced, count)
                shown.changed()
                if screen.is_terminal:
                    time.sleep(1 / speed)
    except KeyboardInterrupt as interrupt:
        return _interrupted(race, interrupt)
    for remark in traced.ties:
        console.note(remark)
    return 0


def _race(traced: Traced) -> Race:
    known = traced.surface.floor is not None
    runners = {path.label: Runner(path.label, path.choice.words, _points(path, traced)) for path in traced.paths}
    return Race("above the minimum" if known else "value", "gradients", traced.budget, False, runners)


def _move(race: Race, traced: Traced, count: int) -> None:
    """Let every runner stand where its path was after a count of gradients."""
    for path in traced.paths:
        runner = race.runners[path.label]
        runner.at = count
        runner.ended = path.ended if count >= path.evaluations[-1] and path.ended else ""


def _points(path: Walked, traced: Traced) -> list[tuple[int, float]]:
    values = value_curve(path, traced.surface.floor)
    points = list(zip(path.evaluations.tolist(), values.tolist(), strict=True))
    return [*points, (points[-1][0] + 1, math.inf)] if path.is_lost else points


def _on_workload(arguments: Arguments, declared: Declared) -> int:
    keep_freed_memory()
    request = Request.of_one_run(
        declared,
        arguments.preset or PRESET,
        tuple(arguments.optimizers),
        epochs=arguments.epochs,
        steps=arguments.steps,
        seed=arguments.seed,
    )
    limits = WorkerLimits(jobs=len(request.configs))
    with tempfile.TemporaryDirectory(prefix="steepest-race-") as folder:
        prepared = prepare(StudyArguments(request, Path(folder) / "race", arguments.data_dir, limits, False), "")
        return _train(prepared, limits, arguments.data_dir)


def _train(prepared: Prepared, limits: WorkerLimits, data_dir: Path | None) -> int:
    plan, screen = prepared.plan, console.out()
    metric = plan.task.metric
    runners = {config.label: Runner(config.label, _rate(config.rate)) for config in plan.configs}
    steps = plan.subject.steps or 1
    race = Race(f"validation {text.words(metric.name)}", "steps", steps, metric.direction == "maximize", runners)
    screen.print(
        f"{prepared.request.workload.title}: {steps} steps, one seed, rates as declared or given", markup=False
    )
    console.note("a race is not a study: one seed, no tuning, no test of whether differences are more than chance")
    for entry in plan.document.optimizers:
        if entry.skipped:
            console.note(f"{entry.label} is skipped: {entry.skipped}")
    shown = _Screen(screen, race)
    with shown.showing(), limits.workers(prepared.folder, data_dir, prepared.request) as workers:
        summary = engine.run(plan, prepared.folder, _Watcher(race, shown, metric.name), workers=workers)
    if summary.signal is not None:
        console.err().print(f"Interrupted at {race.line()}", markup=False)
        return signals.exit_code(summary.signal)
    return 0


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"rate {rate:g}"


class _Watcher:
    """A callback that moves the runners."""

    def __init__(self, race: Race, shown: _Screen, metric: str) -> None:
        self._race = race
        self._shown = shown
        self._key = f"validation_{metric}"

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        """Do nothing."""

    def trial_started(self, trial: TrialSpec) -> None:
        """Do nothing."""

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        """Move the trial's runner, or end it."""
        record, runner = event.record, self._race.runners[trial.config.label]
        runner.at = record.get("step", runner.at)
        if self._key in record:
            runner.points.append((runner.at, float(record[self._key])))
        if record["kind"] == "end":
            if record["status"] != FINISHED:
                runner.points.append((runner.at, math.nan))
            runner.ended = record["status"]
        self._shown.changed()


def _interrupted(race: Race, interrupt: KeyboardInterrupt) -> int:
    console.err().print(f"Interrupted at {race.line()}", markup=False)
    return signals.exit_code(signals.number_of(interrupt))
