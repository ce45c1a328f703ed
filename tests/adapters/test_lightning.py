"""Lightning with optimizers by name: equal to a loop by hand, averages where they belong, resumed to the bit."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import steepest

from .small import Net, examples, rates, same, values

lightning = pytest.importorskip("lightning")

import steepest.lightning
from steepest.lightning import EvaluateAveraged, configure_optimizers

pytestmark = pytest.mark.filterwarnings("ignore")  # the package warns of much that is none of our business
COSINE = steepest.schedules.WarmupCosine


class Module(lightning.LightningModule):
    """A module whose optimizers are made by a function of it."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self.net = Net()
        self.make = make
        self.evaluated: list[list[Tensor]] = []

    def configure_optimizers(self) -> Any:
        return self.make(self)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.net(**batch)["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.evaluated.append(values(self))

    test_step = validation_step


def named(name: str, **options: Any) -> Callable[[Any], Any]:
    return lambda module: configure_optimizers(module, name, **options)


def loader() -> Any:
    return DataLoader(examples(), batch_size=4)


def fitted(
    folder: Path, module: Module, resume: Any = None, validation: Any = None, **changes: Any
) -> tuple[Module, Any]:
    """Return a module and the Trainer that has fitted it."""
    usual = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(**{**usual, **changes})
    trainer.fit(module, loader(), validation, ckpt_path=resume)
    return module, trainer


def by_hand(optimizer: Any, model: Net, steps: int = 24, clip: Callable[[], Any] = lambda: None) -> list[Tensor]:
    """Return the weights of a loop with a cosine over 24 steps."""
    scheduler = COSINE(optimizer, 24)
    for batch in [batch for _ in range(3) for batch in loader()][:steps]:
        optimizer.zero_grad()
        model(**batch)["loss"].backward()
        clip()
        optimizer.step()
        scheduler.step()
    return values(model)


def groups_by_hand(model: Net) -> list[dict[str, Any]]:
    net = model.net
    resting = [net[0].bias, *net[1].parameters(), net[3].bias]
    return [{"params": [net[0].weight, net[3].weight]}, {"params": resting, "weight_decay": 0.0}]


@pytest.mark.parametrize("clips", ["ours", "Lightning"])
def test_lightning_and_a_loop_by_hand_agree(tmp_path: Path, clips: str) -> None:
    """Groups, a schedule at every step, and clipping of all gradients' norm, by either side."""
    ours = {"max_norm": 0.5} if clips == "ours" else {}
    theirs = {} if ours else {"gradient_clip_val": 0.5}
    make = named("adamw", lr=0.05, weight_decay=0.3, schedule=COSINE, **ours)
    module, trainer = fitted(tmp_path, Module(make), **theirs)
    model = Net()
    optimizer = steepest.AdamW(groups_by_hand(model), lr=0.05, weight_decay=0.3, **ours)

    def clip() -> None:
        if theirs:
            torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 0.5)

    assert same(by_hand(optimizer, model, clip=clip), values(module))
    assert rates(trainer.optimizers[0]) == rates(optimizer)


@pytest.mark.parametrize("name", ["adamw", "adamwschedulefree"])
def test_averages_are_evaluated_and_saved_and_training_resumes(tmp_path: Path, name: str) -> None:
    options = {"lr": 0.05, "schedule": COSINE, **({"ema_decay": 0.9} if name == "adamw" else {})}
    saving = {"enable_checkpointing": True, "validation": loader()}

    def callbacks() -> list[Any]:
        saves = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, every_n_epochs=1)
        return [EvaluateAveraged(), saves]

    module, trainer = fitted(tmp_path, Module(named(name, **options)), callbacks=callbacks(), **saving)
    model = Net()
    optimizer = steepest.create(name, model, **{k: v for k, v in options.items() if k != "schedule"}, weight_decay=0)
    if name == "adamw":
        optimizer = steepest.AdamW(groups_by_hand(model), lr=0.05, ema_decay=0.9)
    trained = by_hand(optimizer, model)
    assert same(trained, values(module))
    with optimizer.averaged():
        averaged = values(model)
    assert same(averaged, module.evaluated[-1])
    trainer.test(module, loader(), verbose=False)
    assert same(averaged, module.evaluated[-1])
    assert same(trained, values(module))

    saved = sorted(tmp_path.glob("*.ckpt"))
    last = torch.load(saved[-1], weights_only=True)
    assert same(averaged, last["state_dict"].values())
    loaded = Module.load_from_checkpoint(saved[-1], make=None)
    assert same(averaged, values(loaded))
    resumed, _ = fitted(tmp_path, Module(named(name, **options)), saved[0], callbacks=callbacks(), **saving)
    assert same(trained, values(resumed))
    assert same(averaged, resumed.evaluated[-1])


