"""The parameter shapes that are timed, taken from the architectures they belong to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch

from .names import look_up

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """A set of parameter shapes.

    Attributes:
        name: its name on the command line.
        title: its name in words.
        make: yields the shapes, in the order in which the model's ``parameters()`` has them.
        rounds: the default number of rounds; fewer where one step takes long.
    """

    name: str
    title: str
    make: Callable[[], Iterator[Shape]]
    rounds: int

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Return the shapes."""
        return tuple(self.make())

    @property
    def elements(self) -> int:
        """Return the number of parameters."""
        return sum(map(math.prod, self.shapes))

    def parameters(self, device: str) -> list[torch.nn.Parameter]:
        """Create parameters with gradients: normal numbers, parameters of size 0.01 and gradients of size 1.

        With constant gradients of ordinary size and a tiny learning rate nothing drifts, however many steps are taken:
        no infinity, NaN or denormal number, on which processors are slow, ever enters the timing.
        """
        generator = torch.Generator(device).manual_seed(0)
        made = []
        for shape in self.shapes:
            p = torch.nn.Parameter(torch.randn(shape, generator=generator, device=device).mul_(0.01))
            p.grad = torch.randn(shape, generator=generator, device=device)
            made.append(p)
        return made


def small() -> Iterator[Shape]:
    """Yield a hundred vectors of 1,000 numbers, whose step is mostly overhead and little arithmetic."""
    yield from [(1000,)] * 100


def matrices() -> Iterator[Shape]:
    """Yield 24 square matrices of one size, as the hidden layers of a small transformer have them."""
    yield from [(256, 256)] * 24


def cnn() -> Iterator[Shape]:
    """Yield the reference study's network: three 3x3 convolutions with batch normalisation, two linear layers."""
    for channels, filters in ((1, 72), (72, 256), (256, 128)):
        yield from _convolution(channels, filters, 3, bias=True)
    yield from _linear(128, 84)
    yield from _normalisation(84)
    yield from _linear(84, 10)


def resnet18() -> Iterator[Shape]:
    """Yield ResNet-18 for 1,000 classes (He et al. 2016, arXiv:1512.03385, Table 1) with shortcuts of type B."""
    yield from _convolution(3, 64, 7)
    channels = 64
    for filters in (64, 128, 256, 512):
        yield from _residual_block(channels, filters)
        yield from _residual_block(filters, filters)
        channels = filters
    yield from _linear(512, 1000)


def gpt2_small() -> Iterator[Shape]:
    """Yield GPT-2's small model (Radford et al. 2019): 12 blocks of width 768, output tied to the token embedding."""
    width, vocabulary, context, blocks = 768, 50257, 1024, 12
    yield (vocabulary, width)
    yield (context, width)
    for _ in range(blocks):
        yield from _normalisation(width)
        yield from _linear(width, 3 * width)
        yield from _linear(width, width)
        yield from _normalisation(width)
        yield from _linear(width, 4 * width)
        yield from _linear(4 * width, width)
    yield from _normalisation(width)


def hundred_million() -> Iterator[Shape]:
    """Yield one vector of 100 million numbers, whose step is only arithmetic and memory."""
    yield (100_000_000,)


def _residual_block(channels: int, filters: int) -> Iterator[Shape]:
    yield from _convolution(channels, filters, 3)
    yield from _convolution(filters, filters, 3)
    if channels != filters:
        yield from _convolution(channels, filters, 1)


def _convolution(channels: int, filters: int, size: int, bias: bool = False) -> Iterator[Shape]:
    yield (filters, channels, size, size)
    if bias:
        yield (filters,)
    yield from _normalisation(filters)


def _linear(inputs: int, outputs: int) -> Iterator[Shape]:
    yield (outputs, inputs)
    yield (outputs,)


def _normalisation(width: int) -> Iterator[Shape]:
    yield from [(width,)] * 2


CASES: Final = {
    case.name: case
    for case in (
        Case("small", "100 tensors of 1,000 floats", small, rounds=50),
        Case("matrices", "24 matrices of 256 x 256 floats", matrices, rounds=30),
        Case("cnn", "the study's CNN", cnn, rounds=50),
        Case("resnet18", "ResNet-18", resnet18, rounds=20),
        Case("gpt2-small", "GPT-2 small", gpt2_small, rounds=9),
        Case("100m", "one tensor of 100 million floats", hundred_million, rounds=9),
    )
}
"""The cases by name."""


def find(name: str) -> Case:
    """Return the case of that name.

    Raises:
        UnknownNameError: no case has that name.
    """
    return look_up("case", name, CASES)
