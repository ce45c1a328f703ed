"""timm, skorch, fastai and Ignite take torch optimizers: with ours they go where a loop by hand goes, to the bit."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader

import steepest

from .small import Net, examples, rates, same, values
from .support import need, timm_by_files

need("timm", "skorch", "fastai", "ignite")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # fastai and Ignite use torch.jit
    import fastai.callback.progress
    import fastai.callback.schedule  # noqa: F401 - both add methods to Learner
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper
    from ignite.engine import Events, create_supervised_trainer
    from skorch import NeuralNetRegressor

pytestmark = pytest.mark.filterwarnings("ignore")  # these packages warn of much that is none of our business
EPOCHS = 3


class Plain(nn.Module):
    """The model with its outputs only."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net().net

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.net(x)
        return outputs


def pairs() -> Any:
    return DataLoader([(each["x"], each["labels"][None]) for each in examples()], batch_size=4)


def by_hand(optimizer: Any, model: nn.Module, schedule: Any = None) -> list[Tensor]:
    for x, y in [pair for _ in range(EPOCHS) for pair in pairs()]:
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return values(model)


def test_timm() -> None:
    """Its groups leave biases and norms without decay; its average of the model is that of ``ema_decay``."""
    timm_by_files()
    from timm.optim import param_groups_weight_decay
    from timm.utils import ModelEmaV3

    model = Plain()
    optimizer = steepest.create("adamw", param_groups_weight_decay(model, 0.3), lr=0.05, ema_decay=0.9)
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [(4, 0.0), (2, 0.3)]
    average = ModelEmaV3(model, decay=0.9)
    optimizer.register_step_post_hook(lambda *_: average.update(model))
    by_hand(optimizer, model)
    ours = steepest.groups.no_decay(other := Plain(), weight_decay=0.3)
    assert same(values(model), by_hand(steepest.AdamW(ours, lr=0.05), other))
    averaged = optimizer.averaged_state_dict(model)
    for name, theirs in average.module.state_dict().items():
        torch.testing.assert_close(averaged[name], theirs)


def test_skorch() -> None:
    inputs = torch.stack([x for x, _ in pairs().dataset])
    targets = torch.stack([y for _, y in pairs().dataset])
    net = NeuralNetRegressor(
        Plain(),
        max_epochs=EPOCHS,
        batch_size=4,
        train_split=None,
        lr=0.05,
        optimizer=steepest.AdamW,
        optimizer__weight_decay=0.3,
        optimizer__param_groups=[("*bias", {"weight_decay": 0.0})],
        verbose=0,
    )
    net.fit(inputs, targets)
    model = Plain()
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    others = [p for name, p in model.named_parameters() if not name.endswith("bias")]
    optimizer = steepest.AdamW([{"params": biases, "weight_decay": 0.0}, {"params": others}], lr=0.05, weight_decay=0.3)
    assert same(values(net.module_), by_hand(optimizer, model))


def test_fastai() -> None:
    """Its schedules set rate and momentum under its own names, which `OptimWrapper` translates."""
    noted: list[float] = []

    class Note(Callback):  # type: ignore[misc]
        def after_step(self) -> None:
            noted.extend(rates(self.learn.opt.opt)[:1])

    model = Plain()
    learner = Learner(
        DataLoaders(pairs(), pairs()),
        model,
        loss_func=nn.MSELoss(),
        opt_func=partial(OptimWrapper, opt=steepest.AdamW, weight_decay=0.3),
        cbs=[Note()],
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(EPOCHS, 0.05)
    other = Plain()
    assert same(values(model), by_hand(steepest.AdamW(other.parameters(), lr=0.05, weight_decay=0.3), other))
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(1, 0.05)
    assert set(noted[:-8]) == {0.05}
    assert len(set(noted[-8:])) == 8


def test_ignite() -> None:
    def made(model: nn.Module) -> tuple[Any, Any]:
        optimizer = steepest.create("nadam", model, lr=0.05)
        return optimizer, steepest.schedules.WarmupLinear(optimizer, EPOCHS * 8)

    model = Plain()
    optimizer, schedule = made(model)
    engine = create_supervised_trainer(model, optimizer, mse_loss)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: schedule.step())
    engine.run(pairs(), max_epochs=EPOCHS)
    other = Plain()
    assert same(values(model), by_hand(*(parts := made(other))[:1], other, parts[1]))
