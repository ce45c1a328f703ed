"""Time ``optimizer.step()``: Steepest's foreach executor against torch's loop, foreach and fused modes.

Every candidate of a rule runs in turn, again and again, in one process; medians and quartiles are over those rounds,
and the figure to read is the ratio within the run.

Usage: ``python benchmarks/step_time.py [--json FILE] [--rounds N]``.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from steepest import Optimizer, registry
from steepest.study.machine import commit, machine, versions
from steepest.study.workloads.fashion_mnist import model

Shapes = list[tuple[int, ...]]
Step = Callable[[], Any]

MODES: dict[str, dict[str, bool]] = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
"""torch's modes by name."""


def shape_sets() -> dict[str, Shapes]:
    """What the parameters look like, by name."""
    cnn = [tuple(p.shape) for p in model().parameters()]
    return {
        "100 tensors of 1,000 floats": [(1000,)] * 100,
        "the study's CNN (474,670 floats)": cnn,
        "20 tensors of 500,000 floats": [(500_000,)] * 20,
        "1 tensor of 20 million floats": [(20_000_000,)],
    }


def prepare(optimizer_class: Any, shapes: Shapes, options: dict[str, Any]) -> Step:
    """An optimizer's bound step over fresh parameters with gradients, after two warm-up steps."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator)
    optimizer = optimizer_class(params, **options)
    optimizer.step()
    optimizer.step()
    step: Step = optimizer.step
    return step


def candidates(own: type[Optimizer], shapes: Shapes, options: dict[str, Any]) -> dict[str, Step]:
    """Ours, and each of torch's modes that exists for the class of the same name."""
    found = {"steepest foreach": prepare(own, shapes, options | {"foreach": True})}
    torchs = getattr(torch.optim, own.__name__, None)
    for mode, switches in MODES.items():
        if torchs is not None and switches.keys() <= inspect.signature(torchs).parameters.keys():
            found[f"torch {mode}"] = prepare(torchs, shapes, options | switches)
    return found


def measure(steps: dict[str, Step], rounds: int) -> dict[str, dict[str, float]]:
    """Run all steps in turn, ``rounds`` times; median and quartiles in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: _summary(values) for name, values in times.items()}


def _summary(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median_ms": round(median, 4), "low_ms": round(low, 4), "high_ms": round(high, 4)}


def rules() -> Iterator[tuple[str, type[Optimizer], dict[str, Any]]]:
    """Every optimizer that steps without a closure; those with optional momentum also with it."""
    for own in registry.optimizers().values():
        defaults = {name: field.default for name, field in own.fields.items()}
        if own.needs_closure(defaults):
            continue
        yield own.__name__, own, {}
        if defaults.get("momentum") == 0:
            yield f"{own.__name__}, momentum", own, {"momentum": 0.9}


def run(rounds: int) -> list[dict[str, Any]]:
    """Measure everything and print a line per rule."""
    rows = []
    for title, shapes in shape_sets().items():
        elements = sum(torch.Size(shape).numel() for shape in shapes)
        repeats = max(8, min(rounds, rounds * 200_000 // elements))
        print(f"\n{title} ({repeats} rounds; medians in ms)")
        for name, own, options in rules():
            figures = measure(candidates(own, shapes, options), repeats)
            rows.append({"shapes": title, "rule": name, "rounds": repeats, "times": figures, **_ratios(figures)})
            print(_line(rows[-1]))
    return rows


def _ratios(figures: dict[str, dict[str, float]]) -> dict[str, float | None]:
    ours = figures["steepest foreach"]["median_ms"]
    foreach = figures.get("torch foreach")
    return {"times_faster_than_torch_foreach": foreach and round(foreach["median_ms"] / ours, 2)}


def _line(row: dict[str, Any]) -> str:
    times = "  ".join(f"{name} {figures['median_ms']:8.3f}" for name, figures in row["times"].items())
    ratio = row["times_faster_than_torch_foreach"]
    return f"  {row['rule']:18} {times}" + (f"  -> {ratio:.2f}x torch foreach" if ratio else "")


def main() -> int:
    """Parse the arguments, run, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="save the figures with the machine's description")
    parser.add_argument("--rounds", type=int, default=100, help="rounds on the small sets (default 100)")
    arguments = parser.parse_args()
    about = {"machine": machine(), "versions": versions(), "threads": torch.get_num_threads(), "commit": commit()}
    print(json.dumps(about))
    rows = run(arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