@pytest.mark.parametrize(("name", "options"), [("muon", {"weight_decay": 0.1}), ("prodigy", {}), ("sam", {"lr": 0.05})])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    make = named(name, schedule=COSINE, **options)
    saves = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, every_n_epochs=1)
    whole, _ = fitted(tmp_path, Module(make), enable_checkpointing=True, callbacks=[saves])
    resumed, _ = fitted(tmp_path, Module(make), tmp_path / "epoch=0-step=8.ckpt")
    assert same(values(whole), values(resumed))


@pytest.mark.parametrize("name", ["lbfgs", "momo"])
def test_lightnings_closure_serves_rules_that_need_one(tmp_path: Path, name: str) -> None:
    module, _ = fitted(tmp_path, Module(named(name)), max_epochs=1)
    model = Net()
    optimizer = steepest.create(name, groups_by_hand(model) if name == "momo" else model)
    for batch in loader():

        def closure(batch: Any = batch) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = model(**batch)["loss"]
            loss.backward()
            return loss

        optimizer.step(closure)
    assert same(values(model), values(module))


def test_of_two_optimizers_one_keeps_an_average(tmp_path: Path) -> None:
    class Manual(Module):
        def __init__(self, make: Callable[[Any], Any]) -> None:
            super().__init__(make)
            self.automatic_optimization = False

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.net(**batch)["loss"])
                optimizer.step()

    def make(module: Any) -> Any:
        first = configure_optimizers(module, "adamw", module.net.net[0], ema_decay=0.9)["optimizer"]
        return [first, torch.optim.SGD(module.net.net[3].parameters(), lr=0.05)]

    module, trainer = fitted(tmp_path, Manual(make), validation=loader(), callbacks=[EvaluateAveraged()])
    trained, evaluated = values(module), module.evaluated[-1]
    assert same(trained[2:], evaluated[2:])
    with trainer.optimizers[0].averaged():
        assert same(values(module), evaluated)
    assert not same(trained[:2], evaluated[:2])


def test_manual_optimization_of_two_parts(tmp_path: Path) -> None:
    class Manual(Module):
        automatic_optimization = False

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            for optimizer, scheduler in zip(self.optimizers(), self.lr_schedulers(), strict=True):
                optimizer.zero_grad()
                self.manual_backward(self.net(**batch)["loss"])
                optimizer.step()
                scheduler.step()

    def make(module: Any) -> Any:
        first, last = module.net.net[0], module.net.net[3]
        parts = [
            configure_optimizers(module, "adamw", first, lr=0.05, weight_decay=0.3, schedule=COSINE),
            configure_optimizers(module, "sgd", list(last.parameters()), lr=0.05, schedule=COSINE),
        ]
        return [part["optimizer"] for part in parts], [part["lr_scheduler"] for part in parts]

    module, _ = fitted(tmp_path, Manual(make))
    model = Net()
    first, last = model.net[0], model.net[3]
    groups = [{"params": [first.weight]}, {"params": [first.bias], "weight_decay": 0.0}]
    optimizers = [steepest.AdamW(groups, lr=0.05, weight_decay=0.3), steepest.SGD(last.parameters(), lr=0.05)]
    schedulers = [COSINE(optimizer, 24) for optimizer in optimizers]
    for batch in [batch for _ in range(3) for batch in loader()]:
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.zero_grad()
            model(**batch)["loss"].backward()
            optimizer.step()
            scheduler.step()
    assert same(values(model), values(module))


