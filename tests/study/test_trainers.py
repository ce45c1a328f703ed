"""Trainers of other packages report what a loop of one's own does, and refuse what contradicts the run."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader

from steepest.study.declaration import Experiment, Metric
from steepest.study.errors import UsageError
from steepest.study.trials.run import Run
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import ExperimentTask
from steepest.study.trials.trial import Event

from .support import events_of, trial_of_experiment

pytestmark = pytest.mark.filterwarnings("ignore")  # these packages warn of much that is none of our business

Examples = list[dict[str, Tensor]]
EPOCHS = 3
LOSS = Metric("loss", "minimize")


def examples(seed: int, count: int = 32) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 3, generator=generator)
    return [{"x": x, "labels": x.sum() + 1} for x in inputs]


class Net(nn.Module):
    """A model as transformers has them: it returns its loss and its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        outputs = self.net(x).squeeze(1)
        return {"loss": mse_loss(outputs, labels), "outputs": outputs}


def by_hand(run: Run) -> None:
    """Train in a loop of one's own, two batches to a step, in the order of the examples."""
    model = Net()
    optimizer = run.optimizer(model)
    batches = list(DataLoader(examples(0), batch_size=4))
    for _ in run.epochs(EPOCHS, steps=4, keep={"model": model}):
        for first, second in zip(batches[::2], batches[1::2], strict=True):
            losses = [model(**batch)["loss"] / 2 for batch in (first, second)]
            optimizer.zero_grad()
            for loss in losses:
                loss.backward()
            optimizer.step()
            run.step(losses[0].detach() + losses[1].detach(), examples=8)
        with run.evaluating(), torch.no_grad():
            reached = model(**next(iter(DataLoader(examples(1), batch_size=32))))["loss"]
        run.validate(loss=reached)
    with run.evaluating("test"), torch.no_grad():
        reached = model(**next(iter(DataLoader(examples(2), batch_size=32))))["loss"]
    run.test(loss=reached)


def hugging_face(folder: Path, **changes: Any) -> Callable[[Run], None]:
    """Return a training function with a Trainer of transformers; `changes` are of its arguments, or its own."""
    transformers = pytest.importorskip("transformers")
    of_trainer = {name: changes.pop(name) for name in ("optimizers", "callbacks") if name in changes}
    usual = {
        "output_dir": str(folder),
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 32,
        "gradient_accumulation_steps": 2,
        "train_sampling_strategy": "sequential",
        "max_grad_norm": 0.0,
        "eval_strategy": "epoch",
        "report_to": "none",
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }

    def train(run: Run) -> None:
        arguments = transformers.TrainingArguments(**{**usual, **changes})
        trainer = transformers.Trainer(
            Net(), arguments, train_dataset=examples(0), eval_dataset=examples(1), **of_trainer
        )
        run.hugging_face_trainer(trainer)
        trainer.train()
        run.test(loss=trainer.evaluate(examples(2), metric_key_prefix="test")["test_loss"])

    return train


def lightning(
    folder: Path, *, by_hand: bool = False, logged: str = "val_loss", **changes: Any
) -> Callable[[Run], None]:
    """Return a training function with a Trainer of Lightning; `changes` are of its arguments."""
    package = pytest.importorskip("lightning")
    usual = {
        "max_epochs": EPOCHS,
        "accumulate_grad_batches": 2,
        "accelerator": "cpu",
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }

    class Module(package.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.automatic_optimization = not by_hand

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=100.0)  # the run's takes its place

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            return self.net(**batch)["loss"]

        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            self.log(logged, self.net(**batch)["loss"], batch_size=32)

        def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            self.log("test_loss", self.net(**batch)["loss"], batch_size=32)

    def train(run: Run) -> None:
        module, trainer = Module(), package.Trainer(**{**usual, **changes})
        loaders = [DataLoader(examples(seed), batch_size=size) for seed, size in ((0, 4), (1, 32), (2, 32))]
        run.lightning_trainer(trainer, module)
        trainer.fit(module, *loaders[:2])
        (figures,) = trainer.test(module, loaders[2], verbose=False)
        run.test(loss=figures["test_loss"])

    return train


TRAINERS = {"hugging_face": hugging_face, "lightning": lightning}
every_trainer = pytest.mark.parametrize("trainer", TRAINERS.values(), ids=list(TRAINERS))


def trial(optimizer: str = "adam[lr=0.01]", schedule: str = "constant", epochs: int | None = None) -> TrialSpec:
    return trial_of_experiment(optimizer, schedule, epochs=epochs)


def run(function: Callable[[Run], None], spec: TrialSpec | None = None) -> list[Event]:
    return events_of(spec or trial(), ExperimentTask(Experiment(function=function, metric=LOSS)))


def records(events: list[Event]) -> Iterator[dict[str, Any]]:
    """Yield records, with figures to six digits: means over accumulated batches are rounded in another order."""
    for event in events:
        yield {name: pytest.approx(x, rel=1e-5) if isinstance(x, float) else x for name, x in event.record.items()}


@every_trainer
@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        ("adam[lr=0.01]", "cosine"),
        ("torch.optim:SGD[lr=0.01,momentum=0.9]", "linear"),
        ("adam[ema_decay=0.9]", "constant"),
    ],
)
def test_a_trainer_trains_as_the_loop_by_hand(trainer: Any, optimizer: str, schedule: str, tmp_path: Path) -> None:
    spec = trial(optimizer, schedule)
    assert list(records(run(trainer(tmp_path), spec))) == [event.record for event in run(by_hand, spec)]


