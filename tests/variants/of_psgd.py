"""kron_torch and quad_torch, the authors' packages of PSGD; what is mended in them for a comparison: see `peers`."""

from __future__ import annotations

from .comparison import Comparison

KRON = "kron_torch.Kron(params, weight_decay=0.1, precond_dtype=params[0].dtype{})"
DECAY = {"weight_decay": 0.1}
QUIET = {"noise_scale": 1e-30}

PSGD = [
    Comparison("its numbers, given our V, which does not join the step", KRON.format(""), "PSGDKron", DECAY),
    Comparison(
        "Q fitted to the gradient, and diagonal for the longer side",
        KRON.format(", memory_save_mode='smart_one_diag', momentum_into_precond_update=False"),
        "PSGDKron",
        {**DECAY, "memory_save_mode": "smart_one_diag"},
        {"momentum_into_precond_update": False},
    ),
    Comparison("some V joins the step", KRON.format(", precond_init_scale=1.0"), "PSGDKron", DECAY, apart=1.1e-06),
    Comparison("its numbers, next to no noise", "quad_torch.QUAD(params, noise_scale=1e-30)", "QUAD", QUIET),
    Comparison(
        "both sides dense",
        "quad_torch.QUAD(params, max_skew_dense=2.0, noise_scale=1e-30)",
        "QUAD",
        {"max_skew_dense": 2.0, **QUIET},
    ),
    Comparison(
        "steps five times as long",
        "quad_torch.QUAD(params, lr_style=None, noise_scale=1e-30)",
        "QUAD",
        QUIET,
        {"lr_style": "rms"},
    ),
]
