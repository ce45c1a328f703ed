"""Keras 3, which has ε̂, other numbers, and the learning rate inside momenta."""

from __future__ import annotations

from .comparison import Comparison

LR = {"lr": 0.001}
KERAS_NUMBERS = {**LR, "eps": 1e-7}

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
    Comparison("its numbers", "keras.optimizers.Lion(weight_decay=0.1)", "Lion", {"lr": 0.001, "weight_decay": 0.1}),
    Comparison("its numbers", "keras.optimizers.Lamb()", "LAMB", {**KERAS_NUMBERS, "weight_decay": 0.0}),
    Comparison(
        "decay outside the trust ratio",
        "keras.optimizers.Lamb(weight_decay=0.1)",
        "LAMB",
        {**KERAS_NUMBERS, "weight_decay": 0.1},
        apart=0.023,
    ),
]
