"""Conventions that cannot act, or not together, are refused at construction and for a group; the rest keep to torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import steepest
from cases import CLASSES, TWINS, every_planned_class, parameters
from steepest import Optimizer

REFUSED: list[tuple[type[Optimizer], dict[str, Any], str]] = [
    (steepest.Adam, {"eps_hat": True, "eps_in_sqrt": True}, "leave eps_in_sqrt=False"),
    (steepest.AdamW, {"eps_hat": True, "eps_in_sqrt": True}, "leave eps_in_sqrt=False"),
    (
        steepest.Adam,
        {"eps_hat": True, "amsgrad": True, "amsgrad_corrected": True},
        "leave amsgrad_corrected=False",
    ),
    (steepest.Adam, {"amsgrad_corrected": True}, "give amsgrad=True too"),
    (steepest.RMSprop, {"lr_in_momentum": True}, "give momentum > 0 too"),
    (steepest.RAdam, {"threshold": 3.9}, "threshold must be a number >= 4"),
    (steepest.NAG, {"true_lookahead": True, "decoupled_weight_decay": True}, "no decoupled decay"),
]
COUPLED = [
    (cls, {"lr_in_decay": False, "decoupled_weight_decay": False}, "give decoupled_weight_decay=True too")
    for cls in CLASSES.values()
    if "lr_in_decay" in cls.fields and not cls.fields["decoupled_weight_decay"].fixed
]


@pytest.mark.parametrize(("cls", "options", "message"), [*REFUSED, *COUPLED])
def test_what_cannot_act_is_refused(cls: type[Optimizer], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(parameters([1.0]), **options)
    optimizer = cls(parameters([1.0]))
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": parameters([1.0]), **options})
    assert len(optimizer.param_groups) == 1


@every_planned_class
def test_a_class_that_decays_through_the_common_steps_takes_every_form(cls: type[Optimizer]) -> None:
    """``weight_decay`` in a rule's own signature is that rule's business."""
    if "weight_decay" in cls.fields and "weight_decay" not in cls.rule.names:
        assert {"decoupled_weight_decay", "lr_in_decay"} <= cls.fields.keys()


DECAYING = [cls for cls in CLASSES.values() if "lr_in_decay" in cls.fields]


@pytest.mark.parametrize("cls", DECAYING, ids=lambda cls: cls.__name__)
def test_each_form_of_decay_alone(cls: type[Optimizer]) -> None:
    """Under a gradient of zero a decoupled decay is all that moves a parameter: by ηλ, or by λ alone at every rate.

    It is the second step's, because some rules only fill their state at the first.
    """
    decoupled = {} if cls.fields["decoupled_weight_decay"].fixed else {"decoupled_weight_decay": True}
    own = {"lambd", "initial_accumulator_value", "momentum"}  # ASGD's own decay, what Yogi starts at, MADGRAD's x0
    decoupled |= {name: 0.0 for name in own if name in cls.fields}
    for options, factor in (({}, 1 - 0.5 * 0.25), ({"lr_in_decay": False}, 1 - 0.25)):
        (p,) = params = parameters([[[2.0, -4.0]]])
        p.grad = torch.zeros_like(p)
        optimizer = cls(params, lr=0.5, weight_decay=0.25, **decoupled, **options)
        optimizer.step()
        before = p.detach().clone()
        optimizer.step()
        assert p.tolist() == (factor * before).tolist()


@pytest.mark.parametrize("twins", TWINS.values(), ids=list(TWINS))
def test_a_checkpoint_of_torchs_takes_our_defaults(twins: tuple[Any, Any]) -> None:
    """torch's dictionary lacks our arguments: they stay what torch does."""
    ours, theirs = (cls(parameters([[[1.0]]])) for cls in twins)
    saved = theirs.state_dict()
    own = {name: field.default for name, field in twins[0].fields.items() if name not in theirs.defaults}
    ours.load_state_dict(saved)
    assert {name: ours.param_groups[0][name] for name in own} == own
