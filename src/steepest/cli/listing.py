"""`steepest list` and `steepest show`."""

import inspect
import json
from collections.abc import Callable
from typing import Any, Final

from rich.table import Table

from steepest import registry
from steepest.cli import console
from steepest.landscapes.surfaces import surfaces
from steepest.study import workloads
from steepest.study.declaration import PRESETS, Declared, Workload
from steepest.study.errors import UsageError
from steepest.study.planning.suites import SUITES
from steepest.study.records.records import plain
from steepest.study.suggest import choices


def list_names(kind: str, as_json: bool) -> None:
    """Print the optimizers, the workloads, the suites or the surfaces."""
    if kind not in KINDS:
        raise UsageError(choices("list", kind, KINDS))
    entries = KINDS[kind]()
    if as_json:
        print(json.dumps(plain(entries), indent=2))
        return
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column()
    for entry in entries:
        grid.add_row(entry["name"], entry["title"])
    console.out().print(grid)


def show(name: str, latex: bool) -> None:
    """Print an optimizer's page."""
    from steepest import describe

    try:
        page = describe.describe(name, latex=latex)
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(page)


def _optimizers() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "class": cls.__name__,
            "title": inspect.cleandoc(cls.__doc__ or "").partition("\n")[0],
            "aliases": dict(registry.declared_aliases(cls)),
            "kind": cls.rule.kind,
            "options": {field.name: field.default for field in cls.fields.values() if not field.fixed},
        }
        for name, cls in registry.optimizers().items()
    ]


def _workloads() -> list[dict[str, Any]]:
    return [_workload(declared) for declared in workloads.workloads().values()]


def _suites() -> list[dict[str, Any]]:
    return [
        {"name": name, "title": f"{suite.title}: {', '.join(suite.workloads)}", "workloads": suite.workloads}
        for name, suite in SUITES.items()
    ]


def _surfaces() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "title": declared.title,
            "options": {key: vars(option) for key, option in declared.options.items()},
            "formula": (made := declared()).formula,
            "source": made.source,
            "note": made.note,
            "starts": made.starts,
            "minima": made.minima,
        }
        for name, declared in surfaces().items()
    ]


def _workload(declared: Declared) -> dict[str, Any]:
    made = declared.workload()
    return {
        "name": declared.name,
        "title": made.title,
        "description": made.description,
        "metric": {"name": made.metric.name, "direction": made.metric.direction},
        "batch_size": made.batch_size,
        "margin": made.margin,
        "needs": made.needs,
        "presets": {preset: _preset(declared.workload(preset)) for preset in PRESETS},
        "settings": made.settings,
    }


def _preset(workload: Workload) -> dict[str, Any]:
    sizes = vars(workload.sizes) if workload.sizes else {}
    numbers = {name: getattr(workload, name) for name in ("horizon", "evaluations", "seeds", "trials", "targets")}
    return {**sizes, **numbers}


KINDS: Final[dict[str, Callable[[], list[dict[str, Any]]]]] = {
    "optimizers": _optimizers,
    "workloads": _workloads,
    "suites": _suites,
    "surfaces": _surfaces,
}
