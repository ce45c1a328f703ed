"""Many runs of a pointwise rule at once: from all starts, with all rates. To the bit they are each run by itself."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steepest import registry, transforms
from steepest.fields import STORAGE_OPTIONS
from steepest.landscapes.declaration import Surface
from steepest.landscapes.paths import Array
from steepest.optimizer import Optimizer
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.seeds import GlobalStream, Noise
from steepest.study.trials.optimizers import StudiedOptimizer


def is_walked_together(surface: Surface, config: OptimizerConfig) -> bool:
    """Return whether runs of an optimizer on a surface can be walked at once."""
    is_plain = surface.is_elementwise and surface.seen is None and surface.box is None
    return is_plain and acts_on_numbers(config)


def acts_on_numbers(config: OptimizerConfig) -> bool:
    """Return whether every number of a parameter moves by its own gradients only, whatever the others do.

    This is known of the library's pointwise rules that share no number between parameters, with nothing around them:
    clipping by norm, centralising and the like look at several numbers.
    """
    cls = registry.optimizers().get(config.source)
    if cls is None:
        return False
    options = config.origin.resolved(config.options)
    rule = cls.rule_for(options, torch.zeros(2, 2))
    around = {name: Optimizer.fields[name].default for name in (*transforms.options(), *STORAGE_OPTIONS)}
    is_plain = all(options[name] == usual for name, usual in around.items() if name in options)
    return rule.kind == "pointwise" and rule.shared is None and is_plain


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
