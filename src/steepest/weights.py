"""Optimizers that evaluate other weights than they train."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.optim.swa_utils
from torch import Tensor

from .group import values
from .optimizer import Optimizer
from .rule import Rule

KEPT = "train_weights"
"""Key in a parameter's state of the weights that are trained, while the parameter holds those to be evaluated."""


class TwoWeights(Optimizer):
    """Base of optimizers that evaluate other weights than they train, and switch a model between the two.

    A rule declares the weights that it evaluates (`Rule.evaluated`). A new optimizer is in train mode. `eval` puts the
    weights to be evaluated into the parameters, and `train` puts the trained ones back, bit by bit: they are in the
    optimizer's state meanwhile, one copy. Both do nothing where the mode is theirs already. The mode is in every group
    as ``train_mode`` and is saved, so that model and optimizer may be saved and loaded in either mode and order. For a
    short time use ``with optimizer.averaged():``.
    """

    evaluates_others = True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as in torch, in the mode of the others."""
        before = len(self.param_groups)
        super().add_param_group(param_group)
        for group in self.param_groups[before:]:
            group.setdefault("train_mode", self._is_training)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the attributes. Groups of another class's file are in train mode."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("train_mode", True)

    @property
    def _is_training(self) -> bool:
        return all(group.get("train_mode", True) for group in self.param_groups)

    @torch.no_grad()
    def eval(self) -> None:
        """Put the weights to be evaluated into the parameters."""
        for group in self.param_groups:
            if group["train_mode"]:
                for p in group["params"]:
                    weights = self._own_average(group, p)
                    if weights is not None:
                        self.state[p][KEPT] = p.detach().clone()
                        p.copy_(weights)
                group["train_mode"] = False

    @torch.no_grad()
    def train(self) -> None:
        """Put the trained weights back into the parameters.

        Where the state does not have them, because another package has saved it, they are computed from the weights to
        be evaluated, if the rule knows how.
        """
        for group in self.param_groups:
            if not group["train_mode"]:
                for p in group["params"]:
                    held = self.state.get(p, {})
                    if KEPT in held:
                        p.copy_(held.pop(KEPT))
                    elif held and self.rule_for(group, p).trained is not None:
                        p.copy_(self._called(self.rule_for(group, p), "trained", group, p))
                group["train_mode"] = True

    @contextmanager
    def averaged(self, name: str | None = None) -> Iterator[None]:
        """Use the weights to be evaluated inside the block; in eval mode they are there already. See `eval`."""
        if self._is_training:
            with super().averaged(name):
                yield
        else:
            yield

    def _refuse_step(self) -> None:
        super()._refuse_step()
        if not self._is_training:
            raise RuntimeError(
                f"{type(self).__name__}.step() in eval mode would train the averaged weights; call optimizer.train() "
                "before training, and optimizer.eval() before evaluation"
            )

    def _own_average(self, group: Mapping[str, Any], p: Tensor) -> Tensor | None:
        held = self.state.get(p)
        return None if not held else self._called(self.rule_for(group, p), "evaluated", group, p)

    def _called(self, rule: Rule, name: str, group: Mapping[str, Any], p: Tensor) -> Tensor:
        """Return what a function of the rule makes of a parameter and its state."""
        function = getattr(rule, name)
        numbers, switches = values(self.fields, group)
        kept = {name: group[name] for name in (rule.shared.kept if rule.shared else ())}
        held = [self.state[p].get(state) for state in rule.arguments]
        given = {**switches, **numbers, **kept}
        given |= {"t": float(self.state[p]["step"])} if "step" in self.state[p] else {}
        result: Tensor = function(p, *held, **{name: given[name] for name in rule.named(function)})
        return result


def update_bn(
    model: torch.nn.Module, loader: Iterable[Any], optimizer: Any, device: torch.device | str | None = None
) -> None:
    """Recompute the running statistics of BatchNorm under the weights that an optimizer evaluates.

    Buffers belong to the weights that are trained. Call this before an evaluation under other weights: an average, or
    those of Schedule-Free. The statistics stay; the parameters are afterwards what they were.

    Example:
        >>> from steepest import SGD
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
        >>> update_bn(model, [torch.randn(8, 2)], SGD(model.parameters(), ema_decay=0.9))

    Args:
        model: the model.
        loader: batches, or tuples whose first entry is the batch, as for ``torch.optim.swa_utils.update_bn``.
        optimizer: an optimizer of the library with averaged weights.
        device: the device that batches are put on; None leaves them.

    Raises:
        RuntimeError: the optimizer has only the weights that it trains.
    """
    with optimizer.averaged():
        torch.optim.swa_utils.update_bn(loader, model, None if device is None else torch.device(device))
