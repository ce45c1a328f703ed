"""Everything that is compared, and what is not: why."""

from __future__ import annotations

from cases import PLANNED_TWINS

from .comparison import Comparison
from .of_keras import KERAS
from .of_optax import OPTAX
from .of_others import OTHERS
from .of_timm import TIMM
from .of_zij import ZIJ

TORCH = [
    Comparison("all defaults", f"torch.optim.{cls.__name__}(params)", cls.__name__)
    for cls, _ in PLANNED_TWINS.values()
    if cls.rule.kind != "matrix"  # in bfloat16, and for matrices alone: tests/conformance
]

FORMULAS = [
    Comparison(
        "v starts at 1, ε inside, η inside the buffer (TensorFlow 1; timm's RMSpropTF)",
        "formula.rmsprop(alpha=0.9, eps=1e-10, momentum=0.9, eps_in_sqrt=True, lr_in_momentum=True, "
        "initial_accumulator_value=1.0)",
        "RMSprop",
        {"lr": 0.001, "alpha": 0.9, "eps": 1e-10, "momentum": 0.9},
        {"eps_in_sqrt": True, "lr_in_momentum": True, "initial_accumulator_value": 1.0},
    ),
    Comparison(
        "constant β1, simple form (timm's NAdamW)",
        "formula.nadam(momentum_schedule='constant')",
        "NAdam",
        {},
        {"momentum_schedule": "constant"},
    ),
    Comparison(
        "new term weighed by 1 - β1 (Apex, and Jasper on request)",
        "formula.novograd(betas=(0.9, 0.999), grad_averaging=True)",
        "NovoGrad",
        {"betas": (0.9, 0.999)},
        {"grad_averaging": True},
    ),
]

COMPARISONS = [*TORCH, *KERAS, *OPTAX, *TIMM, *ZIJ, *OTHERS, *FORMULAS]

NOT_COMPARED: dict[str, str] = {
    "adafactor": "Keras's and optax's add ε1 to g²; torch's, which we follow, bounds the mean of rows and the root",
    "lbfgs": "optax's has another line search and is given the function, not gradients",
    "muon": "Keras's iterates in the parameter's dtype, torch's and ours in bfloat16",
    "rprop": "optax's, like ours, reads the rate once, and cannot follow the schedule of the measurement",
}
"""Our classes, in small letters, that a library has under the same name and that are not compared: why."""