def test_the_older_name_of_the_package(tmp_path: Path) -> None:
    """Its classes are others."""
    older = pytest.importorskip("pytorch_lightning")

    class Older(older.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def configure_optimizers(self) -> Any:
            return configure_optimizers(self, "adamw", lr=0.05, ema_decay=0.9, schedule=COSINE)

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            return self.net(**batch)["loss"]

    module = Older()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = older.Trainer(
        max_epochs=3, accelerator="cpu", default_root_dir=tmp_path, callbacks=[EvaluateAveraged()], **quiet
    )
    trainer.fit(module, loader())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    model = Net()
    optimizer = steepest.AdamW(groups_by_hand(model), lr=0.05, ema_decay=0.9)
    assert same(by_hand(optimizer, model), values(module))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert same(optimizer.averaged_state_dict(model).values(), saved.values())


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (named("admw"), {}, "unknown optimizer 'admw'; did you mean 'adamw'"),
        (named("adamw", weight_decy=0.1), {}, "'weight_decy'; did you mean 'weight_decay'"),
        (named("adamw", schedule="cosine"), {}, "schedule takes a class of steepest.schedules.*'cosine'"),
        (named("adamw", schedule=COSINE), {"max_epochs": -1}, "give the Trainer max_epochs or max_steps"),
        (named("adamw", max_norm=1.0), {"gradient_clip_val": 2.0}, "max_norm=1.0 clips .* gradient_clip_val=2.0"),
        (named("sam"), {"accumulate_grad_batches": 2}, "'sam' does not go with accumulate_grad_batches=2"),
        (named("momo"), {"accumulate_grad_batches": 2}, "'momo' does not go with accumulate_grad_batches=2"),
        (lambda module: configure_optimizers("adamw", module), {}, "takes the LightningModule first"),
        (
            named("adamw"),
            {"callbacks": [EvaluateAveraged()]},
            "EvaluateAveraged finds .*: AdamW keeps none",
        ),
        (
            named("adamw", ema_decay=0.9),
            {
                "callbacks": [EvaluateAveraged(), lightning.pytorch.callbacks.ModelCheckpoint(save_weights_only=True)],
                "enable_checkpointing": True,
            },
            "with save_weights_only=True Lightning asks no callback",
        ),
        (named("adamw", shedule=COSINE), {}, "'shedule'; did you mean 'schedule'"),
        (
            lambda module: torch.optim.SGD(module.parameters()),
            {"callbacks": [EvaluateAveraged()]},
            "EvaluateAveraged finds no averaged weights: SGD keeps none",
        ),
    ],
)
def test_bad_input_is_refused_before_training(
    tmp_path: Path, make: Callable[[Any], Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        fitted(tmp_path, Module(make), **changes)


def test_flat_parameters_are_refused_by_a_matrix_rule(tmp_path: Path) -> None:
    module = Module(named("muon"))
    module.net.net[0].weight._fsdp_flattened = True
    with pytest.raises(ValueError, match="Muon needs whole matrices, and FullyShardedDataParallel has flattened"):
        fitted(tmp_path, module)


def test_a_failed_validation_gives_the_trained_weights_back(tmp_path: Path) -> None:
    class Failing(Module):
        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            raise KeyError("broken")

    module = Failing(named("adamw", lr=0.05, ema_decay=0.9))
    with pytest.raises(KeyError, match="broken"):
        fitted(tmp_path, module, validation=loader(), num_sanity_val_steps=0, callbacks=[EvaluateAveraged()])
    model = Net()
    assert same(values(module), one_epoch(steepest.AdamW(groups_by_hand(model), lr=0.05, ema_decay=0.9), model))


def one_epoch(optimizer: Any, model: Net) -> list[Tensor]:
    for batch in loader():
        optimizer.zero_grad()
        model(**batch)["loss"].backward()
        optimizer.step()
    return values(model)


def test_a_checkpoint_without_trained_weights_is_not_resumed_from(tmp_path: Path) -> None:
    make = named("adamw", lr=0.05, ema_decay=0.9)
    _, trainer = fitted(tmp_path, Module(make), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(ValueError, match="saved without EvaluateAveraged"):
        fitted(tmp_path, Module(make), tmp_path / "plain.ckpt", callbacks=[EvaluateAveraged()])


def test_the_examples_run() -> None:
    assert doctest.testmod(steepest.lightning).failed == 0
