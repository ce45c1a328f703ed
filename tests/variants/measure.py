"""Measure every comparison whose library is installed; as a program it prints them as JSON.

`measured` starts that program, with float64 in jax, jax under Keras, and a folder of its own for Keras's settings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch

from cases import CLASSES

from .comparison import Comparison
from .comparisons import COMPARISONS
from .peers import PEERS, SCHEDULES, Schedule, largest_difference, ours, start_and_gradients

LIBRARIES = {
    "torch": ["torch"],
    "keras": ["keras", "jax"],
    "optax": ["optax", "jax"],
    "timm": ["timm"],
    "zij": ["zij"],
    "adam_mini": ["adam-mini"],
    "optimi": ["torch-optimi"],
    "torch_optimizer": ["torch-optimizer"],
    "pytorch_optimizer": ["pytorch_optimizer"],
    "schedulefree": ["schedulefree"],
    "prodigyopt": ["prodigyopt"],
    "dadaptation": ["dadaptation"],
    "momo": ["momo-opt"],
    "dog": ["dog-optimizer"],
    "parameterfree": ["parameterfree"],
    "kron_torch": ["kron-torch"],
    "quad_torch": ["quad-torch"],
    "formula": ["numpy"],
}
"""The distributions that each side needs; the first is the library itself."""


def version(distribution: str) -> str | None:
    """The installed version; None without one."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def lacking(library: str) -> list[str]:
    """Which distributions are not installed."""
    return [name for name in LIBRARIES[library] if version(name) is None]


@cache
def measured() -> dict[str, Any]:
    """``paths``: what was measured, by the other side's expression (see `_measure`); ``offered``: the names that each
    library has for optimizers, in small letters.
    """
    tests = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        jax = {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax", "KERAS_HOME": folder}
        settings = {**jax, "TORCHDYNAMO_DISABLE": "1"}  # some compile their steps, which changes no number
        path = os.pathsep.join([str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            env={**os.environ, **settings, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"measuring failed with status {done.returncode}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _measure(comparison: Comparison) -> dict[str, float]:
    """``constant`` and ``changing``: the difference between the paths under each schedule. Over both: ``without`` what
    selects the convention; the ``largest`` parameter; the ``way`` of the parameter that went farthest.
    """
    schedules = SCHEDULES if comparison.is_scheduled else dict.fromkeys(SCHEDULES, SCHEDULES["constant"])
    each = {name: _measure_under(comparison, schedule) for name, schedule in schedules.items()}
    over_both = {name: max(found[name] for found in each.values()) for name in ("without", "largest", "way")}
    return {name: found["difference"] for name, found in each.items()} | over_both


def _measure_under(comparison: Comparison, schedule: Schedule) -> dict[str, float]:
    options: dict[str, Any] = {**comparison.numbers, **comparison.selecting}
    base = options.get("lr", CLASSES[comparison.name.lower()].fields["lr"].default)
    theirs = PEERS[comparison.library](comparison, base, schedule)
    start, _ = start_and_gradients()
    return {
        "difference": largest_difference(ours(comparison, options, schedule), theirs),
        "without": largest_difference(ours(comparison, comparison.numbers, schedule), theirs),
        "largest": largest_difference(theirs, [[0 * x for x in start]] * len(theirs)),
        "way": largest_difference(theirs, [start] * len(theirs)),
    }


def _offered() -> dict[str, list[str]]:
    modules = {"keras": ["keras.optimizers"], "optax": ["optax", "optax.contrib"]}
    return {
        library: sorted({name.lower() for module in names for name in dir(import_module(module))})
        for library, names in modules.items()
        if not lacking(library)
    }


def main() -> None:
    """Print the measurements."""
    torch.set_default_dtype(torch.float64)
    paths = {c.theirs: _measure(c) for c in COMPARISONS if not lacking(c.library)}
    print(json.dumps({"paths": paths, "offered": _offered()}))


if __name__ == "__main__":
    main()
