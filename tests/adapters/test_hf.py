"""The Trainer of transformers, and accelerate, with optimizers by name: equal to a loop by hand, resumed to the bit."""

from __future__ import annotations

import doctest
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import steepest

from .small import Net, examples, rates, same, values

transformers = pytest.importorskip("transformers")
accelerate = pytest.importorskip("accelerate")

import steepest.hf

pytestmark = pytest.mark.filterwarnings("ignore")  # these packages warn of much that is none of our business
STEPS = 24


def arguments(folder: Path, **changes: Any) -> Any:
    usual = {
        "output_dir": str(folder),
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "save_strategy": "steps",
        "save_steps": 10,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "train_sampling_strategy": "sequential",
        "max_grad_norm": 0.0,
    }
    return transformers.TrainingArguments(**{**usual, **changes})


def trained(args: Any, resume: str | None = None, **given: Any) -> Any:
    """Return a Trainer that has trained; its optimizer, by name, is made by `given`'s function of the model."""
    model = Net()
    given = {name: make(model) for name, make in given.items()}
    trainer = transformers.Trainer(model, args, train_dataset=examples(), eval_dataset=examples(), **given)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_the_trainer_and_a_loop_by_hand_agree(tmp_path: Path) -> None:
    def make(model: Any) -> Any:
        schedule = steepest.schedules.WarmupCosine
        return steepest.hf.trainer_optimizer(
            "muon", model, lr=0.02, weight_decay=0.1, adamw_weight_decay=0.2, schedule=schedule, total_steps=STEPS
        )

    theirs = trained(arguments(tmp_path), optimizers=make).model
    model = Net()
    net = model.net
    optimizer = steepest.Muon(
        [
            {"params": [net[0].weight], "use_muon": True},
            {"params": [net[3].weight], "use_muon": False, "weight_decay": 0.2},
            {"params": [net[0].bias, *net[1].parameters(), net[3].bias], "use_muon": False, "weight_decay": 0.0},
        ],
        lr=0.02,
        weight_decay=0.1,
    )
    scheduler = steepest.schedules.WarmupCosine(optimizer, STEPS)
    for _ in range(3):
        for batch in DataLoader(examples(), batch_size=4):
            optimizer.zero_grad()
            model(**batch)["loss"].backward()
            optimizer.step()
            scheduler.step()
    assert same(values(theirs), values(model))


def test_with_training_arguments_it_is_the_trainers_own_adamw(tmp_path: Path) -> None:
    """Rate, decay, groups and schedule are those that the Trainer gives torch's AdamW."""
    args = arguments(tmp_path, learning_rate=0.01, weight_decay=0.3, warmup_steps=4, lr_scheduler_type="cosine")
    own = trained(args).model
    ours = trained(args, optimizers=lambda model: steepest.hf.trainer_optimizer("adamw", model, args)).model
    by_class = trained(args, optimizer_cls_and_kwargs=lambda model: steepest.hf.optimizer_cls_and_kwargs("adamw", args))
    assert type(by_class.optimizer.optimizer) is steepest.AdamW
    for a, b, c in zip(values(own), values(ours), values(by_class.model), strict=True):
        torch.testing.assert_close(a, b)
        assert torch.equal(b, c)
    assert not same(values(own), values(Net()))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adamw", {"ema_decay": 0.9, "state_dtype": "bfloat16"}),
        ("muon", {"adamw_lr": 0.01}),
        ("adamwschedulefree", {}),
        ("prodigy", {}),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    def make(model: Any) -> Any:
        return steepest.hf.trainer_optimizer(name, model, lr=0.05, weight_decay=0.1, **options)

    args = arguments(tmp_path, eval_strategy="steps", eval_steps=5)
    whole = trained(args, optimizers=make)
    resumed = trained(args, str(tmp_path / "checkpoint-10"), optimizers=make)
    assert same(values(whole.model), values(resumed.model))
    saved = [trainer.optimizer.state_dict()["state"] for trainer in (whole, resumed)]
    torch.testing.assert_close(*saved, rtol=0, atol=0)


def test_schedule_free_keeps_its_rate_and_evaluates_its_average(tmp_path: Path) -> None:
    made: list[Any] = []

    def make(model: Any) -> Any:
        made.append(steepest.hf.trainer_optimizer("sgdschedulefree", model, lr=0.05))
        return made[-1]

    trainer = trained(arguments(tmp_path), optimizers=make)
    optimizer = made[0][0]
    assert rates(optimizer) == [0.05] * len(optimizer.param_groups)  # the Trainer's usual schedule would end at 0
    trained_weights = values(trainer.model)
    trainer.evaluate()
    assert not same(trained_weights, values(trainer.model))
    with optimizer.averaged():
        evaluated = values(trainer.model)
    assert same(evaluated, values(trainer.model))
    optimizer.train()
    assert same(trained_weights, values(trainer.model))


# -- accelerate --------------------------------------------------------------------------------------------------------


@pytest.fixture
def _anew() -> Iterator[None]:
    """Forget the precision that an Accelerator sets for the process, before and after a test."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def accelerated(folder: Path, resume: bool, **options: Any) -> list[torch.Tensor]:
    """Train with accumulation and bf16; save after four steps, or resume there."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2, **options)
    model = Net()
    optimizer = steepest.create("adamw", model, lr=0.05, max_norm=1.0)
    scheduler = steepest.schedules.WarmupCosine(optimizer, 8)
    parts = accelerator.prepare(model, optimizer, DataLoader(examples(64), batch_size=4), scheduler)
    model, optimizer, loader, scheduler = parts
    if resume:
        accelerator.load_state(str(folder))
    for step, batch in enumerate(itertools.islice(loader, 8 if resume else 0, None)):
        if step == 8 and not resume:
            accelerator.save_state(str(folder))
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch)["loss"])
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return values(accelerator.unwrap_model(model))


