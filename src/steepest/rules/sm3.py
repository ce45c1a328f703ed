"""SM3: Adagrad in the memory of one number per row and per column."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import reduce

from torch import Tensor

from .. import fields
from ..fields import Options, State
from ..kinds import AXES
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import axis_max, lerp, maximum, minimum, sqrt, where


def sm3(p, g, b, *a, lr, momentum, beta, eps):
    """p, g, b: same shape, b None without momentum; a: for each dimension one number per index. Returns new (p, b, *a).

    A vector has one accumulator, like p.
    """
    v = where(beta > 0, beta, 1.0) * reduce(minimum, a) + (1 - beta) * g * g
    u = g / sqrt(v + eps)
    b = None if b is None else lerp(b, u, 1 - momentum)
    largest = [v] if len(a) == 1 else [axis_max(v, i) for i in range(len(a))]
    return p - lr * (u if b is None else b), b, *map(maximum, a, largest)


BUFFER = State("momentum_buffer", when=lambda o: o["momentum"] != 0)


def axes(count: int) -> Rule:
    """Return the rule of a tensor with ``count`` dimensions."""
    a = (State(f"accumulator_{i}", f"axis_{i}", nonnegative=True) for i in range(count))
    return Rule(sm3, "per_tensor", (BUFFER, *a), is_real=True)


VECTOR = Rule(sm3, "pointwise", (BUFFER, State("accumulator_0", nonnegative=True)))
RULES = (VECTOR, VECTOR, *(axes(count) for count in range(2, AXES + 1)))
"""Rules by the number of dimensions."""


class SM3(Optimizer):
    """SM3: Adagrad whose sum of squares is bounded by the least of its row's and its column's largest one.

    Source:
        Anil et al. 2019, "Memory-efficient adaptive optimization", arXiv:1901.11150, Algorithm SM3-II.
    Differs:
        torch has none. A tensor of d dimensions has d accumulators, as in the paper and all code, and the square that
        is added counts at once. ε is under the root and only keeps 0 / 0 away, as in the official code; optax has 1e-8.
        For a vector SM3 is Adagrad from 0. Momentum averages the scaled gradient; the paper's experiments have 0.9.
        ``beta`` > 0 averages the squares in place of the sum, as in pytorch_optimizer and torch-SM3. Decay is
        decoupled; the official code has none. A warm-up of the learning rate helps.
    Use:
        Choose it over Adagrad where memory is scarce. Search η from 0.01 to 1, with a warm-up.
    """

    lr: fields.Rate = fields.lr(0.1, 1e-2, 1.0)
    momentum: float = fields.momentum(0.0)
    beta: float = fields.hyper(
        0.0, "decay rate of the squares; 0 sums them", low=0.0, high=1.0, is_decay=True, candidates=(0.9, 0.99)
    )
    eps: float = fields.hyper(1e-30, "small constant ε under the root", low=0.0, candidates=(1e-8,))
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = RULES[2]

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the rule for the parameter's number of dimensions; without a parameter, a matrix's."""
        return RULES[2 if p is None else min(p.dim(), AXES)]

    @classmethod
    def check_parameter(cls, p: Tensor) -> None:
        """Refuse tensors of more dimensions than state is declared for."""
        if p.dim() > AXES:
            raise ValueError(
                f"SM3 keeps an accumulator for each of at most {AXES} dimensions, and a parameter has shape "
                f"{tuple(p.shape)}; reshape it, or give it to another optimizer"
            )
