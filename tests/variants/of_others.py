"""Libraries of one rule (adam-mini), of a few (optimi), and the collections pytorch_optimizer and torch_optimizer."""

from __future__ import annotations

from .comparison import Comparison

DECAY = {"weight_decay": 0.1}

ADAM_MINI = [
    Comparison(
        "a block for each row, biases by element and without decay",
        "adam_mini.Adam_mini(named('mlp.weight', 'mlp.bias'), weight_decay=0.1, verbose=False)",
        "AdamMini",
        DECAY,
        vector={"weight_decay": 0.0},
    ),
    Comparison(
        "a block for each head",
        "adam_mini.Adam_mini(named('wq', 'bias'), dim=6, n_heads=3, weight_decay=0.1, verbose=False)",
        "AdamMini",
        DECAY,
        {"block": ("head", 2)},
        vector={"weight_decay": 0.0},
    ),
    Comparison(
        "a block for each tensor",
        "adam_mini.Adam_mini(named('a', 'b'), weight_decay=0.1, verbose=False)",
        "AdamMini",
        DECAY,
        {"block": "tensor"},
    ),
]

OPTIMI = [
    Comparison(
        "its numbers",
        "optimi.StableAdamW(params, lr=0.001, weight_decay=0.1, triton=False, foreach=False)",
        "StableAdamW",
        {**DECAY, "eps": 1e-6},
    ),
    Comparison(
        "decay by division",
        "optimi.Adan(params, lr=0.001, weight_decay=0.1, triton=False, foreach=False)",
        "Adan",
        {**DECAY, "eps": 1e-6},
    ),
]

TORCH_OPTIMIZER = [
    Comparison("decay coupled", "torch_optimizer.AggMo(params, weight_decay=0.1)", "AggMo", DECAY),
    Comparison("decay coupled", "torch_optimizer.Yogi(params, weight_decay=0.1)", "Yogi", DECAY),
    Comparison("decay coupled", "torch_optimizer.AdaBound(params, weight_decay=0.1)", "AdaBound", DECAY),
    Comparison("its numbers", "torch_optimizer.AdaMod(params, weight_decay=0.1)", "AdaMod", DECAY),
    Comparison("decay coupled", "torch_optimizer.DiffGrad(params, weight_decay=0.1)", "DiffGrad", DECAY),
    Comparison(
        "neither average corrected",
        "torch_optimizer.Lamb(params, weight_decay=0.1)",
        "LAMB",
        DECAY,
        apart=0.026,
    ),
]

PYTORCH_OPTIMIZER = [
    Comparison("its numbers", "pytorch_optimizer.Lion(params, weight_decay=0.1, foreach=False)", "Lion", DECAY),
    Comparison("its numbers", "pytorch_optimizer.SignSGD(params, weight_decay=0.1, foreach=False)", "Signum", DECAY),
    Comparison(
        "decay coupled by default",
        "pytorch_optimizer.AdEMAMix(params, weight_decay=0.1, foreach=False)",
        "AdEMAMix",
        DECAY,
        {"decoupled_weight_decay": False},
    ),
    Comparison(
        "warm-up of α and β3",
        "pytorch_optimizer.AdEMAMix(params, weight_decay=0.1, weight_decouple=True, t_alpha_beta3=40, foreach=False)",
        "AdEMAMix",
        DECAY,
        {"total_steps": 40},
    ),
    Comparison(
        "an average and no sum, and divided by √(1 - β2^t)",
        "pytorch_optimizer.SimplifiedAdEMAMix(params, weight_decay=0.1, foreach=False)",
        "SimplifiedAdEMAMix",
        DECAY,
        apart=0.04,
    ),
    Comparison(
        "the clip counts one step more",
        "pytorch_optimizer.ADOPT(params, foreach=False)",
        "ADOPT",
        apart=0.00039,
    ),
    Comparison(
        "its clip counted as in the paper",
        "pytorch_optimizer.ADOPT(params, clip_lambda=lambda step: (step - 1) ** 0.25, foreach=False)",
        "ADOPT",
    ),
    Comparison(
        "ε added before the correction, 1e-15 under the root",
        "pytorch_optimizer.LaProp(params, foreach=False)",
        "LaProp",
        apart=4.6e-06,
    ),
    Comparison(
        "decay coupled",
        "pytorch_optimizer.QHM(params, momentum=0.999, nu=0.7, weight_decay=0.1, foreach=False)",
        "QHM",
        DECAY,
    ),
    Comparison("decay coupled", "pytorch_optimizer.AggMo(params, weight_decay=0.1, foreach=False)", "AggMo", DECAY),
    Comparison(
        "decay decoupled",
        "pytorch_optimizer.Yogi(params, weight_decay=0.1, foreach=False)",
        "Yogi",
        DECAY,
        {"decoupled_weight_decay": True},
    ),
    Comparison(
        "1 / (1 - β1^t) outside the ratio, decay decoupled",
        "pytorch_optimizer.Lamb(params, weight_decay=0.1, max_grad_norm=0.0, foreach=False)",
        "LAMB",
        DECAY,
        apart=0.055,
    ),
    Comparison(
        "vectors neither scaled nor decayed",
        "pytorch_optimizer.LARS(params, lr=1.0, weight_decay=0.1, foreach=False)",
        "LARS",
        DECAY,
        apart=8.9,
    ),
    Comparison(
        "its numbers",
        "pytorch_optimizer.StableAdamW(params, weight_decay=0.1, foreach=False)",
        "StableAdamW",
        DECAY,
    ),
    Comparison(
        "ε added before the correction, 1e-15 under the root",
        "pytorch_optimizer.MARS(params, weight_decay=0.1, optimize_1d=True, foreach=False)",
        "MARS",
        DECAY,
        apart=0.0001,
    ),
    Comparison("its numbers", "pytorch_optimizer.Grams(params, weight_decay=0.1)", "Grams", DECAY),
    Comparison(
        "no maximum of v, decay coupled",
        "pytorch_optimizer.PAdam(params, weight_decay=0.1, foreach=False)",
        "Padam",
        DECAY,
        {"amsgrad": False},
    ),
    Comparison(
        "its numbers",
        "pytorch_optimizer.AdaMod(params, weight_decay=0.1, foreach=False)",
        "AdaMod",
        {**DECAY, "betas": (0.9, 0.99), "beta3": 0.9999},
    ),
    Comparison(
        "1e-15 under the root, decay decoupled",
        "pytorch_optimizer.DiffGrad(params, weight_decay=0.1, foreach=False)",
        "DiffGrad",
        {**DECAY, "decoupled_weight_decay": True},
        apart=3.6e-06,
    ),
    Comparison(
        "its numbers",
        "pytorch_optimizer.SM3(params, momentum=0.9, foreach=False)",
        "SM3",
        {"momentum": 0.9},
    ),
    Comparison(
        "average of the squares",
        "pytorch_optimizer.SM3(params, beta=0.9, foreach=False)",
        "SM3",
        {},
        {"beta": 0.9},
    ),
    Comparison(
        "ε added before the correction",
        "pytorch_optimizer.AdamP(params, weight_decay=0.1)",
        "AdamP",
        DECAY,
        apart=0.00011,
    ),
    Comparison(
        "its numbers",
        "pytorch_optimizer.SGDP(params, momentum=0.9, weight_decay=0.1)",
        "SGDP",
        {"momentum": 0.9, **DECAY},
    ),
    Comparison(
        "another method of that name: Adam with stable decay",
        "pytorch_optimizer.AdamS(params, weight_decay=0.1, foreach=False)",
        "AdamS",
        DECAY,
        apart=0.038,
    ),
    Comparison("its numbers", "pytorch_optimizer.CAME(params, weight_decay=0.1, foreach=False)", "CAME", DECAY),
    *[
        Comparison(
            f"steps to the ball of the {norm} norm, vectors by root mean square",
            f"pytorch_optimizer.SCION([{{'params': params[:1], 'norm_type': {code}}}, "
            "{'params': params[1:], 'norm_type': 5}], scale=50.0, constraint=True, foreach=False)",
            "Scion",
            {"lr": 0.001},
            {"norm": name},
            vector={"norm": "bias_rms"},
        )
        for code, norm, name in ((4, "largest-entry", "sign"), (6, "column", "col_norm"), (7, "row", "row_norm"))
    ],
]

