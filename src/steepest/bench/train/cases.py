"""The models that are trained: those of the built-in workloads and a small GPT, on random batches of their shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...study.declaration import Declared
from ...study.workloads.char_transformer import Block, CharTransformer, char_transformer
from ...study.workloads.digits_mlp import digits_mlp
from ...study.workloads.fashion_mnist import fashion_mnist
from ..names import look_up

CLASSES: Final = 10
SYMBOLS: Final = 256
WINDOW: Final = 64
GPT_WINDOW: Final = 256

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """A model, its loss, and random batches.

    Attributes:
        name: its name on the command line.
        title: its name in words.
        model: builds the network from torch's global generator.
        loss: the mean loss of (outputs, targets), a scalar tensor.
        draw: returns inputs and targets for a number of examples, from a generator.
        batch_size: examples of a step.
        rounds: the default number of rounds; fewer where one step takes long.
    """

    name: str
    title: str
    model: Callable[[], nn.Module]
    loss: Callable[[Any, Any], Tensor]
    draw: Draw
    batch_size: int
    rounds: int

    def training(self, device: str) -> Training:
        """Return a new model in training mode with a batch. Every call returns the same numbers.

        torch's global generator is left as it was.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.model().to(device)
        inputs, targets = self.draw(self.batch_size, torch.Generator().manual_seed(0))
        return Training(model, self.loss, inputs.to(device), targets.to(device))


@dataclass(frozen=True, eq=False)
class Training:
    """A model with a batch that it is trained on over and over."""

    model: nn.Module
    loss: Callable[[Any, Any], Tensor]
    inputs: Tensor
    targets: Tensor

    @property
    def params(self) -> list[nn.Parameter]:
        """The model's parameters."""
        return list(self.model.parameters())

    def compiled(self) -> Training:
        """Return the same training, with the same parameters, of the model under ``torch.compile``."""
        return replace(self, model=cast(nn.Module, torch.compile(self.model)))

    def forward_backward(self) -> None:
        """Free the gradients, then compute them anew."""
        self.model.zero_grad()
        self.loss(self.model(self.inputs), self.targets).backward()  # type: ignore[no-untyped-call]


def images(size: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return grey images in [0, 1], float32, (count, 1, size, size), and their classes, int64, (count,)."""
    return (
        torch.rand(count, 1, size, size, generator=generator),
        torch.randint(CLASSES, (count,), generator=generator),
    )


def characters(window: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return symbols and their successors, both int64, (count, window)."""
    symbols = torch.randint(SYMBOLS, (count, window + 1), generator=generator)
    return symbols[:, :-1].contiguous(), symbols[:, 1:].contiguous()


def gpt() -> CharTransformer:
    """Return a GPT of 10.9 million parameters: six blocks of width 384 with six heads, windows of 256 symbols.

    These are the sizes of nanoGPT's network for characters (https://github.com/karpathy/nanoGPT,
    config/train_shakespeare_char.py).
    """
    return CharTransformer(width=384, heads=6, layers=6, window=GPT_WINDOW)


class Recomputed(nn.Module):
    """A block whose activations are not kept: the backward pass computes them again from the block's input."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, states: Tensor) -> Tensor:
        """Return what the block returns."""
        result: Tensor = checkpoint(self.block, states, use_reentrant=False)
        return result


def recomputing_gpt() -> CharTransformer:
    """Return `gpt` with activation checkpointing: gradients and state then take more memory than activations do."""
    model = gpt()
    model.blocks = nn.Sequential(*(Recomputed(x) if isinstance(x, Block) else x for x in model.blocks))
    return model


def of_workload(name: str, declared: Declared, draw: Draw, rounds: int) -> TrainingCase:
    """Return the case of a workload: its model, loss and batch size, on random batches."""
    workload = declared.workload("full")
    assert workload.loss is not None
    assert workload.batch_size is not None
    return TrainingCase(name, workload.network, workload.model, workload.loss, draw, workload.batch_size, rounds)


_TRANSFORMER = of_workload("char-transformer", char_transformer, partial(characters, WINDOW), rounds=15)
_GPT = TrainingCase(
    "gpt-10m",
    "GPT, 6 blocks of width 384",
    gpt,
    _TRANSFORMER.loss,
    partial(characters, GPT_WINDOW),
    batch_size=4,
    rounds=7,
)

CASES: Final = {
    case.name: case
    for case in (
        of_workload("digits-mlp", digits_mlp, partial(images, 8), rounds=30),
        of_workload("fashion-cnn", fashion_mnist, partial(images, 28), rounds=7),
        _TRANSFORMER,
        _GPT,
        replace(
            _GPT, name="gpt-10m-checkpoint", title=f"{_GPT.title}, activation checkpointing", model=recomputing_gpt
        ),
    )
}
"""The cases by name."""


def find(name: str) -> TrainingCase:
    """Return the case of that name.

    Raises:
        UnknownNameError: no case has that name.
    """
    return look_up("case", name, CASES)
