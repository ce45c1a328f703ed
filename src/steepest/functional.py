"""Optimizers as pure functions, for `torch.func`: nothing is written, so everything may be mapped and differentiated.

Example:
    Three learning rates at once; none of the results depends on the others.

    >>> import torch
    >>> from steepest import Adam
    >>> init, step = pair(Adam, betas=(0.8, 0.99))
    >>> params = {"w": torch.ones(2)}
    >>> def first_step(lr):
    ...     new, _ = step(params, {"w": torch.tensor([1.0, -2.0])}, init(params), lr=lr)
    ...     return new["w"]
    >>> torch.vmap(first_step)(torch.tensor([0.1, 0.2, 0.3]))
    tensor([[0.9000, 1.1000],
            [0.8000, 1.2000],
            [0.7000, 1.3000]])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import group as groups
from . import transforms
from .codecs import stream_of
from .construction import refuse_unknown, resolved
from .executors import reference
from .fields import EXECUTION_SWITCHES, STORAGE_OPTIONS
from .group import GroupSpec
from .norms import total_norm
from .optimizer import Optimizer
from .rule import Program
from .views import real_view

Params = Mapping[str, Tensor]
State = dict[str, dict[str, Tensor]]


class Pair(NamedTuple):
    """Optimizer without memory of its own, as two functions.

    Attributes:
        init: ``init(params) -> state``.
        step: ``step(params, grads, state, **numbers) -> (new params, new state)``.
    """

    init: Callable[[Params], State]
    step: Callable[..., tuple[dict[str, Tensor], State]]


def pair(cls: type[Optimizer], **options: Any) -> Pair:
    """Return the functions ``init`` and ``step`` of an optimizer.

    ``params``, ``grads`` and ``state`` are dictionaries by parameter name, as `torch.func.functional_call` takes them.
    A name that ``grads`` lacks, or has None for, keeps its value and state. State has torch's names and shapes. Where a
    rule treats its first step differently (SGD's momentum buffer), the state is empty until that step. Any ``numbers``
    given to ``step`` stand for the options of these names: floats, or 0-dim tensors to map over or to differentiate by.

    Args:
        cls: the optimizer's class.
        options: as for its constructor. An option that is 0 here (weight decay, momentum) is left out of the step for
            good, since a tensor cannot decide what is computed.

    Raises:
        ValueError: options out of bounds, or a rule that evaluates closures or takes only sparse gradients. ``step``
            raises it for a sparse gradient, or for a number that was left out.
        TypeError: an option that does not exist.
    """
    return Pair(*_Pure(cls, options).functions)


class _Pure:
    def __init__(self, cls: type[Optimizer], options: dict[str, Any]) -> None:
        read = {"seed"} if cls.rule.takes_stream else set()
        for name in sorted(((EXECUTION_SWITCHES | STORAGE_OPTIONS) - read) & options.keys()):
            if options[name]:
                raise ValueError(
                    f"{name}={options[name]!r} says how a step writes its results, and a pure one writes none"
                )
        self.cls = cls
        self.options = {**resolved(cls, options), "params": [], "differentiable": True}
        if cls.needs_closure(self.options):
            raise ValueError(f"{cls.__name__} evaluates closures; a pure step takes one gradient")
        if cls.rule_for(self.options).shared is not None:
            raise ValueError(f"{cls.__name__} has numbers that all parameters share; a pure step has none to keep")
        if cls.rule_for(self.options).sparse == "lazy":
            raise ValueError(f"{cls.__name__} takes only sparse gradients; a pure step takes dense ones")
        self.functions = self.init, self.step

    def init(self, params: Params) -> State:
        """Return the state before the first step."""
        for p in params.values():
            self.cls.check_parameter(p)
        return {name: self._initial(GroupSpec.of(self.cls, self.options, p), p) for name, p in params.items()}

    def step(self, params: Params, grads: Params, state: State, **numbers: Any) -> tuple[dict[str, Tensor], State]:
        """Return the new parameters and the new state."""
        group = self._with_numbers(numbers)
        given = {name: g for name, g in grads.items() if g is not None}
        if unknown := sorted(given.keys() - params.keys()):
            raise ValueError(f"gradients of unknown parameters {', '.join(unknown)}; there are {', '.join(params)}")
        if there := [name for name, g in given.items() if g.is_sparse]:
            raise ValueError(f"sparse gradients of {', '.join(there)}; a pure step takes dense ones (to_dense())")
        norm = {"norm": total_norm(list(given.values()))} if given and transforms.read_norm(group) else {}
        values, switches = groups.values(self.cls.fields, group, norm)
        new_params, new_state = dict(params), dict(state)
        places = {name: place for place, name in enumerate(params)}
        for name, g in given.items():
            p, held = params[name], state[name]
            spec = GroupSpec.under(self.cls, self.cls.rule_for(self.options, p), self.options, switches)
            program = spec.program(p, first=not held)
            values = {**values, "stream": stream_of(group["seed"], places[name])}
            new_params[name], new_state[name] = _updated(program, values, p, g, held or initial_state(spec, p))
        return new_params, new_state

    def _initial(self, spec: GroupSpec, p: Tensor) -> dict[str, Tensor]:
        """Return the state before the first step: none yet for a rule that treats its first step differently."""
        return {} if "first" in spec.rule.names else initial_state(spec, p)

    def _with_numbers(self, numbers: dict[str, Any]) -> dict[str, Any]:
        fields = self.cls.fields
        known = {name: f for name, f in fields.items() if f.is_hyperparameter and not (f.is_flag or f.choices)}
        refuse_unknown("step", known, numbers)
        for name, value in numbers.items():
            if not isinstance(value, Tensor):
                fields[name].validate(value)
            if self._shape({name: 0.5 if isinstance(value, Tensor) else value}) != self._shape({}):
                raise ValueError(
                    f"{name} is {self.options[name]!r} in pair({self.cls.__name__}, ...), which settles what "
                    f"a step computes; give pair(...) a {name} like the one that step gets"
                )
        return {**self.options, **numbers}

    def _shape(self, numbers: dict[str, Any]) -> Any:
        """Return a step's structure, which options settle in addition to numbers: its rule, state and transforms."""
        spec = GroupSpec.of(self.cls, {**self.options, **numbers})
        return spec.rule, spec.existing, spec.wrappers


def initial_state(spec: GroupSpec, p: Tensor) -> dict[str, Tensor]:
    """Return a parameter's state as it is made at its first step."""
    return {s.name: s.create(p, spec.options, spec.rule.view) for s in spec.state(p)}


def _updated(
    program: Program, values: dict[str, Any], p: Tensor, g: Tensor, held: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return one parameter's new value and state, in the shapes and dtypes of the old ones."""
    counters = {name: held[s.name] + (s.kind == "step") for name, s in program.counted.items()}
    tensors = {s.name: real_view(held[s.name]) for s in program.tensors}
    numbers = {**values, **{name: x.double() for name, x in counters.items()}}
    new_p, new_state = reference.updated(program, numbers, real_view(p), real_view(g), tensors)
    made = {s.name: new_state.get(s.name, counters.get(name)) for name, s in program.counted.items()}
    made |= {s.name: new_state[s.name] for s in program.tensors}
    return _like(new_p, p), {name: _like(made[name], x) for name, x in held.items()}


def _like(value: Any, old: Tensor) -> Tensor:
    x = real_view(old)
    new = torch.as_tensor(value, device=x.device).to(x.dtype).expand(x.shape)
    return torch.view_as_complex(new.contiguous()) if old.is_complex() else new


__all__ = ["Pair", "pair"]
