"""Averages made after the training, from copies of the weights that were taken now and then."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from .optimizer import Optimizer
from .transforms.average import AVERAGES, COUNT, PowerLaw, decays_of, holds_averages, swapped

Weights = list[Tensor]
"""One tensor for each parameter, in the optimizer's order."""


class Snapshots:
    """The latest copies of the trained weights, of which `averaged` is the mean (LAWA).

    Example:
        >>> import steepest
        >>> optimizer = steepest.SGD([p := torch.nn.Parameter(torch.ones(2))], lr=1.0)
        >>> snapshots = steepest.Snapshots(optimizer, keep=2)
        >>> for _ in range(3):
        ...     p.grad = torch.ones(2)
        ...     optimizer.step()
        ...     snapshots.take()
        >>> with snapshots.averaged():
        ...     print(p.detach())
        tensor([-1.5000, -1.5000])

    Args:
        optimizer: an optimizer of the library, whose parameters are copied.
        keep: number of copies that stay; older ones are dropped. None keeps all.
        device: the device of the copies, such as ``"cpu"``; None leaves each on its parameter's.

    Raises:
        ValueError: ``keep`` is not a whole number of at least 1.

    Source:
        Kaddour 2022, "Stop wasting my time! Saving days of ImageNet and BERT training with latest weight averaging",
        arXiv:2209.14981.
    """

    def __init__(self, optimizer: Optimizer, keep: int | None = 10, device: torch.device | str | None = None) -> None:
        if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1):
            raise ValueError(f"keep={keep!r} must be a whole number of at least 1, or None for all snapshots")
        self.optimizer, self.device = optimizer, device
        self._taken: deque[dict[str, Any]] = deque(maxlen=keep)

    def __len__(self) -> int:
        """Return how many snapshots there are."""
        return len(self._taken)

    def take(self) -> None:
        """Copy the weights as they are now.

        Raises:
            RuntimeError: the parameters hold averages.
        """
        if holds_averages(self.optimizer.param_groups):
            raise RuntimeError("take() inside a `with ...averaged():` block would copy averages; leave it")
        self._taken.append({"weights": self._copied(self._parameters())})

    def averaged(self) -> AbstractContextManager[None]:
        """Use the mean of the snapshots inside a ``with`` block; the parameters' own values come back afterwards.

        Raises:
            RuntimeError: no snapshot has been taken, or the parameters hold averages.
        """
        self._require(1)
        return self._with_sum([each["weights"] for each in self._taken], [1 / len(self)] * len(self))

    def state_dict(self) -> dict[str, Any]:
        """Return the snapshots, to be saved. The tensors are not copied."""
        return {"taken": list(self._taken)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over saved snapshots.

        Raises:
            ValueError: they are of other parameters.
        """
        shapes = [p.shape for p in self._parameters()]
        for each in state_dict["taken"]:
            for weights in (value for value in each.values() if isinstance(value, list)):
                if [w.shape for w in weights] != shapes:
                    raise ValueError(
                        f"the snapshots are of {len(weights)} tensors of other shapes than the optimizer's "
                        f"{len(shapes)} parameters; load them beside the model that they were taken of"
                    )
        self._taken.clear()
        self._taken.extend(state_dict["taken"])

    def _parameters(self) -> Weights:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _copied(self, tensors: Sequence[Tensor]) -> Weights:
        return [x.detach().to(self.device or x.device, copy=True) for x in tensors]

    def _require(self, least: int) -> None:
        if len(self) < least:
            raise RuntimeError(f"there are {len(self)} snapshots, and at least {least} are needed; call take() first")

    @contextmanager
    def _with_sum(self, terms: Sequence[Weights], factors: Sequence[float]) -> Iterator[None]:
        """Put a weighted sum into the parameters, summed in float32 or more."""
        if holds_averages(self.optimizer.param_groups):
            raise RuntimeError("the parameters hold averages already; leave the `with` block around this one")
        with swapped((p, _weighted(p, each, factors)) for p, *each in zip(self._parameters(), *terms, strict=True)):
            yield


class PostHocEMA(Snapshots):
    """Snapshots of two power-law averages, from which the average of any relative width is made afterwards.

    Example:
        >>> import steepest
        >>> averages = {"narrow": steepest.PowerLaw.of_width(0.05), "wide": steepest.PowerLaw.of_width(0.1)}
        >>> optimizer = steepest.AdamW([p := torch.nn.Parameter(torch.ones(2))], ema_decay=averages)
        >>> history = steepest.PostHocEMA(optimizer)
        >>> for step in range(1, 101):
        ...     p.grad = torch.ones(2)
        ...     optimizer.step()
        ...     if step % 10 == 0:
        ...         history.take()
        >>> with history.averaged(width=0.15):
        ...     print(p.detach())
        tensor([0.9167, 0.9167])

    Args:
        optimizer: an optimizer of the library whose ``ema_decay`` in every group are the same two or more `PowerLaw`.
        keep, device: see `Snapshots`; all copies are needed.

    Raises:
        ValueError: the optimizer does not keep two power-law averages.

    Source:
        Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", arXiv:2312.02696,
        section 3 and appendix C: the coefficients are the least-squares fit of the profile.
    Differs:
        The coefficients sum to 1, which the paper's do only about: weights far from 0 would shrink by the difference.
    """

    def __init__(self, optimizer: Optimizer, keep: int | None = None, device: torch.device | str | None = None) -> None:
        super().__init__(optimizer, keep, device)
        kept = {tuple(decays_of(group)) for group in optimizer.param_groups}
        (decays, *others) = kept
        if others or len(decays) < 2 or not all(isinstance(decay, PowerLaw) for decay in decays):
            raise ValueError(
                f"PostHocEMA needs two power-law averages in every group, and ema_decay is {sorted(map(str, kept))}; "
                "give ema_decay={'narrow': PowerLaw.of_width(0.05), 'wide': PowerLaw.of_width(0.1)}"
            )
        self._gammas = [decay.gamma for decay in decays]

    def take(self) -> None:
        """Copy the averages as they are now.

        Raises:
            RuntimeError: no step has been done yet, or some parameter has had fewer averagings than others.
        """
        held = [self.optimizer.state.get(p, {}) for p in self._parameters()]
        counts = {float(each[COUNT.name]) if COUNT.name in each else 0.0 for each in held}
        if len(counts) != 1 or 0.0 in counts:
            raise RuntimeError(
                f"the parameters have had {sorted(counts)} averagings; PostHocEMA.take() needs one number of at least 1"
            )
        names = [AVERAGES[index].name for index in range(len(self._gammas))]
        copies = {name: self._copied([each[name] for each in held]) for name in names}
        self._taken.append({"n": counts.pop(), **copies})

    def averaged(self, width: float = 0.1) -> AbstractContextManager[None]:
        """Use the average of this relative width inside a ``with`` block, as it would be at the last snapshot.

        Args:
            width: standard deviation of the average's weights, relative to the length of training; > 0 and < 0.28.

        Raises:
            ValueError: the width is out of bounds.
            RuntimeError: no snapshot has been taken, or the parameters hold averages.
        """
        target = PowerLaw.of_width(width).gamma
        self._require(1)
        kept = [
            (each["n"], gamma, each[AVERAGES[index].name])
            for each in self._taken
            for index, gamma in enumerate(self._gammas)
        ]
        factors = _fitted([(n, gamma) for n, gamma, _ in kept], (self._taken[-1]["n"], target))
        return self._with_sum([weights for *_, weights in kept], factors)


def _fitted(profiles: Sequence[tuple[float, float]], target: tuple[float, float]) -> list[float]:
    """Return factors, 1 together, whose sum of the profiles, each (averagings, gamma), is closest to the target."""
    rows = [[*(_product(a, b) for b in profiles), 1.0] for a in profiles]
    system = torch.tensor([*rows, [*(1.0 for _ in profiles), 0.0]], dtype=torch.float64)
    onto = torch.tensor([*(_product(a, target) for a in profiles), 1.0], dtype=torch.float64)
    factors: list[float] = torch.linalg.lstsq(system, onto[:, None], driver="gelsd").solution[:-1, 0].tolist()
    return factors


def _product(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the inner product of two profiles, the weight that each gives to every step (appendix C.3)."""
    (first, gamma), (last, other) = sorted((a, b))
    ratio: float = (first / last) ** other
    return (gamma + 1) * (other + 1) * ratio / ((gamma + other + 1) * last)


def _weighted(p: Tensor, terms: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    dtype = torch.promote_types(p.dtype, torch.float32)
    total = torch.zeros_like(p, dtype=dtype)
    for term, factor in zip(terms, factors, strict=True):
        total.add_(term.to(p.device, dtype), alpha=factor)
    return total
