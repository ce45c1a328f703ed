"""Sharpness: the largest curvature of a loss, by power iterations with products of the Hessian and a vector."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from steepest.study.data.dataset import Examples
from steepest.study.data.loaders import Loaded
from steepest.study.declaration import Loss
from steepest.study.errors import UsageError
from steepest.study.trials import forward

EXAMPLES: Final = 256
"""Training examples whose mean loss a study measures, the first ones; of a set that yields batches, its first batch."""
ITERATIONS: Final = 20
ONCE: Final = "torch::autograd::Error"
"""Name of the node that stands for the second derivative of a function that has none."""
ENOUGH: Final = 1e-3
"""Relative change between two iterations at which no further one is made."""


def sharpness(
    loss: Callable[[], Tensor], parameters: Iterable[Tensor], *, iterations: int = ITERATIONS, seed: int = 0
) -> float:
    """Return the eigenvalue of a loss's Hessian that is largest in absolute value, with its sign.

    Gradient descent on a quadratic function diverges where the learning rate exceeds 2 over this number. Power
    iterations approach it from below; where the two largest eigenvalues are close in size, or differ in sign, many are
    needed.

    Source: Cohen et al. 2021, "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability",
    arXiv:2103.00065, section 2; power iterations as in Yao et al. 2020, "PyHessian", arXiv:1912.07145, section 3.

    Args:
        loss: evaluates the loss once, a scalar, for the same examples; dropout is off.
        parameters: the real tensors that the loss is a function of; those that do not ask for a gradient are left out.
        iterations: the largest number of products; fewer if one changes the result by less than a thousandth.
        seed: the seed of the first vector.

    Raises:
        ValueError: `iterations` is not a whole number of at least 1, or no parameter asks for a gradient.
        RuntimeError: torch has no second derivative of an operation.
    """
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"iterations must be a whole number of at least 1, not {iterations!r}")
    params = [p for p in parameters if p.requires_grad]
    if not params:
        raise ValueError("no parameter asks for a gradient (requires_grad), so there is no curvature to measure")
    with _twice_differentiable():
        grads = torch.autograd.grad(loss(), params, create_graph=True, allow_unused=True)
        curved = [(p, grad) for p, grad in zip(params, grads, strict=True) if grad is not None and grad.requires_grad]
        if not curved:
            return 0.0
        _check([grad for _, grad in curved])
        return _power_iterations([p for p, _ in curved], [grad for _, grad in curved], iterations, seed)


def _check(grads: list[Tensor]) -> None:
    """Raise RuntimeError for a graph with a function that has no second derivative; its part would be left out else."""
    found: set[Any] = set()
    new: set[Any] = {grad.grad_fn for grad in grads}
    while new:
        found |= new
        new = {node for known in new for node, _ in known.next_functions if node is not None} - found
    if any(node.name() == ONCE for node in found):
        raise RuntimeError("an autograd function is differentiable once only (@once_differentiable)")


def _power_iterations(params: list[Tensor], grads: list[Tensor], iterations: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    vector = [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device) for p in params]
    found = 0.0
    for _ in range(iterations):
        length = _inner(vector, vector) ** 0.5
        if not length:
            return 0.0
        vector = [v / length for v in vector]
        product = _hessian_times(vector, params, grads)
        last, found = found, _inner(vector, product)
        if abs(found - last) <= ENOUGH * abs(found):
            break
        vector = product
    return found


def _hessian_times(vector: list[Tensor], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
    made = torch.autograd.grad(grads, params, vector, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if product is None else product for p, product in zip(params, made, strict=True)]


def _inner(left: list[Tensor], right: list[Tensor]) -> float:
    return sum(
        float(torch.dot(a.detach().reshape(-1), b.detach().reshape(-1))) for a, b in zip(left, right, strict=True)
    )


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Choose the code of attention and of recurrent layers that has second derivatives."""
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def of_model(model: nn.Module, examples: Examples | Loaded, loss: Loss | None, seed: int) -> float:
    """Return the sharpness of a model's mean loss on the first training examples, with layers in evaluation mode.

    Raises:
        UsageError: torch has no second derivative of an operation of the model or the loss.
    """
    with closing(examples.beginning(EXAMPLES).chunks(EXAMPLES)) as chunks:
        given = forward.given(next(chunks), loss)

    def mean_loss() -> Tensor:
        return forward.loss_of(loss, forward.in_floats(given.outputs(model)), given.targets)

    model.eval()
    try:
        return sharpness(mean_loss, model.parameters(), seed=seed)
    except RuntimeError as error:
        raise UsageError(f"--sharpness needs second derivatives of model and loss; torch says: {error}") from error
    finally:
        model.train()
