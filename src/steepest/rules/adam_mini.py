"""Adam-mini: Adam with one second moment per block of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any

from torch import Tensor

from .. import fields
from ..fields import Options, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import head_mean, lerp, mean, row_mean, sqrt


def blockwise(block_mean: Callable[[Any], Any], v: State) -> Rule:
    """Return the rule whose second moment is a mean over blocks."""

    def adam_mini(p, g, m, v, *, t, lr, beta1, beta2, eps):
        """p, g, m: same shape; v: one number per block. Returns new (p, m, v)."""
        m = lerp(m, g, 1 - beta1)
        v = beta2 * v + (1 - beta2) * block_mean(g * g)
        mhat = m / (1 - beta1**t)
        vhat = v / (1 - beta2**t)
        return p - lr * mhat / (sqrt(vhat) + eps), m, v

    return Rule(adam_mini, "per_tensor", (State("step", "step"), State("exp_avg"), v), is_real=v.kind == "row")


ROWS = blockwise(row_mean, State("vmean", "row", nonnegative=True))
BLOCKS = {
    "row": ROWS,
    "tensor": blockwise(mean, State("vmean", "tensor_scalar", nonnegative=True)),
    "element": blockwise(lambda x: x, State("exp_avg_sq", nonnegative=True)),
}


HEADS: dict[int, Rule] = {}
"""Rules by their number of heads, each made when it is first asked for."""


def heads(n: int) -> Rule:
    """Return the rule with a block for each of ``n`` heads, which are runs of rows."""
    if n not in HEADS:
        HEADS[n] = blockwise(lambda x: head_mean(x, n), State("vmean", "row", nonnegative=True))
    return HEADS[n]


def block_of(value: Any) -> Any:
    """Return a block as a group keeps it: a word, or ``("head", n)``.

    Raises:
        ValueError: the value is something else.
    """
    if isinstance(value, (tuple, list)) and len(value) == 2 and value[0] == "head":
        if type(value[1]) is int and value[1] > 0:
            return ("head", value[1])
    elif isinstance(value, str) and value in BLOCKS:
        return value
    words = ", ".join(map(repr, BLOCKS))
    raise ValueError(f"Invalid block value: {value!r}; block must be one of {words} or ('head', number of heads)")


class AdamMini(Optimizer):
    """Adam-mini: AdamW whose second moment is one number per row, so that it has half of AdamW's state.

    Source:
        Zhang et al. 2024, "Adam-mini: use fewer learning rates to gain more", arXiv:2406.16793, Algorithm 1.
    Differs:
        torch has none. ``block`` says what shares a second moment: a row (all but the last dimension: an output of a
        linear layer, a word of an embedding), a whole tensor, or an element, which is AdamW. Vectors are taken element
        by element unless block="tensor". The official code (1.1.1) finds its blocks by the names of parameters: heads
        for queries and keys (give those a group with ``block=("head", n)``), rows for other matrices, and whole tensors
        for what it does not know, convolutions among them. Its earlier versions, and pytorch_optimizer, take embedding
        and output elementwise. The numbers of a head are kept once per row. Biases and norms decay like all others;
        official code leaves them out by name.
    Use:
        Choose it over AdamW for half of its state in transformers. Rates, betas and decay are AdamW's.
    Caveats:
        It was worse at 8 billion parameters in an independent test (Adam-mini #7). Grouped-query attention has fewer
        heads of keys than of queries: give each its own number (Adam-mini #25).
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    block: Any = fields.hyper(
        "row",
        "weights that share a second moment: 'row', 'tensor', 'element' or ('head', number of heads)",
        candidates=("tensor", "element", ("head", 1)),
        convert=block_of,
        words="'row', 'tensor', 'element' or ('head', number of heads)",
    )
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = ROWS

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the rule of the group's blocks, for a vector that of elements.

        Raises:
            ValueError: the rows of the parameter cannot be shared out among the heads.
        """
        block = options["block"]
        if p is not None and p.dim() < 2 and block != "tensor":
            return BLOCKS["element"]
        if isinstance(block, str):
            return BLOCKS[block]
        n = block[1]
        if p is not None and p.shape[-2] % n:
            raise ValueError(
                f"block=('head', {n}) shares the {p.shape[-2]} rows of a parameter of shape {tuple(p.shape)} out among "
                f"{n} heads, and {n} does not divide {p.shape[-2]}; give the number of its own heads (of keys and "
                f"values, if they have fewer), or put the parameter in a group with block='row'"
            )
        return heads(n)