@pytest.mark.usefixtures("_anew")
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate_accumulates_saves_and_resumes(tmp_path: Path, precision: str) -> None:
    whole = accelerated(tmp_path, False, mixed_precision=precision)
    assert same(whole, accelerated(tmp_path, True, mixed_precision=precision))
    model = Net()
    optimizer = steepest.create("adamw", model, lr=0.05, max_norm=1.0)
    scheduler = steepest.schedules.WarmupCosine(optimizer, 8)
    batches = list(DataLoader(examples(64), batch_size=4))
    for pair in zip(batches[::2], batches[1::2], strict=True):
        for batch in pair:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = model(**batch)["loss"]
            (loss / 2).backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    assert same(whole, values(model))


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lbfgs", {}, "'lbfgs' is not for the Trainer of transformers, .* needs a closure"),
        ("steepestdescent", {}, "'steepestdescent' is not for the Trainer .* needs a closure"),
        ("sam", {"base": "adamw", "lr": 0.1}, "'sam' is not for the Trainer .* closure, for a second gradient"),
        ("mechanic", {"base": "momo"}, "'mechanic' is not for .* depends on the loss"),
        ("outer", {"base": "sam"}, "'outer' is not for the Trainer .* closure, for a second gradient"),
        ("momo", {}, "'momo' is not for the Trainer .* its step size depends on the loss"),
        ("sophia", {}, "'sophia' is not for the Trainer .*update_hessian"),
        ("admw", {}, "unknown optimizer 'admw'; did you mean 'adamw'"),
        ("adamw", {"weight_decy": 0.1}, "unexpected keyword argument 'weight_decy'; did you mean 'weight_decay'"),
        ("adamw", {"shedule": None}, "unexpected keyword argument 'shedule'; did you mean 'schedule'"),
        ("adamw", {"totl_steps": 1}, "unexpected keyword argument 'totl_steps'; did you mean 'total_steps'"),
        ("adamw", {"lr": -1.0}, "Invalid learning rate"),
        ("adamw", {"lr": "fast"}, "lr must be"),
        (3, {}, "the optimizer is given by its name, such as 'adamw', not 3"),
        ("adamw", {"total_steps": 8}, "total_steps=8 is for schedule"),
        ("adamw", {"schedule": "cosine", "total_steps": 8}, "schedule takes a class of steepest.schedules.*'cosine'"),
        ("adamw", {"schedule": steepest.schedules.WarmupCosine}, "a schedule needs total_steps.*None"),
        ("adamw", {"schedule": lambda optimizer, steps: None, "total_steps": 8}, "which is no scheduler"),
        ("dog", {"schedule": steepest.schedules.WarmupCosine, "total_steps": 8}, "DoG finds its step sizes itself"),
        ("adamw", {"args": {"learning_rate": 1}}, "args must be transformers.TrainingArguments, not a dict"),
    ],
)
def test_bad_input_is_refused_at_construction(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        steepest.hf.trainer_optimizer(name, Net(), **options)
    if not options.keys() & {"schedule", "total_steps"}:
        with pytest.raises((ValueError, TypeError), match=message):
            steepest.hf.optimizer_cls_and_kwargs(name, **options)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"learning_rate": 0.1}, {"lr": 0.1}, "TrainingArguments sets learning_rate, and lr is given here"),
        ({"adam_beta1": 0.8}, {}, "TrainingArguments sets adam_beta1, which the Trainer hands only to optimizers of"),
        ({"max_grad_norm": 1.0}, {"max_norm": 1.0}, "max_norm=1.0 clips gradients that max_grad_norm=1.0 has clipped"),
    ],
)
def test_training_arguments_do_not_contradict(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    args = arguments(tmp_path, **changes)
    for make in (
        steepest.hf.optimizer_cls_and_kwargs,
        lambda *a, **k: steepest.hf.trainer_optimizer(a[0], Net(), *a[1:], **k),
    ):
        with pytest.raises(ValueError, match=message):
            make("adamw", args, **options)


def test_flat_parameters_are_refused_by_a_matrix_rule() -> None:
    model = Net()
    model.net[0].weight._fsdp_flattened = True
    factory, options = steepest.hf.optimizer_cls_and_kwargs("muon", lr=0.02)
    with pytest.raises(ValueError, match="Muon needs whole matrices, and FullyShardedDataParallel has flattened"):
        factory()(model, **options)


def test_flat_parameters_have_no_groups_without_decay() -> None:
    model = Net()
    model.net[0].weight._is_flat_param = True
    with pytest.raises(ValueError, match=r"weight_decay=0\.1 would decay biases and norms too"):
        steepest.hf.trainer_optimizer("adamw", model, weight_decay=0.1)
    steepest.hf.trainer_optimizer("adamw", model, weight_decay=0.0)
    steepest.hf.trainer_optimizer("adamw", model.parameters(), weight_decay=0.1)


def test_the_examples_run() -> None:
    assert doctest.testmod(steepest.hf).failed == 0
