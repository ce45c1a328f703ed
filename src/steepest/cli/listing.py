"""`steepest list` and `steepest show`."""

import inspect
import json
from collections.abc import Callable
from typing import Any, Final

from rich.table import Table

from steepest import registry
from steepest.cli import console
from steepest.study import workloads
from steepest.study.errors import UsageError
from steepest.study.records import plain
from steepest.study.suggest import choices


def list_names(kind: str, as_json: bool) -> None:
    """Print the optimizers or the workloads."""
    if kind not in KINDS:
        raise UsageError(choices("list", kind, KINDS))
    entries = KINDS[kind]()
    if as_json:
        print(json.dumps(plain(entries), indent=2, ensure_ascii=False))
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
            "kind": cls.rule.kind,
            "options": {field.name: field.default for field in cls.fields.values() if not field.fixed},
        }
        for name, cls in registry.optimizers().items()
    ]


def _workloads() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "title": workload.title,
            "description": workload.description,
            "metric": {"name": workload.metric.name, "direction": workload.metric.direction},
            "batch_size": workload.batch_size,
            "presets": {key: _preset(preset) for key, preset in workload.presets.items()},
            "settings": workload.settings,
        }
        for name, workload in workloads.workloads().items()
    ]


def _preset(preset: Any) -> dict[str, int]:
    return {**vars(preset.sizes), "epochs": preset.epochs, "seeds": preset.seeds}


KINDS: Final[dict[str, Callable[[], list[dict[str, Any]]]]] = {"optimizers": _optimizers, "workloads": _workloads}
