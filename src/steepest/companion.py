"""Optimizers for matrices with a companion, AdamW, for all other parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from . import fields
from .fields import Options, Search
from .matrices import heads, is_matrix, matrices, refuse_flat, view_of
from .optimizer import Optimizer
from .param_groups import ParamGroups, for_matrices
from .rule import Rule, seeing
from .rules.adam import COMPANION


class WithCompanion(Optimizer):
    """Base of optimizers whose rule is for hidden matrices; AdamW updates the other parameters, in groups of their own.

    A group with ``use_muon=True`` has matrices for the class's rule, one with ``use_muon=False`` has parameters for
    AdamW. Any other group is divided. Its parameters with two dimensions are matrices, and those with more of which two
    are not of size 1. The group of the others follows it, with ``adamw_lr`` for its ``lr`` and ``adamw_weight_decay``
    for its ``weight_decay``, so that schedules act on both rates.

    Raises:
        ValueError: a group without ``use_muon=False`` has no matrix at all.
    """

    _: KW_ONLY
    use_muon: bool | None = fields.hyper(None, "True: matrices; False: parameters for AdamW; None: divide the group")
    matrices: str | None = matrices()
    heads: Any = heads()
    adamw_lr: float = fields.hyper(
        3e-4, "learning rate of the companion, where a group is divided", low=0.0, search=Search(1e-5, 1e-1)
    )
    adamw_betas: tuple[float, float] = fields.hyper(
        (0.9, 0.95),
        "decay rates of the companion's averages of g and g²",
        low=0.0,
        high=1.0,
        names=("adamw_beta1", "adamw_beta2"),
        is_decay=True,
    )
    adamw_eps: float = fields.hyper(1e-10, "the companion's ε", low=0.0)
    adamw_weight_decay: float = fields.hyper(0.0, "decay of the companion's weights, where a group is divided", low=0.0)
    lr_in_decay: bool = fields.lr_in_decay()
    decoupled_weight_decay: bool = fields.fixed(default=True, doc="decay the weights themselves, as AdamW does")

    companion: ClassVar[Rule] = COMPANION
    """The rule of parameters that are not matrices."""

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the companion for a group with ``use_muon=False``, and else the rule of matrices."""
        return cls.companion if options["use_muon"] is False else cls.matrix_rule(options, p)

    @classmethod
    def matrix_rule(cls, options: Options, p: Tensor | None) -> Rule:
        """Return the rule of a matrix; with its view of the parameter, if it has one.

        Raises:
            ValueError: the parameter is sharded, has less than two dimensions, or three and ``matrices`` is None, or it
                is not a matrix in a group of which nobody says that it is.
        """
        if p is None:
            return cls.rule
        refuse_flat(cls.__name__, p)
        if p.dim() < 2 or (options["use_muon"] is None and not is_matrix(p)):
            raise ValueError(cls._refusal(p))
        view = view_of(cls.__name__, p, options)
        return cls.rule if view is None else seeing(cls.rule, view)

    @classmethod
    def _refusal(cls, p: Tensor) -> str:
        return (
            f"{cls.__name__} only supports 2D parameters whereas we found a parameter with size: {p.size()}; give it "
            "to a group with use_muon=False, whose rule is AdamW, or to a group with some matrices"
        )

    @classmethod
    def for_model(cls, model: nn.Module, *, report: bool = True, **options: Any) -> Self:
        """Return an optimizer of a whole model: its hidden matrices under the rule, all others under AdamW.

        Embeddings, the head, biases, norms and vectors go to AdamW, by the modules that hold them; see
        `steepest.groups.for_matrices`.

        Example:
            >>> from steepest import Muon
            >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
            >>> optimizer = Muon.for_model(model, lr=0.02, adamw_lr=1e-3)
            group     tensors  parameters  options         such as
            matrices  1        64          use_muon=True   0.weight
            others    3        26          use_muon=False  0.bias, 2.weight, 2.bias

        Args:
            model: the model.
            report: whether to print where each parameter went.
            options: arguments of the constructor.

        Raises:
            ValueError: the model has no hidden matrix.
        """
        groups = cls.params_of(model, options)
        if report:
            print(groups)
        return cls(groups, **options)

    @classmethod
    def params_of(cls, model: nn.Module, options: Options) -> ParamGroups:
        """Return a group of the model's hidden matrices, and one of its other parameters."""
        return for_matrices(model, stacks=options.get("matrices") == "batch")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as in torch; a group with ``use_muon=None`` may become two."""
        before = len(self.param_groups)
        try:
            for part in self._divided(param_group):
                super().add_param_group(part)
        except BaseException:
            del self.param_groups[before:]
            raise

    def _divided(self, group: Any) -> list[dict[str, Any]]:
        """Return a group of matrices and one of all others, each if there is something in it."""
        if not isinstance(group, dict):
            return [group]
        options: Mapping[str, Any] = {**self.defaults, **group}
        if options["use_muon"] is not None:
            return [self._with_rates(group)]
        listed = _listed(group.get("params", ()))
        group = {**group, "params": listed}
        parts = {flag: [entry for entry in listed if is_matrix(_tensor(entry)) == flag] for flag in (True, False)}
        if not all(parts.values()):
            return [group]
        return [self._with_rates({**group, "params": part, "use_muon": flag}) for flag, part in parts.items()]

    def _with_rates(self, group: dict[str, Any]) -> dict[str, Any]:
        """Return a group for the companion with numbers of its own, and any other as it is."""
        if group.get("use_muon") is not False:
            return group
        options = {**self.defaults, **group}
        own = {"lr": options["adamw_lr"], "weight_decay": options["adamw_weight_decay"], "hyperball": False}
        return {**own, **group}


def _listed(params: Any) -> Any:
    """Return a group's parameters as a list; a set is left as it is, for torch to refuse."""
    if isinstance(params, Tensor):
        return [params]
    return params if isinstance(params, set) else list(params)


def _tensor(entry: Any) -> Tensor:
    """Return a parameter, which may come with its name."""
    p = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
    return p if isinstance(p, Tensor) else torch.empty(())
