"""Optimizers by name for the Trainer of Hugging Face's transformers.

Example:
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> optimizer, scheduler = trainer_optimizer("muon", model, lr=0.02, adamw_lr=1e-3, weight_decay=0.1)
    >>> [group["name"] for group in optimizer.param_groups]
    ['matrices, decay', 'others, decay', 'others, no decay']
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, LRScheduler
from torch.optim.optimizer import ParamsT

from .adapting import (
    Schedule,
    build,
    changed,
    check,
    refuse_two_clippings,
    scheduled,
    steps_itself,
)

try:
    from transformers import TrainingArguments
except ImportError as error:
    raise ImportError("steepest.hf needs transformers; install it: pip install 'steepest[hf]'") from error

TAKEN = ("learning_rate", "weight_decay")
"""Training arguments that become options here; the first is called lr."""
OF_OTHERS = ("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon")
"""Training arguments that are for the Trainer's own optimizers."""

Build = Callable[..., torch.optim.Optimizer]


def trainer_optimizer(
    name: str,
    model: nn.Module | ParamsT,
    args: TrainingArguments | None = None,
    *,
    schedule: Schedule | None = None,
    total_steps: int | None = None,
    **options: Any,
) -> tuple[torch.optim.Optimizer, LRScheduler | None]:
    """Return an optimizer and its schedule for ``Trainer(optimizers=...)``.

    Without ``schedule`` the Trainer makes the one that its training arguments name (``lr_scheduler_type``,
    ``warmup_steps``), over its own number of steps. Rules that find their step sizes, and Schedule-Free rules, get a
    constant rate instead.

    Args:
        name: the optimizer's name, an alias or a wrapper, as for `steepest.create`.
        model: the model, whose biases, norms and embeddings do not decay; or parameters or groups as in torch, which
            are taken as they are, such as those of `steepest.groups`.
        args: training arguments. Where they are given, ``lr`` and ``weight_decay`` default to theirs.
        schedule: a class of `steepest.schedules`, or a function of (optimizer, total_steps).
        total_steps: the number of optimizer steps of the whole training, for ``schedule``.
        options: options of the class.

    Raises:
        UnknownNameError: the optimizer does not exist; the message has the close match.
        TypeError: an option that does not exist, or a value of another type.
        ValueError: a value out of bounds, arguments that contradict each other, or an optimizer whose step needs more
            than gradients: a closure, the loss, or estimates.
    """
    optimizer = build(name, model, _completed(name, args, options))
    if schedule is not None:
        return optimizer, scheduled(optimizer, schedule, total_steps)
    if total_steps is not None:
        raise ValueError(f"total_steps={total_steps!r} is for schedule, which is left out; give both or neither")
    return optimizer, ConstantLR(optimizer, factor=1.0) if steps_itself(optimizer) else None


def optimizer_cls_and_kwargs(
    name: str, args: TrainingArguments | None = None, **options: Any
) -> tuple[Callable[[], Build], dict[str, Any]]:
    """Return what ``Trainer(optimizer_cls_and_kwargs=...)`` takes, for models that the Trainer makes or shards itself.

    The Trainer builds the optimizer when training begins, with the groups of `trainer_optimizer`, and the schedule from
    its training arguments. Schedule-Free rules want ``lr_scheduler_type="constant"`` there.

    Example:
        >>> factory, kwargs = optimizer_cls_and_kwargs("adamw", lr=1e-3, weight_decay=0.1)
        >>> factory()(nn.Linear(2, 2), **kwargs).defaults["weight_decay"]
        0.1

    Args:
        name: the optimizer's name, an alias or a wrapper, as for `steepest.create`.
        args: training arguments. Where they are given, ``lr`` and ``weight_decay`` default to theirs.
        options: options of the class.

    Raises:
        UnknownNameError: the optimizer does not exist; the message has the close match.
        TypeError: an option that does not exist, or a value of another type.
        ValueError: a value out of bounds, arguments that contradict each other, or an optimizer whose step needs more
            than gradients: a closure, the loss, or estimates.
    """
    given = _completed(name, args, options)

    def build_for(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
        return build(name, model, options)

    return lambda: build_for, given


def _completed(name: str, args: TrainingArguments | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return options, completed from training arguments.

    Raises:
        TypeError: ``args`` are of another type.
        ValueError: both give an option, both clip gradients, or the arguments set what another optimizer reads; or the
            optimizer needs more than gradients.
    """
    found = check(name, options, ("args", "schedule", "total_steps"))
    if found.demand:
        raise ValueError(
            f"{name!r} is not for the Trainer of transformers, which calls step() without arguments: {found.demand}; "
            "take another optimizer, or write the loop yourself"
        )
    if args is None:
        return options
    if not isinstance(args, TrainingArguments):
        raise TypeError(f"args must be transformers.TrainingArguments, not a {type(args).__name__}")
    if others := changed(args, OF_OTHERS):
        raise ValueError(
            f"TrainingArguments sets {', '.join(others)}, which the Trainer hands only to optimizers of its own; give "
            f"{name!r} its options here"
        )
    refuse_two_clippings(options, "max_grad_norm", args.max_grad_norm)
    names = dict(zip(TAKEN, ("lr", "weight_decay"), strict=True))
    if twice := [taken for taken in changed(args, TAKEN) if names[taken] in options]:
        raise ValueError(f"TrainingArguments sets {twice[0]}, and {names[twice[0]]} is given here; give it once")
    theirs = {names[taken]: getattr(args, taken) for taken in TAKEN}
    taken = {own: value for own, value in theirs.items() if value or found.cls is None or own in found.cls.fields}
    return {**taken, **options}


__all__ = ["optimizer_cls_and_kwargs", "trainer_optimizer"]
