"""What all oracles share: the types, the walk over the tensors, the form of the result.

The oracles are written from the papers and from torch's documented behaviour, in numpy float64 and Python floats, and
know nothing of the library that they judge. Each is the paper's loop for one tensor; `trace` runs it for every tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Gradients = Sequence[Sequence[Array | None]]
Rate = float | Sequence[float]
Steps = list[tuple[float, Array]]
Result = dict[str, Any]

FLOAT_STATE = ("step", "mu_product", "eta", "mu", "exp_avg_lr_1")


def trace(
    one_tensor: Callable[[Array, Steps], Result],
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate,
    maximize: bool,
    eager_state: bool = False,
) -> list[Result]:
    """Run `one_tensor(theta, [(lr_t, g_t), ...])` for each tensor; its result is the tensor's final "param" and state.

    A step whose gradient is None is left out of the tensor's own list, so it neither moves nor counts. A tensor that
    never had a gradient has no state, unless `eager_state` (Adagrad makes its state with the optimizer).
    """
    rates = per_step(lr, len(grads))
    sign = -1.0 if maximize else 1.0
    results = []
    for i, theta in enumerate(theta0):
        own = [of_step[i] for of_step in grads]
        steps = [(rate, sign * g) for rate, g in zip(rates, own, strict=True) if g is not None]
        with np.errstate(all="ignore"):  # NaN and inf are values here, to be compared, not accidents
            result = one_tensor(theta, steps) if steps or eager_state else {"param": theta}
        results.append({name: _plain(name, value) for name, value in result.items()})
    return results


def per_step(value: Rate, steps: int) -> list[float]:
    """A number for all steps, or one for each."""
    return [float(value)] * steps if isinstance(value, int | float) else [float(v) for v in value]


def decayed(
    theta: Array, g: Array, rate: float, weight_decay: float, decoupled: bool, lr_in_decay: bool
) -> tuple[Array, Array]:
    """(theta, g) after weight decay: as a penalty its gradient joins g; decoupled it shrinks theta, by lr lambda or by
    lambda alone.
    """
    if decoupled:
        return theta * (1.0 - (rate * weight_decay if lr_in_decay else weight_decay)), g
    return theta, g + weight_decay * theta if weight_decay else g


def _plain(name: str, value: Any) -> Any:
    """Counters are floats; everything else is a fresh float64 array, 0-d ones too (numpy turns those into scalars)."""
    return float(value) if name in FLOAT_STATE else np.array(value, dtype=np.float64)
