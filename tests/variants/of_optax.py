"""optax, whose learning rate is a schedule named ``lr``: see `peers`."""

from __future__ import annotations

from .comparison import Comparison

LR = {"lr": 0.001}

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
    Comparison("its numbers", "optax.lion(lr)", "Lion", {"weight_decay": 1e-3}),
    Comparison("SignSGD", "optax.sign_sgd(lr)", "Signum", {"momentum": 0.0}),
    Comparison("all defaults", "optax.signum(lr)", "Signum"),
    Comparison("its numbers", "optax.contrib.ademamix(lr, weight_decay=0.1)", "AdEMAMix", {"weight_decay": 0.1}),
    Comparison(
        "its numbers",
        "optax.contrib.simplified_ademamix(lr, alpha=2.0, weight_decay=0.1)",
        "SimplifiedAdEMAMix",
        {"alpha": 2.0, "weight_decay": 0.1},
    ),
    Comparison("all defaults", "optax.contrib.adopt(lr)", "ADOPT"),
    Comparison("its numbers, no clip", "optax.contrib.adopt(lr, use_clipping=False)", "ADOPT", {}, {"clip_exp": None}),
    Comparison("differences weighed by 1 - β2 and not by β2", "optax.adan(lr, eps_root=0.0)", "Adan", apart=0.0081),
    Comparison("not rectified", "optax.adabelief(lr)", "AdaBelief", {}, {"rectify": False}),
    Comparison("all defaults", "optax.yogi(lr)", "Yogi"),
    Comparison("all defaults", "optax.lamb(lr, weight_decay=0.01)", "LAMB"),
    Comparison(
        "the ratio has the norm of g + λθ, η inside the buffer",
        "optax.lars(lr, weight_decay=0.1)",
        "LARS",
        {"eps": 0.0, "weight_decay": 0.1},
        apart=0.089,
    ),
    Comparison(
        "its numbers",
        "optax.chain(optax.scale_by_sm3(b1=0.9, b2=1.0, eps=1e-8), optax.scale_by_learning_rate(lr))",
        "SM3",
        {"momentum": 0.9, "eps": 1e-8},
    ),
    Comparison(
        "averages corrected",
        "optax.contrib.prodigy(lr, estim_lr0=0.01, weight_decay=0.1)",
        "Prodigy",
        {"d0": 0.01, "weight_decay": 0.1},
        {"use_bias_correction": True},
    ),
    Comparison(
        "averages corrected, decay decoupled",
        "optax.contrib.dadapt_adamw(lr, estim_lr0=0.01, weight_decay=0.1)",
        "DAdaptAdam",
        {"d0": 0.01, "weight_decay": 0.1},
        {"use_bias_correction": True, "decouple": True},
    ),
    Comparison(
        "its numbers",
        "optax.contrib.dog(lr, init_step=('heuristic', 0.1), weight_decay=0.1)",
        "DoG",
        {"reps_rel": 0.1, "weight_decay": 0.1},
    ),
    Comparison("its numbers", "optax.contrib.dowg(lr, weight_decay=0.1)", "DoWG", {"weight_decay": 0.1}),
    Comparison(
        "at rate 1", "optax.contrib.cocob(weight_decay=0.1)", "COCOB", {"weight_decay": 0.1}, is_scheduled=False
    ),
    Comparison("its numbers", "optax.contrib.momo(lr, weight_decay=0.1)", "MoMo", {"weight_decay": 0.1}),
    Comparison(
        "the bound adapted",
        "optax.contrib.momo(lr, lower_bound=-1.0, weight_decay=0.1, adapt_lower_bound=True)",
        "MoMo",
        {"lower_bound": -1.0, "weight_decay": 0.1},
        {"adapt_lower_bound": True},
    ),
    Comparison("its numbers", "optax.contrib.momo_adam(lr)", "MoMoAdam", {"lr": 1.0}),
    Comparison(
        "the bound adapted",
        "optax.contrib.momo_adam(lr, lower_bound=-1.0, adapt_lower_bound=True)",
        "MoMoAdam",
        {"lr": 1.0, "lower_bound": -1.0},
        {"adapt_lower_bound": True},
    ),
    Comparison(
        "decay does not divide the step",
        "optax.contrib.momo_adam(lr, weight_decay=0.1)",
        "MoMoAdam",
        {"lr": 1.0, "weight_decay": 0.1},
        apart=0.27,
    ),
    Comparison(
        "√t in float32", "optax.contrib.madgrad(lr, weight_decay=0.1)", "MADGRAD", {"weight_decay": 0.1}, apart=7.6e-09
    ),
]
