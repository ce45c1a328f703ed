"""Optimizers by name for trainers of other packages: their parameter groups, schedules, and checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import ParamsT

from . import registry
from .catalogue import create
from .construction import refuse_unknown, resolved
from .fields import Field
from .matrices import refuse_flat
from .optimizer import Optimizer
from .param_groups import ParamGroups, resting
from .rule import PLANNED_KINDS
from .schedules import is_step_count
from .wrappers import TwoGradients

Schedule = Callable[[Any, int], LRScheduler]
"""Class of `steepest.schedules`, or a function of an optimizer and the number of its steps."""


class Inside(NamedTuple):
    """Optimizer that a name stands for, inside all wrappers.

    Attributes:
        cls: its class; None for another package's.
        options: its options.
        is_called_twice: whether a wrapper takes two gradients for a step.
    """

    cls: type[Optimizer] | None
    options: dict[str, Any]
    is_called_twice: bool = False

    @property
    def demand(self) -> str:
        """Needs of a step in addition to gradients, in words; an empty text if there are none."""
        if self.is_called_twice:
            return "its step needs a closure, for a second gradient"
        if self.cls is None:
            return ""
        options = resolved(self.cls, self.options)
        if self.cls.needs_closure(options):
            return "its step needs a closure, which evaluates the loss anew"
        if self.cls.needs_loss(options):
            return "its step size depends on the loss"
        return "it is fed with estimates between its steps (update_hessian)" if self.cls.takes_estimates else ""


def check(name: str, options: Mapping[str, Any], own: Iterable[str] = ()) -> Inside:
    """Check a name and options before there is a model, as `steepest.create` does with one.

    Args:
        name: the name.
        options: the options.
        own: arguments of the caller, for hints at them.

    Returns:
        What the name stands for.

    Raises:
        UnknownNameError: the name does not exist.
        TypeError: the name is not a text, an option does not exist, or a value of another type.
        ValueError: a value out of bounds.
    """
    if not isinstance(name, str):
        raise TypeError(f"the optimizer is given by its name, such as 'adamw', not {name!r}")
    found = _inside(name, options)
    if found.cls is not None:
        named = {argument: Field(argument, None, "") for argument in own}
        refuse_unknown(found.cls.__name__, {**named, **found.cls.fields}, found.options)
        resolved(found.cls, found.options)
    return found


def build(name: str, trained: nn.Module | ParamsT, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Build an optimizer of a model, whose biases, norms and embeddings do not decay, or of parameters as they are.

    Raises:
        UnknownNameError: the name does not exist.
        TypeError: an option does not exist, or an argument of another type.
        ValueError: a value out of bounds, nothing to train, or a matrix rule on parameters that have lost their shape.
    """
    found = check(name, options)
    params = _groups(trained, found) if isinstance(trained, nn.Module) else trained
    return create(name, params, **options)


def _inside(name: str, options: Mapping[str, Any]) -> Inside:
    wrapper = registry.wrapper(name)
    if wrapper is None:
        meaning = registry.look_up(name)
        return Inside(meaning.cls, meaning.merged(options))
    _, others = wrapper.parted(options)
    base = others.pop("base", wrapper.usual_base)
    if isinstance(base, str):
        found = _inside(base, others)
    else:
        found = Inside(base if isinstance(base, type) and issubclass(base, Optimizer) else None, others)
    return found._replace(is_called_twice=found.is_called_twice or issubclass(wrapper, TwoGradients))


def _groups(model: nn.Module, found: Inside) -> nn.Module | ParamsT:
    """Return parameter groups of a model, as far as an optimizer has groups with and without decay."""
    cls = found.cls
    if cls is None:
        return model
    options = resolved(cls, found.options)
    if cls.rule_for(options).kind not in PLANNED_KINDS:
        for p in model.parameters():
            refuse_flat(cls.__name__, p)
    if options.get("weight_decay") and any(getattr(p, "_is_flat_param", False) for p in model.parameters()):
        raise ValueError(
            f"weight_decay={options['weight_decay']!r} would decay biases and norms too: FullyShardedDataParallel has "
            "flattened them with all others; shard with use_orig_params=True or fully_shard, or give model.parameters()"
        )
    if "weight_decay" not in cls.fields or cls.needs_closure(options):
        return model
    params = cls.params_of(model, options)
    return resting(model, params if isinstance(params, ParamGroups) else None)


def scheduled(optimizer: torch.optim.Optimizer, schedule: Any, total_steps: Any) -> LRScheduler:
    """Return the schedule of an optimizer over a known number of steps.

    Raises:
        TypeError: ``schedule`` is neither a class of `steepest.schedules` nor a function, or makes no scheduler.
        ValueError: the number of steps is not allowed, or the optimizer finds its step sizes itself.
    """
    form = "a class of steepest.schedules, such as WarmupCosine, or a function of (optimizer, total_steps)"
    if not callable(schedule):
        raise TypeError(f"schedule takes {form}, not {schedule!r}")
    if not is_step_count(total_steps):
        raise ValueError(f"a schedule needs total_steps, a whole number of steps from 1 on, not {total_steps!r}")
    if isinstance(optimizer, Optimizer) and not optimizer.takes_schedule:
        raise ValueError(f"{type(optimizer).__name__} finds its step sizes itself; leave schedule out")
    made = schedule(optimizer, total_steps)
    if not isinstance(made, LRScheduler):
        raise TypeError(f"schedule takes {form}; {schedule!r} has returned {made!r}, which is no scheduler")
    return made


def steps_itself(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a schedule of the rate has no place: the rule finds its step sizes, or is Schedule-Free."""
    return isinstance(optimizer, Optimizer) and (not optimizer.takes_schedule or bool(optimizer.usual_schedule))


def refuse_two_clippings(options: Mapping[str, Any], name: str, value: Any) -> None:
    """Raise `ValueError` where the optimizer and the trainer would both clip gradients by their norm.

    Args:
        options: the optimizer's options.
        name: the trainer's argument, in words.
        value: its value; 0 and None do not clip.
    """
    if options.get("max_norm") is not None and value:
        raise ValueError(
            f"max_norm={options['max_norm']!r} clips gradients that {name}={value!r} has clipped before; leave one out "
            f"({name}=0 or max_norm=None)"
        )


def changed(arguments: Any, names: Iterable[str]) -> list[str]:
    """Return the names of a data class's attributes that do not have their defaults."""
    usual = {field.name: field.default for field in fields(arguments) if field.default is not MISSING}
    return [name for name in names if name in usual and getattr(arguments, name) != usual[name]]
