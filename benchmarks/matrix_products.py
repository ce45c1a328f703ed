"""Steps of rules for matrices against the matrix products in them, which are the least that they can take.

Run it as ``python benchmarks/matrix_products.py``; it takes a minute or two and writes
benchmarks/results/matrix_products.json. Over 24 matrices of 256 x 256 numbers it notes every product and decomposition
of as many steps as lie between two refreshes. Then it times these steps, the same products, and the same
decompositions, in turn, on one thread, in the thread's own processor time.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import steepest
from steepest.bench import cases, machine
from steepest.optimizer import Optimizer

RESULTS = Path(__file__).parent / "results" / "matrix_products.json"
RULES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("soap", {}),
    ("shampoo", {}),
    ("shampoo", {"precondition_frequency": 10}),
)
ROUNDS = 5

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.bmm, aten.addmm, aten.baddbmm)
DECOMPOSITIONS = (aten.linalg_qr, aten._linalg_eigh, aten.linalg_cholesky_ex, aten.geqrf)


class Notes(TorchDispatchMode):
    """The operations of one sort, by shapes: the first arguments and the number of calls."""

    def __init__(self, packets: tuple[Any, ...]) -> None:
        """Note calls of these operations."""
        super().__init__()
        self.packets = packets
        self.calls: dict[Any, int] = {}
        self.first: dict[Any, Callable[[], Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and note it."""
        if func.overloadpacket in self.packets:
            tensors = [x for x in args if isinstance(x, torch.Tensor)]
            key = func, *((tuple(x.shape), x.stride(), x.dtype) for x in tensors)
            self.calls[key] = self.calls.get(key, 0) + 1
            if key not in self.first:
                self.first[key] = _again(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    @property
    def count(self) -> int:
        """Number of calls, with one for each matrix of a stack."""
        return sum(calls * _matrices(key[-1][0]) for key, calls in self.calls.items())

    def replay(self) -> None:
        """Run the noted operations again, without anything else."""
        for key, calls in self.calls.items():
            for _ in range(calls):
                self.first[key]()


def _matrices(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) > 2 else 1


def _again(func: Any, args: Any, kwargs: Any) -> Callable[[], Any]:
    kept = [x.clone() if isinstance(x, torch.Tensor) else x for x in args]
    return lambda: func(*kept, **kwargs)


def main() -> None:
    """Measure all rules, print a row for each, and write them."""
    rows = []
    with one_thread(), torch.no_grad():
        for name, options in RULES:
            rows.append(row(name, options))
            print(json.dumps(rows[-1]), flush=True)
    about = {"case": "matrices", "threads": 1, "rounds": ROUNDS, "machine": machine.describe("cpu")}
    RESULTS.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, so that other work on the machine disturbs all sides alike."""
    outside = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(outside)


def row(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a rule, in seconds per step."""
    params = cases.find("matrices").parameters("cpu")
    optimizer: Optimizer = steepest.create(name, params, lr=1e-6, **options)
    period = optimizer.param_groups[0].get("precondition_frequency", 1)
    for _ in range(2 * period):
        optimizer.step()
    products, decompositions = noted(optimizer, period, PRODUCTS), noted(optimizer, period, DECOMPOSITIONS)

    def steps() -> None:
        for _ in range(period):
            optimizer.step()

    sides = {"step": steps, "products": products.replay, "decompositions": decompositions.replay}
    samples: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, run in sides.items():
            samples[side].append(timed(run) / period)
    found = {side: median(values) for side, values in samples.items()}
    floors = [a + b for a, b in zip(samples["products"], samples["decompositions"], strict=True)]
    return {
        "rule": name,
        "options": options,
        "period": period,
        "products_per_step": products.count / period,
        "decompositions_per_step": decompositions.count / period,
        **found,
        "step_over_products": median(map(_ratio, samples["step"], samples["products"])),
        "step_over_both": median(map(_ratio, samples["step"], floors)),
    }


def _ratio(a: float, b: float) -> float:
    return a / b


def noted(optimizer: Optimizer, steps: int, packets: tuple[Any, ...]) -> Notes:
    """Return the operations of some steps."""
    with Notes(packets) as notes:
        for _ in range(steps):
            optimizer.step()
    return notes


def timed(run: Callable[[], None]) -> float:
    """Return the processor's seconds that a function takes; those in which others run do not count."""
    before = time.thread_time()
    run()
    return time.thread_time() - before


if __name__ == "__main__":
    main()
