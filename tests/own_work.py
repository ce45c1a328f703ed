"""A user's own files: a workload, and optimizers of every kind."""

import sys
from pathlib import Path

import pytest
from steepest.study.trials import task

TASK = '''
import torch
from torch import nn

import steepest.study
from steepest.study import ACCURACY, Workload

generator = torch.Generator().manual_seed(1)
INPUTS = torch.randn(120, 4, generator=generator)
TARGETS = (INPUTS[:, 0] > 0).long()


def model():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


@steepest.study.workload
def my_task(preset):
    """My own task.

    Which side of a plane a point lies on.
    """
    return Workload(data=(INPUTS, TARGETS), model=model, loss=nn.functional.cross_entropy, metric=ACCURACY,
                    target=(0.9, 0.5), batch_size=20, horizon=2, seeds=2, trials=2)
'''

RULES = '''
import torch

from steepest import Optimizer, Rule
from steepest.fields import hyper, lr


def descent(p, g, *, lr, weight):
    return p - lr * weight * g


class MyOpt(Optimizer):
    """Descent with a weight."""

    lr: float = lr(0.5, 1e-2, 1.0)
    weight: float = hyper(1.0, "a factor", low=0.0)
    foreach: bool | None = hyper(None, "executor")
    rule = Rule(descent, "pointwise")


def factory(params, lr=0.05, betas=(0.9, 0.999), layers=((1, 2), 3)):
    assert isinstance(betas, tuple) and layers == ((1, 2), 3)
    return torch.optim.Adam(params, lr=lr, betas=betas)


class ScheduleFree(torch.optim.SGD):
    """It trains on one set of weights and is measured with another one."""

    training = False

    def train(self):
        self._shift(1.0)
        self.training = True

    def eval(self):
        self._shift(-1.0)
        self.training = False

    def _shift(self, by):
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(by)

    def step(self, closure=None):
        assert self.training
        super().step(closure)


class Pressed(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        Pressed.steps += 1
        if Pressed.steps > 5:
            raise KeyboardInterrupt
        super().step(closure)


def nothing(params):
    return None
'''


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put `my_task.py` and `my_rules.py` into an empty folder and go there."""
    (tmp_path / "my_task.py").write_text(TASK)
    (tmp_path / "my_rules.py").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    task.load_task.cache_clear()  # by file name: an earlier test's files had the same ones
    return tmp_path
