"""timm, the most exact of the libraries in torch; each optimizer is named by its own file: see `peers`."""

from __future__ import annotations

from .comparison import Comparison

DECAY = {"weight_decay": 0.1}

TIMM = [
    Comparison(
        "TensorFlow 1: v starts at 1, ε inside, η inside the buffer",
        "timm.optim.rmsprop_tf.RMSpropTF(params, lr=0.001, momentum=0.9)",
        "RMSprop",
        {"lr": 0.001, "alpha": 0.9, "eps": 1e-10, "momentum": 0.9},
        {"eps_in_sqrt": True, "lr_in_momentum": True, "initial_accumulator_value": 1.0},
    ),
    Comparison(
        "constant β1, simple form, decay decoupled",
        "timm.optim.nadamw.NAdamW(params, lr=0.002, weight_decay=0.1)",
        "NAdam",
        {**DECAY, "decoupled_weight_decay": True},
        {"momentum_schedule": "constant"},
    ),
    Comparison(
        "new term weighed by 1 - β1",
        "timm.optim.nvnovograd.NvNovoGrad(params, betas=(0.9, 0.999), weight_decay=0.1, grad_averaging=True)",
        "NovoGrad",
        {**DECAY, "lr": 0.001, "betas": (0.9, 0.999)},
        {"grad_averaging": True},
    ),
    Comparison("its numbers", "timm.optim.lion.Lion(params, weight_decay=0.1)", "Lion", DECAY),
    Comparison(
        "decay decoupled",
        "timm.optim.adopt.Adopt(params, clip_exp=0.25, weight_decay=0.1, decoupled=True)",
        "ADOPT",
        DECAY,
        {"decoupled_weight_decay": True},
    ),
    Comparison(
        "clipped at the power 0.333",
        "timm.optim.adopt.Adopt(params, weight_decay=0.1)",
        "ADOPT",
        DECAY,
        {"clip_exp": 0.333},
    ),
    Comparison("decay by division", "timm.optim.adan.Adan(params, weight_decay=0.1)", "Adan", DECAY),
    Comparison(
        "decay by multiplication",
        "timm.optim.adan.Adan(params, weight_decay=0.1, no_prox=True)",
        "Adan",
        DECAY,
        {"prox": False},
    ),
    Comparison("all defaults", "timm.optim.laprop.LaProp(params)", "LaProp"),
    Comparison(
        "decay after the step, and not before",
        "timm.optim.laprop.LaProp(params, weight_decay=0.1)",
        "LaProp",
        DECAY,
        apart=2.5e-07,
    ),
    Comparison("rectified", "timm.optim.adabelief.AdaBelief(params, weight_decay=0.1)", "AdaBelief", DECAY),
    Comparison(
        "not rectified",
        "timm.optim.adabelief.AdaBelief(params, weight_decay=0.1, rectify=False)",
        "AdaBelief",
        DECAY,
        {"rectify": False},
    ),
    Comparison(
        "not rectified, maximum of s",
        "timm.optim.adabelief.AdaBelief(params, weight_decay=0.1, rectify=False, amsgrad=True)",
        "AdaBelief",
        {**DECAY, "rectify": False},
        {"amsgrad": True},
    ),
    Comparison(
        "its numbers, without its clip of the global norm",
        "timm.optim.lamb.Lamb(params, weight_decay=0.1, max_grad_norm=None)",
        "LAMB",
        DECAY,
    ),
    Comparison(
        "a trust ratio without decay",
        "timm.optim.lamb.Lamb(params, weight_decay=0.0, max_grad_norm=None, always_adapt=True)",
        "LAMB",
        {"weight_decay": 0.0},
    ),
    Comparison(
        "no decay, so no trust ratio: Adam",
        "timm.optim.lamb.Lamb(params, weight_decay=0.0, max_grad_norm=None)",
        "LAMB",
        {"weight_decay": 0.0},
        apart=0.047,
    ),
    Comparison(
        "its numbers",
        "timm.optim.lars.Lars(params, momentum=0.9, weight_decay=0.1)",
        "LARS",
        DECAY,
    ),
    Comparison(
        "StableAdamW by another name: ε added inside RMS, decay by the whole rate",
        "timm.optim.adamw.AdamWLegacy(params, betas=(0.9, 0.99), weight_decay=0.1, clipping_threshold=1.0)",
        "StableAdamW",
        DECAY,
        apart=0.00025,
    ),
    Comparison(
        "Nesterov",
        "timm.optim.lars.Lars(params, momentum=0.9, weight_decay=0.1, nesterov=True)",
        "LARS",
        DECAY,
        {"nesterov": True},
    ),
    Comparison(
        "first correction by the first gradient",
        "timm.optim.mars.Mars(params, betas=(0.95, 0.99), weight_decay=0.1, optimize_1d=True)",
        "MARS",
        DECAY,
        {"first": "gradient"},
    ),
    Comparison("decay coupled", "timm.optim.madgrad.MADGRAD(params, weight_decay=0.1)", "MADGRAD", DECAY),
    Comparison(
        "decay coupled, no momentum",
        "timm.optim.madgrad.MADGRAD(params, weight_decay=0.1, momentum=0)",
        "MADGRAD",
        {**DECAY, "momentum": 0.0},
    ),
    Comparison(
        "decay decoupled",
        "timm.optim.madgrad.MADGRAD(params, weight_decay=0.1, decoupled_decay=True)",
        "MADGRAD",
        DECAY,
        {"decoupled_weight_decay": True},
    ),
    Comparison("its numbers", "timm.optim.adamp.AdamP(params, weight_decay=0.1)", "AdamP", DECAY),
    Comparison(
        "projected by rows at every step, Nesterov",
        "timm.optim.adamp.AdamP(params, weight_decay=0.1, delta=4.0, nesterov=True)",
        "AdamP",
        {**DECAY, "delta": 4.0},
        {"nesterov": True},
    ),
    Comparison(
        "its numbers, Nesterov",
        "timm.optim.sgdp.SGDP(params, lr=0.001, momentum=0.9, weight_decay=0.1, nesterov=True)",
        "SGDP",
        {"momentum": 0.9, **DECAY},
        {"nesterov": True},
    ),
    Comparison(
        "projected by rows at every step, dampened",
        "timm.optim.sgdp.SGDP(params, lr=0.001, momentum=0.9, dampening=0.5, weight_decay=0.1, delta=4.0)",
        "SGDP",
        {"momentum": 0.9, **DECAY, "delta": 4.0},
        {"dampening": 0.5},
    ),
]
