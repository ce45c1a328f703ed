"""`steepest study --plan-only`: the planned trials, their cost on this machine, and the differences they can detect."""

from collections.abc import Mapping
from dataclasses import replace

from rich.console import Console

from steepest.cli import console, introduction, text
from steepest.cli.preparation import prepare
from steepest.study.planning import estimate
from steepest.study.planning.estimate import Cost
from steepest.study.planning.plan import Plan
from steepest.study.records.format import Dimension, SearchedValues
from steepest.study.records.records import plain
from steepest.study.running.preparation import Arguments, Prepared
from steepest.study.running.worker_limits import WorkerLimits


def show(arguments: Arguments) -> None:
    """Print a plan without writing anything."""
    prepared, screen = prepare(arguments, command=""), console.out()
    show_plan(screen, prepared, arguments.limits)
    for line in limit_in_words(arguments.limits):
        screen.print(line, markup=False)


def show_plan(screen: Console, prepared: Prepared, limits: WorkerLimits) -> Cost:
    """Print a plan and its cost, and return the cost."""
    introduction.show(screen, prepared)
    plan = prepared.plan
    cost = estimate.cost(replace(plan, seeds=tuple(range(plan.most_seeds))))
    sequential = bool(plan.document.protocol.looks)
    for line in (*_spaces(plan), f"cost       {cost_in_words(cost, limits.at_once, sequential=sequential)}"):
        screen.print(line, markup=False)
    return cost


def _spaces(plan: Plan) -> list[str]:
    searched = [entry for entry in plan.document.optimizers if entry.space and not entry.skipped]
    if not searched:
        return ["search     none: every optimizer runs with its setting"]
    lines = [f"search     {plan.document.protocol.sampler} points of"]
    return lines + [f"  {entry.label}: {_space(entry.space)}" for entry in searched]


def _space(space: Mapping[str, Dimension]) -> str:
    return ", ".join(f"{name} {_dimension(dimension)}" for name, dimension in space.items())


def _dimension(dimension: Dimension) -> str:
    if isinstance(dimension, SearchedValues):
        return f"in {plain(dimension.values)}"
    ends = f"{dimension.low:g} to {dimension.high:g}"
    return f"= 1 - ({ends}, {dimension.scale})" if dimension.complement else f"{ends} ({dimension.scale})"


def cost_in_words(cost: Cost, jobs: int, *, sequential: bool) -> str:
    """Return the time with so many jobs, at most of a sequential study, and the size of the records."""
    at_once = "one job" if jobs == 1 else f"{jobs} jobs"
    size = f"{cost.disk_bytes / 1e6:,.1f} MB of records"
    about = "at most about" if sequential else "about"
    return f"{about} {text.duration(cost.seconds_with(jobs))} with {at_once}, {size}"


def limit_in_words(limits: WorkerLimits) -> list[str]:
    """Return a line about the time limit, if there is one."""
    limit = limits.time_limit
    return [] if limit is None else [f"limit      a trial that takes longer than {limit:g} minutes counts as worst"]
