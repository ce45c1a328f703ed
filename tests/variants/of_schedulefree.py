"""schedulefree, the authors' own package."""

from __future__ import annotations

from .comparison import Comparison

SCHEDULEFREE = [
    Comparison("its numbers", "schedulefree.SGDScheduleFree(params, foreach=False)", "SGDScheduleFree"),
    Comparison(
        "its numbers, with warm-up, decay and weights that grow",
        "schedulefree.SGDScheduleFree(params, weight_decay=0.1, warmup_steps=20, r=1.0, foreach=False)",
        "SGDScheduleFree",
        {"weight_decay": 0.1, "warmup_steps": 20, "r": 1.0},
    ),
    Comparison("its numbers", "schedulefree.AdamWScheduleFree(params, foreach=False)", "AdamWScheduleFree"),
    Comparison(
        "its numbers, with warm-up, decay and equal weights",
        "schedulefree.AdamWScheduleFree(params, weight_decay=0.1, warmup_steps=20, weight_lr_power=0.0, foreach=False)",
        "AdamWScheduleFree",
        {"weight_decay": 0.1, "warmup_steps": 20, "weight_lr_power": 0.0},
    ),
    Comparison("its numbers", "schedulefree.RAdamScheduleFree(params, foreach=False)", "RAdamScheduleFree"),
    Comparison(
        "SGD while the variance is not known",
        "schedulefree.RAdamScheduleFree(params, silent_sgd_phase=False, foreach=False)",
        "RAdamScheduleFree",
        {},
        {"silent_sgd_phase": False},
    ),
]
