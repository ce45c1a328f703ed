"""The first step's latency: from a cold and from a warm cache, each in a process of its own."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from ..registry import Recipe
from .cases import Case
from .implementations import Implementation, implementations
from .timing import Timer

TINY: Final = Case("tiny", "a perceptron of 58 numbers", lambda: iter([(8, 4), (8,), (2, 8), (2,)]), rounds=1)
MATRIX: Final = Case("matrix", "a matrix of 32 numbers", lambda: iter([(8, 4)]), rounds=1)
CACHES: Final = ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Environment variables that name the folders of compiled code."""
TIME_LIMIT: Final = 300
FAILURE_WORDS: Final = 300


@dataclass(frozen=True)
class FirstStep:
    """Seconds of an implementation's first step. ``unavailable`` is the reason if there are none."""

    rule: str
    source: str
    mode: str
    cold: float | None = None
    warm: float | None = None
    unavailable: str | None = None


def measure(recipe: Recipe, implementation: Implementation, device: str) -> FirstStep:
    """Run two processes, one after the other, with one cache folder that is empty at first."""
    who = (recipe.label, implementation.source, implementation.mode)
    with tempfile.TemporaryDirectory(prefix="steepest-bench-") as folder:
        try:
            cold, warm = (in_process(recipe, implementation, device, Path(folder)) for _ in range(2))
        except RuntimeError as error:
            return FirstStep(*who, unavailable=str(error))
    return FirstStep(*who, cold=cold, warm=warm)


def in_process(recipe: Recipe, implementation: Implementation, device: str, cache: Path) -> float:
    """Time the first step in a new process that keeps compiled code in ``cache``.

    Raises:
        RuntimeError: the process failed; the message says how.
    """
    command = [sys.executable, "-m", __name__, recipe.name, repr(dict(recipe.options)), implementation.name, device]
    environment = {**os.environ, **{name: str(cache / name) for name in CACHES}}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"it took more than {TIME_LIMIT} s") from error
    return _seconds(done)


def _seconds(done: subprocess.CompletedProcess[str]) -> float:
    """Read the seconds from the last line of the output. A peer may print lines of its own before it."""
    lines = done.stdout.strip().splitlines()
    try:
        answer: Mapping[str, Any] = json.loads(lines[-1])
        return float(answer["seconds"])
    except (IndexError, KeyError, TypeError, ValueError):
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise RuntimeError(last[:FAILURE_WORDS]) from None


def first_step(recipe: Recipe, name: str, device: str) -> float:
    """Time the first step of implementation ``name`` in this process."""
    (implementation,) = (c for c in implementations(recipe) if c.name == name)
    is_of_matrices = recipe.optimizer.rule_for(recipe.resolved()).kind == "matrix"
    optimizer = implementation.build((MATRIX if is_of_matrices else TINY).parameters(device))
    return Timer.of(device).seconds(optimizer.step, 1)


def main(arguments: Sequence[str]) -> None:
    """Print the seconds as JSON. Arguments: rule, options as a Python literal, implementation, device."""
    rule, options, name, device = arguments
    print(json.dumps({"seconds": first_step(Recipe(rule, ast.literal_eval(options)), name, device)}))


if __name__ == "__main__":
    main(sys.argv[1:])
