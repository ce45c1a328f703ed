"""Loss curves with float32, bfloat16 and int8 state, on the study's CNN and a small transformer, several seeds.

Run it as ``python benchmarks/storage_curves.py``: it writes docs/storage/curves.json and docs/images/storage.png. It
takes more than an hour of one core, keeps each finished curve in build/curves, and goes on from there when it is run
again. The seeds change the initial weights and the order of the examples; the figures answer whether coded state lies
within the spread that float32 has between seeds.
"""

import json
import pydoc_data.topics
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import steepest
from steepest.study.data import fashion_mnist as clothes
from steepest.study.running.memory import keep_freed_memory
from steepest.study.workloads import fashion_mnist

SEEDS = (0, 1, 2, 3, 4)
STORED: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"state_dtype": torch.bfloat16},
    "int8": {"state_dtype": "int8"},
}
STEPS = 2000
WINDOW = 50
"""Steps that one point of a curve averages over."""

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
KEPT = ROOT / "build" / "curves"
"""Folder of the finished curves."""

Batches = Iterator[tuple[Tensor, Tensor]]


class Characters(nn.Module):
    """A causal transformer over bytes: 2 layers, width 96, 64 bytes of context."""

    def __init__(self) -> None:
        """Build the network from torch's global generator."""
        super().__init__()
        self.embedding = nn.Embedding(256, 96)
        self.position = nn.Parameter(torch.randn(64, 96) * 0.02)
        layer = nn.TransformerEncoderLayer(96, 4, 384, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(96, 256)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, 64) bytes. Returns (batch, 256, 64) scores of the next byte."""
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.body(self.embedding(x) + self.position, mask=mask, is_causal=True)).transpose(1, 2)


def text_batches(seed: int) -> Batches:
    """Pieces of Python's own manual, which every Python has, 16 at a time."""
    text = torch.tensor(list("\n".join(pydoc_data.topics.topics.values()).encode()))
    source = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(text) - 65, (16,), generator=source)
        pieces = torch.stack([text[i : i + 65] for i in starts])
        yield pieces[:, :-1], pieces[:, 1:]


def image_batches(seed: int) -> Batches:
    """Fashion-MNIST's training images, 32 at a time."""
    data = clothes.load(None).train
    source = torch.Generator().manual_seed(seed)
    while True:
        chosen = torch.randint(len(data.targets), (32,), generator=source)
        yield data.inputs[chosen] / data.divisor, data.targets[chosen]


TASKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Batches], float]] = {
    "study's CNN, Fashion-MNIST": (fashion_mnist.model, image_batches, 1e-3),
    "small transformer, bytes of Python's manual": (Characters, text_batches, 3e-3),
}
"""Model, batches and learning rate of each task."""


def curve(task: str, stored: str, seed: int) -> list[float]:
    """The training loss, averaged over windows."""
    build, batches, lr = TASKS[task]
    torch.manual_seed(seed)
    model = build()
    optimizer = steepest.AdamW(model.parameters(), lr=lr, seed=seed, **STORED[stored])
    losses = []
    for _, (x, y) in zip(range(STEPS), batches(seed), strict=False):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [statistics.fmean(losses[i : i + WINDOW]) for i in range(0, STEPS, WINDOW)]


def place_of(task: str, stored: str, seed: int) -> Path:
    """The file that keeps a finished curve."""
    return KEPT / f"{TASKS[task][0].__name__}-{stored}-{STEPS}-{WINDOW}-{seed}.json"


def kept_curve(task: str, stored: str, seed: int) -> list[float]:
    """The curve that an earlier run kept, or a new one, which is kept."""
    path = place_of(task, stored, seed)
    if not path.exists():
        losses = curve(task, stored, seed)
        KEPT.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(losses))
        print(path.name, losses[-1], flush=True)
    return json.loads(path.read_text())


def summary(curves: dict[str, list[list[float]]]) -> dict[str, Any]:
    """The last window: each seed, its mean, float32's spread, and the difference paired by seed."""
    last = {stored: [c[-1] for c in of_seeds] for stored, of_seeds in curves.items()}
    spread = max(last["float32"]) - min(last["float32"])
    differences = {
        stored: [a - b for a, b in zip(values, last["float32"], strict=True)] for stored, values in last.items()
    }
    return {"last": last, "float32_spread": spread, "difference_by_seed": differences}


def draw(figures: dict[str, Any], path: Path) -> None:
    """One panel for each task, one line for each seed."""
    fig, axes = plt.subplots(1, len(TASKS), figsize=(11, 4), layout="constrained")
    steps = range(WINDOW, STEPS + 1, WINDOW)
    for axis, (task, figure) in zip(axes, figures.items(), strict=True):
        for colour, (stored, curves) in zip(("0.55", "tab:blue", "tab:orange"), figure["curves"].items(), strict=True):
            for index, of_seed in enumerate(curves):
                axis.plot(steps, of_seed, color=colour, lw=1.2, label=f"{stored} state" if index == 0 else None)
        axis.set(title=task, xlabel="step", yscale="log")
        axis.spines[["top", "right"]].set_visible(False)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
    axes[0].set_ylabel(f"training loss, mean of {WINDOW} steps")
    axes[0].legend(frameon=False)
    fig.savefig(path, dpi=130)


def main() -> None:
    """Train everything, print what decides, and write the figures."""
    keep_freed_memory()
    figures: dict[str, Any] = {}
    for task in TASKS:
        curves = {stored: [kept_curve(task, stored, seed) for seed in SEEDS] for stored in STORED}
        figures[task] = {"curves": curves, **summary(curves)}
        print(task, json.dumps({k: v for k, v in figures[task].items() if k != "curves"}, indent=1), flush=True)
    (DOCS / "storage").mkdir(exist_ok=True)
    (DOCS / "storage" / "curves.json").write_text(
        json.dumps({"steps": STEPS, "window": WINDOW, "tasks": figures}, indent=1)
    )
    draw(figures, DOCS / "images" / "storage.png")


if __name__ == "__main__":
    main()
