"""An optimizer under study: its draws, its closures and its rates, whoever calls its steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from steepest.optimizer import Optimizer
from steepest.study.seeds import GlobalStream, Noise
from steepest.study.trials.behaviour import Moves
from steepest.wrappers.base import innermost


class StudiedOptimizer:
    """An optimizer with hooks around its steps.

    It draws from a stream of its own. Every evaluation of a closure is counted, and all of one step drop the same
    units.
    """

    def __init__(self, made: torch.optim.Optimizer, of: Any, stream: GlobalStream, noise: Noise) -> None:
        self.made = made
        self.of = of
        """The model or the groups that it was made of."""
        self.steps = 0
        """The number of steps that it has taken."""
        self.moves: Moves | None = None
        """The receiver of its steps where its behaviour is sampled."""
        self._stream = stream
        self._noise = noise
        self._rates: list[Any] = []
        self._evaluations = 0
        self._depth = 0  # a subclass's step may call the one above it, and both have the hooks
        self._hooks = (made.register_step_pre_hook(self._before), made.register_step_post_hook(self._after))

    @property
    def has_other_weights(self) -> bool:
        """True if other weights are evaluated than trained: averages, or those of a schedule-free optimizer."""
        return self._averages or any(callable(getattr(self.made, name, None)) for name in ("eval", "train"))

    @contextmanager
    def weights_to_measure(self) -> Iterator[None]:
        """Put the weights to be evaluated into the model.

        Running statistics of batch normalisation are not averaged; they are those of the raw weights.
        """
        modes = [getattr(self.made, name, None) for name in ("eval", "train")]
        to_measure, to_train = [mode if callable(mode) else _nothing for mode in modes]
        with self.made.averaged() if self._averages else nullcontext():  # type: ignore[attr-defined]
            to_measure()
            yield
            to_train()

    @property
    def is_scheduled(self) -> bool:
        """True if a learning-rate scheduler of torch's sets its rates."""
        return any("initial_lr" in group for group in self.made.param_groups)

    def note_rates(self) -> None:
        """Take the groups' rates as those that a schedule multiplies."""
        self._rates = [group.get("lr") for group in self.made.param_groups]

    def scale_rates(self, factor: float) -> None:
        """Set every group's rate to this multiple of the noted one."""
        for group, rate in zip(self.made.param_groups, self._rates, strict=True):
            if rate is not None:
                group["lr"] = rate * factor

    def taken(self) -> int:
        """Return the number of evaluations of closures since the last call."""
        count, self._evaluations = self._evaluations, 0
        return count

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    @property
    def _averages(self) -> bool:
        return self.made.param_groups[0].get("ema_decay") is not None

    def _before(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Lend the generator to the optimizer's step. `args` begin with the optimizer."""
        self._depth += 1
        if self._depth > 1:
            return None
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        changed = None
        if closure is not None:
            counted = self._counted(closure)
            changed = (args, {**kwargs, "closure": counted}) if "closure" in kwargs else ((args[0], counted), kwargs)
        if self.moves is not None:
            self.moves.begin()
        self._noise.begin()
        return changed

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._depth -= 1
        if not self._depth:
            self.steps += 1
            self._noise.end()
            if self.moves is not None:
                self.moves.end()

    def _counted(self, closure: Callable[[], Tensor]) -> Callable[[], Tensor]:
        start = self._stream.position
        first = True

        def counted() -> Tensor:
            nonlocal first
            self._evaluations += 1
            with self._noise.paused():
                if not first:  # it evaluates the same function: the same units stay dropped
                    self._stream.position = start
                first = False
                return closure()

        return counted


def loss_for(optimizer: torch.optim.Optimizer, loss: Any) -> dict[str, Any]:
    """Return the arguments by which a step is given the loss: none for an optimizer that does not need it."""
    needs_loss = isinstance(optimizer, Optimizer) and optimizer.needs_loss(optimizer.param_groups[0])
    return {"loss": loss} if needs_loss else {}


def executor_of(optimizer: torch.optim.Optimizer) -> str:
    """Return the executor that runs the steps: one of ours, or the class's own code."""
    inside = innermost(optimizer)
    return inside.executor if isinstance(inside, Optimizer) else "its own"


def is_known(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer is torch's or ours, whose state is in its state dict."""
    module = type(innermost(optimizer)).__module__
    library = Optimizer.__module__.partition(".")[0]
    return module.startswith(("torch.optim.", f"{library}."))


def _nothing() -> None:
    pass
