"""zij, which keeps the original authors' own files."""

from __future__ import annotations

from .comparison import Comparison

DECAY = {"weight_decay": 0.1}

ZIJ = [
    Comparison("its numbers", "zij.Lion(params, weight_decay=0.1)", "Lion", DECAY),
    Comparison(
        "its numbers, no warm-up", "zij.AdEMAMix(params, weight_decay=0.1)", "AdEMAMix", {**DECAY, "alpha": 2.0}
    ),
    Comparison(
        "1e-8 inside the logarithm of the half-life of β3",
        "zij.AdEMAMix(params, weight_decay=0.1, beta3_warmup=40, alpha_warmup=40)",
        "AdEMAMix",
        {**DECAY, "alpha": 2.0, "total_steps": 40},
        apart=7.7e-08,
    ),
    Comparison("decay coupled", "zij.ADOPT(params, weight_decay=0.1)", "ADOPT", DECAY),
    Comparison(
        "decay decoupled",
        "zij.ADOPT(params, weight_decay=0.1, decouple=True)",
        "ADOPT",
        DECAY,
        {"decoupled_weight_decay": True},
    ),
    Comparison("decay by division", "zij.Adan(params, weight_decay=0.1, foreach=False)", "Adan", DECAY),
    Comparison(
        "decay by multiplication",
        "zij.Adan(params, weight_decay=0.1, no_prox=True, foreach=False)",
        "Adan",
        DECAY,
        {"prox": False},
    ),
    Comparison("its numbers", "zij.AdamAtan2(params, weight_decay=0.1)", "AdamAtan2", DECAY),
    Comparison("all defaults", "zij.LaProp(params)", "LaProp"),
    Comparison("decay after the step, by λ itself", "zij.LaProp(params, weight_decay=0.1)", "LaProp", DECAY, apart=1.5),
    Comparison("rectified", "zij.AdaBelief(params, weight_decay=0.1)", "AdaBelief", DECAY),
    Comparison(
        "its numbers, decay coupled",
        "zij.QHM(params, lr=0.001, momentum=0.999, nu=0.7, weight_decay=0.1)",
        "QHM",
        DECAY,
    ),
    Comparison(
        "decay decoupled",
        "zij.QHM(params, lr=0.001, momentum=0.999, nu=0.7, weight_decay=0.1, weight_decay_type='direct')",
        "QHM",
        DECAY,
        {"decoupled_weight_decay": True},
    ),
    Comparison(
        "decay coupled",
        "zij.QHAdam(params, betas=(0.995, 0.999), nus=(0.7, 0.9), weight_decay=0.1)",
        "QHAdam",
        {**DECAY, "betas": (0.995, 0.999)},
        {"nus": (0.7, 0.9)},
    ),
    Comparison("its numbers", "zij.MARS(params, weight_decay=0.1, optimize_1d=True)", "MARS", DECAY),
    Comparison(
        "vectors by AdamW with numbers of their own",
        "zij.MARS(params, weight_decay=0.1)",
        "MARS",
        DECAY,
        apart=0.015,
    ),
    Comparison("ε added before the correction", "zij.Grams(params, weight_decay=0.1)", "Grams", DECAY, apart=0.0033),
    Comparison("decay coupled", "zij.MADGRAD(params, weight_decay=0.1)", "MADGRAD", DECAY),
    Comparison("decay coupled", "zij.AdaBound(params, weight_decay=0.1)", "AdaBound", DECAY),
    Comparison(
        "maximum of v",
        "zij.AdaBound(params, weight_decay=0.1, amsbound=True)",
        "AdaBound",
        DECAY,
        {"amsbound": True},
    ),
    Comparison("its numbers", "zij.AdamP(params, weight_decay=0.1)", "AdamP", DECAY),
    Comparison(
        "projected as a whole at some steps",
        "zij.AdamP(params, weight_decay=0.1, delta=1.0)",
        "AdamP",
        DECAY,
        {"delta": 1.0},
    ),
    Comparison(
        "Nesterov",
        "zij.SGDP(params, lr=0.001, momentum=0.9, weight_decay=0.1, nesterov=True, delta=1.0)",
        "SGDP",
        {"momentum": 0.9, **DECAY, "delta": 1.0},
        {"nesterov": True},
    ),
    Comparison(
        "without Nesterov the buffer itself is projected",
        "zij.SGDP(params, lr=0.001, momentum=0.9, weight_decay=0.1, delta=1.0)",
        "SGDP",
        {"momentum": 0.9, **DECAY, "delta": 1.0},
        apart=0.0013,
    ),
]
