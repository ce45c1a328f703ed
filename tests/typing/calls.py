"""Calls that type checkers must accept, and ones (marked) that they must refuse. Never run; see test_typing.py."""

from dataclasses import KW_ONLY
from typing import Any

import torch

import steepest
from steepest import SGD, AdamW, Optimizer, Rule, fields, study
from steepest.rules.adam import Adam

model = torch.nn.Linear(2, 2)


def library() -> None:
    """Call the library's classes."""
    AdamW(model.parameters(), lr=1e-3)
    AdamW(model.parameters(), 1e-3, (0.9, 0.99), 1e-8, 0.1, amsgrad=True, ema_decay=0.99, max_norm=1.0)
    AdamW(model.named_parameters(), lr=torch.tensor(1e-3), state_dtype="int8")
    AdamW([{"params": model.parameters(), "lr": 1e-4}], fused=None, foreach=True)
    SGD(model.parameters(), 0.1, 0.9, nesterov=True)
    steepest.Muon(model.parameters(), lr=0.02)
    steepest.LBFGS(model.parameters(), max_iter=5)
    Adam(model.parameters()).step(lambda: model(torch.ones(2)).sum())
    print(AdamW(model.parameters()).step())
    with AdamW(model.parameters(), ema_decay=0.9).averaged():
        pass
    torch.optim.lr_scheduler.StepLR(AdamW(model.parameters()), 10)

    AdamW()  # refused: no parameters
    AdamW(model.parameters(), lr="fast")  # refused: a word for a number
    AdamW(model.parameters(), learning_rate=0.1)  # refused: an unknown argument
    AdamW(model.parameters(), betas=0.9)  # refused: one number for two
    AdamW(model.parameters(), decoupled_weight_decay=True)  # refused: the class settles it
    SGD(model.parameters(), 0.1, 0.9, 0.0, 0.0, False, True)  # refused: maximize by position
    steepest.Adamw(model.parameters())  # refused: an unknown class


def by_name() -> None:
    """Build by name, make groups, and search a rate."""
    steepest.create("adamw", model, lr=1e-3)
    steepest.create("adamw", steepest.groups.no_decay(model, weight_decay=0.1))
    steepest.names("adam*")
    steepest.info("adam").state_bytes / 2
    rate = steepest.lr_range(model, torch.nn.functional.mse_loss, [], "lion", steps=10).recommended
    rate / 2  # refused: there may be no rate
    steepest.create(model, "adamw")  # refused: the name comes first
    steepest.groups.layerwise(model)  # refused: a rate is needed
    steepest.lr_range(model)  # refused: no loss and no data


def studies() -> None:
    """Compare optimizers."""
    study.compare(lambda: model, (torch.ones(2, 2), torch.ones(2)), torch.nn.functional.mse_loss, ["sgd"], margin=0.1)
    study.compare(["digits", "train.py:finetune"], optimizers={"mine": torch.optim.SGD}, budget="2h").workloads.keys()
    study.compare(suite="small", budget=600.0).rows["SGD"]["verdict"].upper()
    study.compare("digits", budget=["2h"])  # refused: neither a time nor seconds
    study.compare(model=3)  # refused: a number for a workload


def descent(p: Any, g: Any, *, lr: float, scale: float) -> Any:
    return p - lr * scale * g


class Descent(Optimizer):
    """A user's own rule."""

    lr: float = fields.lr(0.1)
    scale: float = fields.hyper(1.0, "how much further", low=0.0)
    _: KW_ONLY
    maximize: bool = fields.maximize()
    rule = Rule(descent, "pointwise")


def own() -> None:
    """Call a user's class."""
    Descent(model.parameters())
    Descent(model.parameters(), 0.1, 2.0, maximize=True, max_norm=1.0)
    Descent(model.parameters(), lr=0.1, momentum=0.9)  # refused: an unknown argument
    Descent(model.parameters(), scale=None)  # refused: None for a number