@every_trainer
def test_the_study_may_give_the_number_of_epochs(trainer: Any, tmp_path: Path) -> None:
    spec = trial(schedule="cosine", epochs=2)
    assert list(records(run(trainer(tmp_path), spec))) == [event.record for event in run(by_hand, spec)]


@every_trainer
def test_a_trainer_may_evaluate_within_epochs(trainer: Any, tmp_path: Path) -> None:
    changes = {
        hugging_face: {"eval_strategy": "steps", "eval_steps": 2},
        lightning: {"val_check_interval": 0.5},
    }
    events = run(trainer(tmp_path, **changes[trainer]))
    assert [event.record["step"] for event in events if event.record["kind"] == "epoch"] == [2, 4, 6, 8, 10, 12]
    assert events[-1].record["status"] == "finished"


@every_trainer
def test_a_diverged_trial_ends_at_its_step(trainer: Any, tmp_path: Path) -> None:
    end = run(trainer(tmp_path), trial("sgd[lr=1e30]"))[-1].record
    assert (end["status"], end["step"]) == ("diverged", 2)


@every_trainer
def test_seconds_and_examples_are_counted(trainer: Any, tmp_path: Path) -> None:
    end = run(trainer(tmp_path))[-1]
    assert end.timing is not None
    assert end.timing["examples"] == 32 * EPOCHS
    assert 0 < end.timing["train_seconds"] < end.timing["total_seconds"]


def refused(function: Callable[[Run], None], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        run(function)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"learning_rate": 0.1, "lr_scheduler_type": "cosine"},
            "sets learning_rate, lr_scheduler_type, which the study",
        ),
        ({"max_steps": 10}, "the run counts whole epochs: give TrainingArguments(num_train_epochs=3) and no max_steps"),
        ({"num_train_epochs": 1.5}, "the run counts whole epochs"),
        (
            {"bf16": True},
            "the Trainer computes in bf16, and the study in fp32: give TrainingArguments(bf16=run.precision",
        ),
        ({"data_seed": 7}, "sets data_seed=7, with which all seeds of a study see one order of the data; leave it out"),
        ({"eval_strategy": "no"}, "the Trainer never evaluates: give TrainingArguments(eval_strategy='epoch')"),
    ],
)
def test_arguments_of_transformers_that_contradict_the_run(changes: Any, told: str, tmp_path: Path) -> None:
    refused(hugging_face(tmp_path, **changes), told)


def test_a_trainer_of_transformers_with_an_optimizer_of_its_own(tmp_path: Path) -> None:
    own = torch.optim.SGD(Net().parameters(), lr=0.1)
    refused(hugging_face(tmp_path, optimizers=(own, None)), "the Trainer was given optimizers=; the run gives it its")


def test_a_trainer_of_transformers_that_stops_early(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")

    class Impatient(transformers.TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = True

    refused(hugging_face(tmp_path, callbacks=[Impatient()]), "the trainer stopped after 1 of 3 epochs; a run trains to")


def test_an_evaluation_of_transformers_without_the_metric(tmp_path: Path) -> None:
    experiment = Experiment(function=hugging_face(tmp_path), metric=Metric("f1", "maximize"))
    with pytest.raises(
        UsageError, match=r"lacks the study's metric 'f1'; it gave eval_loss, .* Let compute_metrics return"
    ):
        events_of(trial(), ExperimentTask(experiment))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"max_steps": 10}, "the run counts whole epochs: give Trainer(max_epochs=3) and no max_steps"),
        ({"precision": "bf16-mixed"}, "the Trainer computes in bf16, and the study in fp32: give Trainer(precision="),
        ({"by_hand": True}, "the module optimizes by hand (automatic_optimization = False)"),
        ({"logged": "val_los"}, "log it in validation_step as self.log('val_loss', ...). It logged: val_los"),
    ],
)
def test_trainers_of_lightning_that_contradict_the_run(changes: Any, told: str, tmp_path: Path) -> None:
    refused(lightning(tmp_path, **changes), told)


def test_a_trainer_of_lightning_that_stops_early(tmp_path: Path) -> None:
    package = pytest.importorskip("lightning")

    class Impatient(package.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.should_stop = True

    refused(
        lightning(tmp_path, callbacks=[Impatient()]), "the trainer stopped after 1 of 3 epochs; a run trains to its"
    )


def test_another_module_than_the_runs_is_refused(tmp_path: Path) -> None:
    package = pytest.importorskip("lightning")
    fit = package.Trainer.fit

    def another(self: Any, module: Any, *given: Any, **options: Any) -> None:
        fit(self, type(module)(), *given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package.Trainer, "fit", another)
        refused(
            lightning(tmp_path), "the Trainer fits another module than the one that run.lightning_trainer was given"
        )


def test_anything_else_is_no_trainer() -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("lightning")
    refused(lambda one: one.hugging_face_trainer(Net()), "takes a transformers.Trainer, not a Net")
    refused(lambda one: one.lightning_trainer(Net(), Net()), "takes a lightning Trainer, not a Net")


@pytest.mark.parametrize(
    ("name", "missing", "command"),
    [
        ("hugging_face", ("transformers",), "pip install transformers accelerate"),
        ("lightning", ("lightning.pytorch", "lightning", "pytorch_lightning"), "pip install lightning"),
    ],
)
def test_a_missing_package_is_named(
    name: str, missing: tuple[str, ...], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"steepest.study.trainers.{name}", raising=False)
    given = (None,) if name == "hugging_face" else (None, None)
    refused(lambda one: getattr(one, f"{name}_trainer")(*given), f"which is not installed: {command}")
