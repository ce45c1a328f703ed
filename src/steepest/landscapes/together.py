"""Many runs of a pointwise rule at once: from all starts, with all rates. To the bit they are each run by itself."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steepest import registry, transforms
from steepest.fields import STORAGE_OPTIONS
from steepest.group import GroupSpec
from steepest.landscapes.declaration import Surface
from steepest.landscapes.paths import Array
from steepest.optimizer import Optimizer
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.seeds import GlobalStream, Noise
from steepest.study.trials.optimizers import StudiedOptimizer


def is_walked_together(surface: Surface, config: OptimizerConfig) -> bool:
    """Return whether `walk_together` can walk an optimizer on a surface."""
    is_plain = surface.is_elementwise and surface.seen is None and surface.box is None
    return is_plain and acts_on_numbers(config)


def acts_on_numbers(config: OptimizerConfig) -> bool:
    """Return whether every number of a parameter moves by its own gradients only, whatever the others do.

    This is known of the library's pointwise rules whose groups are apart, with nothing around them that looks at
    several numbers.
    """
    return all(spec.kind == "pointwise" for spec in _specs(config, ((2, 2),))) and has_groups_apart(config, ((2, 2),))


def has_groups_apart(config: OptimizerConfig, shapes: Iterable[tuple[int, ...]]) -> bool:
    """Return whether every parameter group moves as if it were the only one, with parameters of these shapes.

    This is known of the library's optimizers whose rules share no numbers between parameters, take no closure and no
    random numbers, which are counted by a parameter's place, with no transform around them that looks at all groups.
    """
    cls = registry.optimizers().get(config.source)
    if cls is None:
        return False
    usual = {name: Optimizer.fields[name].default for name in (*_global_options(), *STORAGE_OPTIONS)}
    options = config.origin.resolved(config.options)
    rules = [spec.rule for spec in _specs(config, shapes)]
    return all(options[name] == value for name, value in usual.items() if name in options) and not any(
        rule.kind == "driver" or rule.shared is not None or rule.takes_stream for rule in rules
    )


def _specs(config: OptimizerConfig, shapes: Iterable[tuple[int, ...]]) -> list[GroupSpec]:
    """Return the meaning of the options of one of the library's optimizers for parameters of these shapes."""
    cls = registry.optimizers().get(config.source)
    options = config.origin.resolved(config.options)
    return [] if cls is None else [GroupSpec.of(cls, options, torch.zeros(shape)) for shape in shapes]


def _global_options() -> list[str]:
    return [name for transform in transforms.order() if transform.is_global for name in transform.options]


def walk_together(
    surface: Surface,
    config: OptimizerConfig,
    starts: Array,
    budget: int,
    seed: int,
    rates: Sequence[float | None] = (None,),
) -> Iterator[tuple[int, Array, Array]]:
    """Walk from all starts (n, 2) with all m rates at once; the rate None is the optimizer's own.

    The starts are one parameter of shape (2, n) for every rate, in a group of its own, and the gradient of the sum of
    all values is that of each. Yield the evaluations of each run, positions (m, n, 2) and values (m, n).
    """
    at = torch.from_numpy(starts.T.copy())
    params = [at.clone().requires_grad_() for _ in rates]
    stream = GlobalStream("optimizer", seed)
    with stream.active():
        made = config.build([_group(param, rate) for param, rate in zip(params, rates, strict=True)])
    optimizer = StudiedOptimizer(made, params, stream, Noise(seed))
    for evaluation in range(budget + 1):
        if evaluation:
            _set_gradients(surface, params)
            made.step()
        if optimizer.has_other_weights:
            with optimizer.weights_to_measure():
                yield (evaluation, *_seen(surface, params))
        else:
            yield (evaluation, *_seen(surface, params))


def _group(param: Tensor, rate: float | None) -> dict[str, Any]:
    return {"params": [param], **({} if rate is None else {"lr": rate})}


def _set_gradients(surface: Surface, params: Sequence[Tensor]) -> None:
    every = torch.stack([param.detach() for param in params], 1).requires_grad_()
    (gradients,) = torch.autograd.grad(surface.value(every).sum(), [every])
    for param, gradient in zip(params, gradients.unbind(1), strict=True):
        param.grad = gradient.contiguous()


@torch.no_grad()
def _seen(surface: Surface, params: Sequence[Tensor]) -> tuple[Array, Array]:
    every = torch.stack(list(params), 1)
    return np.moveaxis(every.numpy(), 0, -1).copy(), surface.value(every).numpy()
