"""`steepest study --plan-only`: what would run, what it would cost here, and what its answer could be worth."""

from pathlib import Path

from steepest.cli import console, introduction, text
from steepest.study import estimate
from steepest.study.data import adapt
from steepest.study.plan import Plan, make_plan
from steepest.study.request import Request


def show(request: Request, data_dir: Path | None) -> None:
    """Print a plan; nothing is written."""
    with console.messages():
        data = adapt.load(request.workload.data, data_dir)
    plan = make_plan(request, data, command="")
    screen = console.out()
    introduction.show(screen, request, data, plan, request.folder(fallback=data.fallback is not None))
    for line in (*_spaces(plan), _cost(plan)):
        screen.print(line, markup=False)


def _spaces(plan: Plan) -> list[str]:
    searched = [entry for entry in plan.document["optimizers"] if entry["space"] and not entry["skipped"]]
    if not searched:
        return ["search     none: every optimizer runs with its setting"]
    lines = [f"search     {plan.document['protocol']['sampler']} points of"]
    return lines + [f"  {entry['label']}: {_space(entry['space'])}" for entry in searched]


def _space(space: dict[str, dict[str, object]]) -> str:
    return ", ".join(f"{name} {_dimension(dimension)}" for name, dimension in space.items())


def _dimension(dimension: dict[str, object]) -> str:
    if "values" in dimension:
        return f"in {dimension['values']}"
    ends = f"{dimension['low']:g} to {dimension['high']:g}"
    return f"= 1 - ({ends}, {dimension['scale']})" if dimension["complement"] else f"{ends} ({dimension['scale']})"


def _cost(plan: Plan) -> str:
    found = estimate.cost(plan)
    return f"cost       about {text.duration(found.seconds)} with one job, {found.disk_bytes / 1e6:,.1f} MB of records"
