"""Optimizers for Keras 3 on its torch backend: real Keras optimizers that step with ours.

Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=Optimizer("adamw", learning_rate=1e-2, weight_decay=0.1), loss="mse")
    >>> model.optimizer.get_config()["weight_decay"]
    0.1
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from . import optimizer as ours
from . import registry
from .construction import refuse_unknown, resolved
from .fields import Field
from .group import GroupSpec
from .rule import PLANNED_KINDS, Program, Rule
from .trace import reduces, trace, with_count

try:
    import keras
    import numpy as np
except ImportError as error:
    raise ImportError("steepest.keras needs Keras; install it: pip install 'steepest[keras]'") from error

ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "jax": "in a training loop of JAX's use steepest.optax.transformation",
        "tensorflow": "as there are none of ours for TensorFlow, use those of keras.optimizers",
    }
)
"""Advice on backends of Keras that are not torch."""

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "lr": "Keras calls it learning_rate; give that",
        "differentiable": "Keras steps without gradients; leave it out",
        "capturable": "Keras reads the learning rate on the host; leave it out",
    }
)
"""Options that are not for Keras: why, and what to do."""


@keras.saving.register_keras_serializable(package="steepest")
class Optimizer(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Keras optimizer around one of ours, which steps the tensors behind Keras's variables with its fastest executor.

    A model that is saved and loaded resumes training with it to the same bits. Rates are float32 numbers, as everywhere
    in Keras. Weight decay is that of the rule, coupled or decoupled as its class says; Keras's own classes decouple it.

    Args:
        optimizer: the optimizer's name or an alias, such as ``"adamw"``; case, ``-`` and ``_`` do not matter.
        learning_rate: a number, a schedule of `keras.optimizers.schedules`, or a function without arguments; None is
            the default of the class.
        no_weight_decay: regular expressions. Variables with a match in their path, such as ``"dense/bias"``, do not
            decay; see also `exclude_from_weight_decay`.
        clipnorm, clipvalue, global_clipnorm: Keras's clipping of each gradient's norm, of entries, of the norm of all.
        use_ema, ema_momentum, ema_overwrite_frequency: Keras's average of the weights, which ends up in the model.
        loss_scale_factor, gradient_accumulation_steps, name: as in Keras.
        options: options of the class, as in PyTorch.

    Attributes:
        inner: the optimizer of PyTorch; None before `build`.

    Raises:
        UnknownNameError: the optimizer does not exist; the message has the close match.
        TypeError: an argument that does not exist, or a value of another type.
        ValueError: a value out of bounds, or an optimizer that is not for Keras. It needs closures, losses or sparse
            gradients, or its rule takes the first dimension of weights for outputs, which Keras has last.
        RuntimeError: another backend than torch.
    """

    def __init__(
        self,
        optimizer: str,
        learning_rate: Any = None,
        *,
        no_weight_decay: Sequence[str] = (),
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        _check_backend()
        if not isinstance(optimizer, str):
            raise TypeError(f"optimizer must be the name of one, such as 'adamw', not {optimizer!r}")
        meaning = registry.look_up(optimizer)
        cls = meaning.cls
        given = meaning.merged(options)
        _check_options(cls, given)
        settled = resolved(cls, given)
        _refuse(cls, cls.rule_for(settled))
        super().__init__(
            _rate(cls, learning_rate),
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name or cls.__name__.lower(),
        )
        self._cls = cls
        self._given = MappingProxyType(given)
        self._decays = bool(settled.get("weight_decay"))
        self._not_decaying: tuple[str, ...] = ()
        self.inner: ours.Optimizer | None = None
        self._exclude(no_weight_decay)

    # -- weight decay ------------------------------------------------------------------------------------------------

    def exclude_from_weight_decay(
        self, var_list: Iterable[Any] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Exclude variables from weight decay, as in Keras, before the optimizer is built; saved with the optimizer.

        Args:
            var_list: variables.
            var_names: regular expressions for names, such as ``["bias"]``.

        Raises:
            ValueError: the optimizer is built already, or does not decay.
        """
        paths = [f"^{re.escape(variable.path)}$" for variable in var_list or ()]
        self._exclude([*paths, *(f"(?:{name})[^/]*$" for name in var_names or ())])

    def _exclude(self, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str):
            raise TypeError(f"no_weight_decay must be a list of regular expressions, not {patterns!r}")
        if patterns and self.built:
            raise ValueError("variables are excluded from weight decay before the optimizer is built")
        if patterns and not self._decays:
            raise ValueError(f"{self._cls.__name__} has no weight decay here to exclude from; give weight_decay too")
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"no_weight_decay has {pattern!r}, not a regular expression: {error}") from None
        self._not_decaying = (*self._not_decaying, *patterns)

    def _are_decaying(self, variables: Sequence[Any]) -> list[bool]:
        """Return whether each variable decays.

        Raises:
            ValueError: some are to be excluded, and none is found.
        """
        paths = [variable.path for variable in variables]
        found = [not any(re.search(pattern, path) for pattern in self._not_decaying) for path in paths]
        if self._not_decaying and all(found):
            patterns = ", ".join(map(repr, self._not_decaying))
            raise ValueError(f"no variable is found by {patterns} in no_weight_decay; there are {', '.join(paths)}")
        return found

    # -- steps -------------------------------------------------------------------------------------------------------

    def build(self, variables: Sequence[Any]) -> None:
        """Make the optimizer of PyTorch over the tensors of Keras's variables."""
        super().build(variables)
        named = [(str(place), variable.value) for place, variable in enumerate(variables)]
        is_decaying = self._are_decaying(variables)
        decaying = {"params": list(itertools.compress(named, is_decaying))}
        resting = {"params": [pair for pair, decays in zip(named, is_decaying, strict=True) if not decays]}
        groups: list[dict[str, Any]] = [decaying, {**resting, "weight_decay": 0.0}]
        options = {**self._given, "lr": float(self.learning_rate)}
        inner = self._cls([group for group in groups if group["params"]], **options)
        kernels = ((group, p) for group in inner.param_groups for p in group["params"] if p.dim() > 1)
        specs = ((GroupSpec.of(self._cls, group, p), p) for group, p in kernels)
        for program, spec in {spec.program(p): spec for spec, p in specs}.items():
            _refuse_oriented(spec, program)
        self.inner = inner

    @_disable_dynamo
    @torch.no_grad()
    def _backend_update_step(
        self, grads: Sequence[Tensor], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        """Step all variables at once; Keras hands over its gradients here, clipped and accumulated."""
        inner = self._built()
        given = {id(variable.value): grad for variable, grad in zip(trainable_variables, grads, strict=True)}
        params = [p for group in inner.param_groups for p in group["params"]]
        if given.keys() - set(map(id, params)):
            raise RuntimeError(
                "a variable has another tensor than when the optimizer was built, as within stateless_apply; "
                "steepest.keras updates tensors in place: use apply"
            )
        for group in inner.param_groups:
            group["lr"] = float(learning_rate)
        kept = [p.grad for p in params]
        try:
            for p in params:
                grad = given.get(id(p))
                p.grad = None if grad is None else grad.to(p.dtype)
            inner.step()
        finally:
            for p, grad in zip(params, kept, strict=True):
                p.grad = grad

    def _built(self) -> ours.Optimizer:
        if self.inner is None:
            raise RuntimeError("the optimizer has no state yet; call optimizer.build(model.trainable_variables) first")
        return self.inner

    # -- saving ------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor.

        Raises:
            TypeError: an option that no file can hold, such as a function.
        """
        for name, value in self._given.items():
            try:
                json.dumps(value)
            except TypeError:
                raise TypeError(f"{name}={value!r} cannot be saved with a model; give a number or a name") from None
        config = super().get_config()
        del config["weight_decay"]  # the rule's own is among the options
        return {
            "optimizer": self._cls.__name__.lower(),
            **config,
            "no_weight_decay": list(self._not_decaying),
            **self._given,
        }

    def save_own_variables(self, store: Any) -> None:
        """Save Keras's variables, and the state of each parameter and the shared numbers of each group, by name."""
        super().save_own_variables(store)
        if self.inner is not None:
            for key, value in _flattened(self._cls, self.inner.state_dict()).items():
                store[key] = value

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` has saved.

        Raises:
            RuntimeError: the optimizer is not built.
            ValueError: the state is that of another optimizer, or of other variables.
        """
        inner = self._built()
        saved = {key: np.asarray(store[key]) for key in store.keys()}  # noqa: SIM118 - it is not a dict
        of_keras = {key: value for key, value in saved.items() if key.isdigit()}
        if len(of_keras) != len(self.variables):
            raise ValueError(
                f"the saved optimizer has {len(of_keras)} variables of Keras's, and this one {len(self.variables)}; "
                "make both with the same arguments"
            )
        super().load_own_variables(of_keras)
        inner.load_state_dict(_restored(self._cls, inner.state_dict(), saved))


class EvaluateAveraged(keras.callbacks.Callback):  # type: ignore[misc]
    """Callback that evaluates the averaged weights: those of ``ema_decay``, ``lookahead`` or a Schedule-Free rule.

    In `evaluate`, and in the validation within `fit`, the model has the averaged weights; the trained ones come back
    afterwards. See `steepest.Optimizer.averaged`.

    Raises:
        TypeError: at the first evaluation, if the model's optimizer is not `Optimizer`.
        RuntimeError: the optimizer keeps no average.
    """

    def on_test_begin(self, logs: Any = None) -> None:
        """Put the averaged weights into the model."""
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)  # of LossScaleOptimizer
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"EvaluateAveraged goes with steepest.keras.Optimizer, not {optimizer!r}")
        self._block = optimizer._built().averaged()
        self._block.__enter__()

    def on_test_end(self, logs: Any = None) -> None:
        """Put the trained weights back."""
        self._block.__exit__(None, None, None)


# -- refusals --------------------------------------------------------------------------------------------------------


def _check_backend() -> None:
    backend = keras.backend.backend()
    if backend != "torch":
        advice = ELSEWHERE.get(backend, "use those of keras.optimizers")
        raise RuntimeError(
            f"steepest.keras.Optimizer runs on Keras's torch backend, and this is {backend!r}; set KERAS_BACKEND=torch "
            f"before Keras is imported, or {advice}"
        )


def _check_options(cls: type[ours.Optimizer], options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name in REFUSED and (name not in cls.fields or value != cls.fields[name].default):
            raise TypeError(f"{name}={value!r} is not for Keras: {REFUSED[name]}")
    refuse_unknown(cls.__name__, {**OF_KERAS, **cls.fields}, options)


OF_KERAS = {
    name: Field(name, None, "")
    for name in ("learning_rate", "no_weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema")
}
"""Arguments of Keras's optimizers, for hints at them."""


def _rate(cls: type[ours.Optimizer], rate: Any) -> Any:
    field = cls.fields["lr"]
    if rate is None:
        return float(field.default)
    if callable(rate):  # schedules are
        return rate
    rate = field.settle(rate)
    field.validate(rate)
    return float(rate)


def _refuse(cls: type[ours.Optimizer], rule: Rule) -> None:
    """Raise `ValueError` for a rule that Keras cannot run."""
    if rule.kind == "driver":
        why = "it evaluates closures, and Keras hands over gradients"
    elif rule.kind not in PLANNED_KINDS:
        why = "it sees matrices whose rows are outputs, and Keras has outputs last; use keras.optimizers.Muon"
    elif rule.shared is not None and rule.shared.needs_loss:
        why = "its step size depends on the loss, which Keras does not hand over"
    elif rule.sparse == "lazy":
        why = "it takes sparse gradients, and Keras's are dense; use 'adam'"
    elif cls.takes_estimates:
        why = "it is fed with estimates between its steps"
    else:
        return
    raise ValueError(f"{cls.__name__} is not for Keras: {why}")


def _refuse_oriented(spec: GroupSpec, program: Program) -> None:
    """Raise `ValueError` if a program's update depends on which dimensions are outputs."""
    made = trace(program, with_count(program, spec.numbers))
    reduced = {node.target.reduces for node in made.graph.nodes if reduces(node)}
    if "units" in reduced or len(reduced & {"rows", "columns"}) == 1:
        raise ValueError(
            f"{spec.name} with these options takes the first dimension of weights for outputs, as PyTorch has it, and "
            "Keras has outputs last; leave out agc and centralize, or use another optimizer"
        )


# -- state as arrays -------------------------------------------------------------------------------------------------


def _own_numbers(cls: type[ours.Optimizer], group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers that a group keeps from step to step: shared ones, and the first values of others."""
    options = {name for name, field in cls.fields.items() if not field.default_from}
    return {name: x for name, x in group.items() if name not in options | {"params", "param_names"}}


def _flattened(cls: type[ours.Optimizer], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict as arrays: ``state.3.exp_avg`` of the fourth variable, ``group.0.d`` of the first group."""
    arrays: dict[str, Any] = {}
    for index, group in enumerate(saved["param_groups"]):
        for place, name in zip(group["params"], group["param_names"], strict=True):
            held = saved["state"].get(place, {})
            arrays.update({f"state.{name}.{key}": keras.ops.convert_to_numpy(x) for key, x in held.items()})
        arrays.update(
            {f"group.{index}.{key}": keras.ops.convert_to_numpy(x) for key, x in _own_numbers(cls, group).items()}
        )
    return arrays


def _restored(cls: type[ours.Optimizer], own: dict[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict like ``own``, with state and numbers from arrays."""
    for index, group in enumerate(own["param_groups"]):
        for place, name in zip(group["params"], group["param_names"], strict=True):
            prefix = f"state.{name}."
            own["state"][place] = {
                key.removeprefix(prefix): keras.ops.convert_to_tensor(x, dtype=x.dtype.name)
                for key, x in arrays.items()
                if key.startswith(prefix)
            }
        group.update({key: arrays[f"group.{index}.{key}"].item() for key in _own_numbers(cls, group)})
    own["state"] = {place: held for place, held in own["state"].items() if held}
    return own


__all__ = ["EvaluateAveraged", "Optimizer"]