PARAMETER_FREE = [
    Comparison(
        "its numbers", "prodigyopt.Prodigy(params, d0=0.01, weight_decay=0.1)", "Prodigy", {"d0": 0.01, **DECAY}
    ),
    Comparison(
        "for diffusion models, decay coupled",
        "prodigyopt.Prodigy(params, d0=0.01, weight_decay=0.1, decouple=False, use_bias_correction=True, "
        "safeguard_warmup=True, growth_rate=1.02)",
        "Prodigy",
        {"d0": 0.01, **DECAY, "growth_rate": 1.02},
        {"decouple": False, "use_bias_correction": True, "safeguard_warmup": True},
    ),
    Comparison(
        "its numbers", "dadaptation.DAdaptAdam(params, d0=0.01, weight_decay=0.1)", "DAdaptAdam", {"d0": 0.01, **DECAY}
    ),
    Comparison(
        "decay decoupled",
        "dadaptation.DAdaptAdam(params, d0=0.01, growth_rate=1.02, weight_decay=0.1, decouple=True)",
        "DAdaptAdam",
        {"d0": 0.01, "growth_rate": 1.02, **DECAY},
        {"decouple": True},
    ),
    Comparison(
        "its numbers",
        "dadaptation.DAdaptSGD(params, d0=0.1, momentum=0.9)",
        "DAdaptSGD",
        {"d0": 0.1, "momentum": 0.9},
    ),
    Comparison(
        "the first norm leaves the decay out",
        "dadaptation.DAdaptSGD(params, d0=0.1, weight_decay=0.1)",
        "DAdaptSGD",
        {"d0": 0.1, **DECAY},
        apart=0.17,
    ),
    Comparison("its numbers", "momo.Momo(params)", "MoMo"),
    Comparison("decay divides the step too", "momo.Momo(params, weight_decay=0.1)", "MoMo", DECAY, apart=0.21),
    Comparison("its numbers", "momo.MomoAdam(params, lr=1.0, weight_decay=0.1)", "MoMoAdam", {"lr": 1.0, **DECAY}),
    Comparison(
        "the bound adapted",
        "momo.MomoAdam(params, lr=1.0, lb=-1.0, weight_decay=0.1, use_fstar=True)",
        "MoMoAdam",
        {"lr": 1.0, "lower_bound": -1.0, **DECAY},
        {"adapt_lower_bound": True},
    ),
    Comparison("its numbers", "dog.DoG(params, reps_rel=0.1, weight_decay=0.1)", "DoG", {"reps_rel": 0.1, **DECAY}),
    Comparison("its numbers", "dog.LDoG(params, reps_rel=0.1, weight_decay=0.1)", "LDoG", {"reps_rel": 0.1, **DECAY}),
    Comparison(
        "without a rate",
        "parameterfree.COCOB(params, weight_decay=0.1)",
        "COCOB",
        DECAY,
        is_scheduled=False,
    ),
]

OTHERS = [*ADAM_MINI, *OPTIMI, *TORCH_OPTIMIZER, *PYTORCH_OPTIMIZER, *PARAMETER_FREE]
