"""Options that every optimizer takes: those of the transforms, and those that say how state is kept."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar

import torch

from . import storage, transforms
from .construction import Declared, collect_fields
from .fields import Fields

_OF = transforms.options()


class CommonOptions(Declared):
    """Keyword arguments of every optimizer, as type checkers read them.

    They act in the order of `steepest.transforms`, all in one pass over memory.

    Args:
        ema_decay: decay of an exponential moving average of the weights (see `Optimizer.averaged`); None keeps no
            average. It is a number, ``"warmup"``, ``"karras"``, ``"swa"`` (equal weights), a function of the number of
            averagings so far, or a mapping from names to several of these.
        ema_every, ema_start: steps between two averagings; steps in which the average is the weights themselves.
        lookahead: ``(k, alpha)`` keeps slow weights, which move a part ``alpha`` of the way to the fast ones every
            ``k`` steps, and restarts the fast ones there.
        gpa: ``(mu_x, mu_y)``: the rule moves weights z, of which x is an average with decay ``mu_x``. Gradients are
            taken at ``mu_y`` x + (1 - ``mu_y``) z, where the parameters are; `Optimizer.averaged` gives x.
        schedule_free: ``mu_y``, as in ``gpa``, with an x that weighs every z by the square of the largest rate so far.
        skip_nonfinite: leave out a step if a gradient of a group that sets this is NaN or infinite. Parameters, state
            and step counts stay as they are. `Optimizer.skipped` counts such steps.
        skip_limit: number of steps left out in a row after which the step raises `RuntimeError`.
        max_norm: largest norm of the gradient over all groups that set one; the gradients themselves stay as they are.
        norm_group: a `torch.distributed` process group, its name, or ``"WORLD"``. The norm is then that of the
            gradients of all its ranks. This is for an optimizer that holds a part of the parameters
            (ZeroRedundancyOptimizer). Every rank must then step as often as the others.
        zclip: largest norm of all gradients, in standard deviations above its running average. A larger norm is
            reduced to fewer deviations. The first 25 steps only collect norms.
        max_value: largest entry of the gradient.
        agc: adaptive gradient clipping: largest norm of a unit's gradient, relative to that of its weights.
        centralize: subtract from each unit's gradient its mean.
        cautious: move only where update and gradient agree in sign.
        update_rms: largest root mean square of the update, before it is scaled by the learning rate.
        hyperball: keep the norm of every matrix as it was at first, and turn it along the update by an angle of about
            lr. Vectors move as they do. Weight decay must be 0.
        cautious_weight_decay: decay decoupled weights only where update and weight agree.
        corrected_weight_decay: decay decoupled weights by lr²·weight_decay/lr_max.
        lr_max: the largest learning rate of the schedule, for ``corrected_weight_decay``.
        state_dtype: keep state like the parameter in fewer bytes: ``"bfloat16"`` or ``"int8"`` (or torch's dtypes).
            Tensors under 4,096 elements keep their state as it is. `Optimizer.convert_state` changes the dtype later.
        state_rounding: rounding of coded state: ``"stochastic"`` or ``"nearest"``.
        parameter_rounding: how bfloat16 parameters keep updates smaller than their last bit: ``"stochastic"`` or
            ``"kahan"``; None rounds to nearest, as torch does.
        seed: seed of the random bits used for stochastic rounding, and of a rule's random numbers.
    """

    fields: ClassVar[Fields] = Fields({})
    """Declared arguments by name, in the constructor's order."""

    _: KW_ONLY
    ema_decay: Any = _OF["ema_decay"]
    ema_every: int = _OF["ema_every"]
    ema_start: int = _OF["ema_start"]
    lookahead: tuple[int, float] | None = _OF["lookahead"]
    gpa: tuple[float, float] | None = _OF["gpa"]
    schedule_free: float | None = _OF["schedule_free"]
    skip_nonfinite: bool = _OF["skip_nonfinite"]
    skip_limit: int = _OF["skip_limit"]
    max_norm: float | None = _OF["max_norm"]
    norm_group: Any = _OF["norm_group"]
    zclip: float | None = _OF["zclip"]
    max_value: float | None = _OF["max_value"]
    agc: float | None = _OF["agc"]
    centralize: bool = _OF["centralize"]
    cautious: bool = _OF["cautious"]
    update_rms: float | None = _OF["update_rms"]
    hyperball: bool = _OF["hyperball"]
    cautious_weight_decay: bool = _OF["cautious_weight_decay"]
    corrected_weight_decay: bool = _OF["corrected_weight_decay"]
    lr_max: float | None = _OF["lr_max"]
    state_dtype: torch.dtype | str | None = storage.state_dtype()
    state_rounding: str = storage.state_rounding()
    parameter_rounding: str | None = storage.parameter_rounding()
    seed: int = storage.seed()


CommonOptions.fields = collect_fields(CommonOptions, _OF)
