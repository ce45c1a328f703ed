"""What is compared: a convention, an expression that makes the other side, and our class with its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cases import PLANNED_TWINS


@dataclass(frozen=True)
class Comparison:
    """One row.

    Attributes:
        convention: what the other side does, in words.
        theirs: the Python expression that makes it, see `peers`.
        name: our class.
        numbers: our arguments that are its numbers.
        selecting: our arguments that choose the convention; without them we do what torch does.
    """

    convention: str
    theirs: str
    name: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    selecting: Mapping[str, Any] = field(default_factory=dict)

    @property
    def library(self) -> str:
        """The library that the other side comes from; ``formula`` for a reference that we wrote from the formula."""
        return self.theirs.partition(".")[0]

    @property
    def ours(self) -> str:
        """Our side, as it is typed."""
        given = ", ".join(f"{key}={value!r}" for key, value in {**self.numbers, **self.selecting}.items())
        return f"{self.name}({given})"


LR = {"lr": 0.001}
KERAS_NUMBERS = {**LR, "eps": 1e-7}

TORCH = [
    Comparison("all defaults", f"torch.optim.{cls.__name__}(params)", cls.__name__)
    for cls, _ in PLANNED_TWINS.values()
    if cls.rule.kind != "matrix"  # in bfloat16, and for matrices alone: tests/conformance
]

KERAS = [
    Comparison("plain", "keras.optimizers.SGD()", "SGD", {"lr": 0.01}),
    Comparison(
        "decay decoupled",
        "keras.optimizers.SGD(momentum=0.9, weight_decay=0.1)",
        "Momentum",
        {"lr": 0.01, "weight_decay": 0.1},
        {"decoupled_weight_decay": True},
    ),
    Comparison("η inside the velocity", "keras.optimizers.SGD(momentum=0.9)", "Momentum", {"lr": 0.01}),
    Comparison(
        "η inside the velocity, Nesterov",
        "keras.optimizers.SGD(momentum=0.9, nesterov=True)",
        "NAG",
        {"lr": 0.01},
    ),
    Comparison(
        "ε inside, sum starts at 0.1",
        "keras.optimizers.Adagrad()",
        "Adagrad",
        KERAS_NUMBERS,
        {"initial_accumulator_value": 0.1, "eps_in_sqrt": True},
    ),
    Comparison(
        "ε inside", "keras.optimizers.RMSprop()", "RMSprop", {**KERAS_NUMBERS, "alpha": 0.9}, {"eps_in_sqrt": True}
    ),
    Comparison(
        "ε inside, centered",
        "keras.optimizers.RMSprop(centered=True)",
        "RMSprop",
        {**KERAS_NUMBERS, "alpha": 0.9, "centered": True},
        {"eps_in_sqrt": True},
    ),
    Comparison(
        "η inside the momentum buffer",
        "keras.optimizers.RMSprop(momentum=0.9)",
        "RMSprop",
        {**KERAS_NUMBERS, "alpha": 0.9, "momentum": 0.9, "eps_in_sqrt": True},
        {"lr_in_momentum": True},
    ),
    Comparison("its numbers", "keras.optimizers.Adadelta()", "Adadelta", {**KERAS_NUMBERS, "rho": 0.95}),
    Comparison(
        "ε̂: ε added to the uncorrected root", "keras.optimizers.Adam()", "Adam", KERAS_NUMBERS, {"eps_hat": True}
    ),
    Comparison(
        "ε̂, maximum of the uncorrected v",
        "keras.optimizers.Adam(amsgrad=True)",
        "Adam",
        {**KERAS_NUMBERS, "amsgrad": True},
        {"eps_hat": True},
    ),
    Comparison(
        "ε̂, decay decoupled",
        "keras.optimizers.Adam(weight_decay=0.1)",
        "Adam",
        {**KERAS_NUMBERS, "weight_decay": 0.1, "eps_hat": True},
        {"decoupled_weight_decay": True},
    ),
    Comparison("ε̂", "keras.optimizers.AdamW()", "AdamW", {**KERAS_NUMBERS, "weight_decay": 0.004}, {"eps_hat": True}),
    Comparison(
        "ε added to u at the division", "keras.optimizers.Adamax()", "Adamax", KERAS_NUMBERS, {"eps_in_max": False}
    ),
    Comparison("μ_t with 0.96^t", "keras.optimizers.Nadam()", "NAdam", KERAS_NUMBERS, {"momentum_decay": 1.0}),
]

OPTAX = [
    Comparison("plain", "optax.sgd(lr)", "SGD", {"lr": 0.01}),
    Comparison("buffer starts at g", "optax.sgd(lr, momentum=0.9)", "SGD", {"lr": 0.01, "momentum": 0.9}),
    Comparison(
        "Nesterov",
        "optax.sgd(lr, momentum=0.9, nesterov=True)",
        "SGD",
        {"lr": 0.01, "momentum": 0.9, "nesterov": True},
    ),
    Comparison(
        "ε inside, sum starts at 0.1",
        "optax.adagrad(lr)",
        "Adagrad",
        {"lr": 0.01, "eps": 1e-7},
        {"initial_accumulator_value": 0.1, "eps_in_sqrt": True},
    ),
    Comparison("ε inside", "optax.rmsprop(lr)", "RMSprop", {**LR, "alpha": 0.9}, {"eps_in_sqrt": True}),
    Comparison(
        "ε inside, centered",
        "optax.rmsprop(lr, centered=True)",
        "RMSprop",
        {**LR, "alpha": 0.9, "centered": True},
        {"eps_in_sqrt": True},
    ),
    Comparison(
        "v starts at 1, η inside the momentum buffer",
        "optax.rmsprop(lr, initial_scale=1.0, momentum=0.9)",
        "RMSprop",
        {**LR, "alpha": 0.9, "momentum": 0.9, "eps_in_sqrt": True},
        {"initial_accumulator_value": 1.0, "lr_in_momentum": True},
    ),
    Comparison("all defaults", "optax.adadelta(lr)", "Adadelta"),
    Comparison("decay coupled", "optax.adadelta(lr, weight_decay=0.1)", "Adadelta", {"weight_decay": 0.1}),
    Comparison("all defaults", "optax.adam(lr)", "Adam"),
    Comparison(
        "ε under the corrected root",
        "optax.adam(lr, eps=0.0, eps_root=1e-8)",
        "Adam",
        {"eps": 1e-8},
        {"eps_in_sqrt": True},
    ),
    Comparison(
        "maximum of the corrected v", "optax.amsgrad(lr)", "Adam", {"amsgrad": True}, {"amsgrad_corrected": True}
    ),
    Comparison("its numbers", "optax.adamw(lr)", "AdamW", {"weight_decay": 1e-4}),
    Comparison(
        "decay independent of η",
        "optax.chain(optax.adam(lr), optax.add_decayed_weights(-0.01))",
        "AdamW",
        {"weight_decay": 0.01},
        {"lr_in_decay": False},
    ),
    Comparison(
        "decay λ times the schedule's multiplier (paper)",
        "optax.chain(optax.scale_by_adam(), optax.scale(0.001), optax.add_decayed_weights(0.01), "
        "optax.scale_by_learning_rate(multiplier))",
        "AdamW",
        {},
        {"weight_decay": 0.01 / 0.001},
    ),
    Comparison("ε inside the maximum", "optax.adamax(lr)", "Adamax"),
    Comparison(
        "decay decoupled",
        "optax.adamaxw(lr, weight_decay=0.1)",
        "Adamax",
        {"weight_decay": 0.1},
        {"decoupled_weight_decay": True},
    ),
    Comparison(
        "constant β1, m over 1 - β1^(t+1) (Dozat)", "optax.nadam(lr)", "NAdam", {}, {"momentum_schedule": "dozat"}
    ),
    Comparison("ε added to the corrected root", "optax.radam(lr)", "RAdam", {}, {"eps_hat": False}),
    Comparison(
        "rectified from ρ > 4 (paper)", "optax.radam(lr, threshold=4.0)", "RAdam", {"eps_hat": False}, {"threshold": 4}
    ),
    Comparison(
        "its numbers, decay inside the momentum",
        "optax.novograd(lr, weight_decay=0.1)",
        "NovoGrad",
        {"betas": (0.9, 0.25), "eps": 1e-6, "weight_decay": 0.1},
    ),
]

FORMULAS = [
    Comparison(
        "v starts at 1, ε inside, η inside the buffer (TensorFlow 1; timm's RMSpropTF)",
        "formula.rmsprop(alpha=0.9, eps=1e-10, momentum=0.9, eps_in_sqrt=True, lr_in_momentum=True, "
        "initial_accumulator_value=1.0)",
        "RMSprop",
        {**LR, "alpha": 0.9, "eps": 1e-10, "momentum": 0.9},
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

COMPARISONS = [*TORCH, *KERAS, *OPTAX, *FORMULAS]

NOT_COMPARED: dict[str, str] = {
    "adafactor": "Keras's and optax's add ε1 to g²; torch's, which we follow, bounds the mean of rows and the root",
    "lbfgs": "optax's has another line search and is given the function, not gradients",
    "muon": "Keras's iterates in the parameter's dtype, torch's and ours in bfloat16",
    "rprop": "optax's, like ours, reads the rate once, and cannot follow the schedule of the measurement",
}
"""Our classes, in small letters, that a library has under the same name and that are not compared: why."""
