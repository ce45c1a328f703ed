"""SparseAdam: Adam on only those elements that a sparse gradient has."""

from __future__ import annotations

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from .adam import adam


def sparse_adam(p, g, m, v, *, t, lr, beta1, beta2, eps):
    """p, g, m, v: same shape, only the elements of the gradient. Adam's rule with ε̂. Returns new (p, m, v)."""
    return adam(p, g, m, v, t=t, lr=lr, beta1=beta1, beta2=beta2, eps=eps, eps_in_sqrt=False, eps_hat=True)


class SparseAdam(Optimizer):
    """Lazy Adam for sparse gradients: what a gradient does not have keeps its value and its averages, undecayed.

    A step costs what the gradient's elements cost. Every parameter's step count runs with all of its steps, whichever
    elements they move. Parameters are dense and real; a dense gradient is an error.

    Source:
        Kingma and Ba 2015, arXiv:1412.6980, section 2 (its last form, "epsilon hat"), on the gradient's elements.
    Differs:
        torch: same numbers. As in torch ε is added to the uncorrected root (`Adam` with ``eps_hat=True``), and lr and ε
        are above 0. The step count is a tensor here and a plain int in torch; state dicts have torch's int. Half
        types add repeated elements, and compute, in float32.
    """

    lr: fields.Rate = fields.lr(1e-3, exclusive_low=True)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8, exclusive_low=True)
    maximize: bool = fields.maximize()

    rule = Rule(
        sparse_adam,
        "pointwise",
        (State("step", "step", saved_as_int=True), State("exp_avg"), State("exp_avg_sq", nonnegative=True)),
        sparse="lazy",
    )
