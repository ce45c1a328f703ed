"""The Trainer of Hugging Face's transformers: its optimizer, rates, losses and evaluations are the run's."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerState

from steepest.adapting import changed
from steepest.study.errors import UsageError
from steepest.study.trainers.loop import CalledLoop, check_precision
from steepest.study.trials.keeping import Keep
from steepest.study.trials.run import Run

STATE_FILE: Final = "trainer_state.json"
WEIGHTS_FILE: Final = "pytorch_model.bin"
SET_BY_THE_RUN: Final = (
    *("optim", "optim_args", "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_ratio", "warmup_steps"),
)
"""Arguments of a trainer that the study decides."""


def attach(run: Run, trainer: Any, keep: Keep | None) -> None:
    """Let a trainer train with the run's optimizer, and report to the run."""
    if not isinstance(trainer, Trainer):
        raise UsageError(f"run.hugging_face_trainer takes a transformers.Trainer, not a {type(trainer).__name__}")
    _check(run, trainer)
    optimizer = run.optimizer(trainer.model)
    trainer.optimizer = trainer.accelerator.prepare(optimizer)
    trainer.lr_scheduler = _Rates(optimizer)
    trainer.args.save_strategy = "no"  # the run has checkpoints of its own
    for shows in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(shows)
    reports = _Reports(run, trainer, {"model": trainer.model, **(keep or {})})
    trainer.add_callback(reports)
    for name in ("train", "training_step", "evaluate", "predict"):
        setattr(trainer, name, getattr(reports, name))


def _check(run: Run, trainer: Any) -> None:
    """Raise UsageError for a trainer with settings that contradict the run's."""
    args = trainer.args
    if trainer.optimizer is not None or trainer.lr_scheduler is not None or trainer.optimizer_cls_and_kwargs:
        raise UsageError(
            "the Trainer was given optimizers=; the run gives it its optimizer and schedule, so leave it out"
        )
    if given := changed(args, SET_BY_THE_RUN):
        raise UsageError(f"TrainingArguments sets {', '.join(given)}, which the study decides; leave it out")
    if args.data_seed is not None:
        raise UsageError(
            f"TrainingArguments sets data_seed={args.data_seed}, with which all seeds of a study see one order of the "
            "data; leave it out, and the order is the run's"
        )
    if trainer.model_init is not None:
        raise UsageError("the Trainer was given model_init=; give it a model, so that its weights are drawn by the run")
    if args.max_steps > 0 or args.num_train_epochs != int(args.num_train_epochs):
        raise UsageError("the run counts whole epochs: give TrainingArguments(num_train_epochs=3) and no max_steps")
    if _strategy(args) == "no":
        raise UsageError("the Trainer never evaluates: give TrainingArguments(eval_strategy='epoch') and eval_dataset=")
    if args.load_best_model_at_end:
        raise UsageError("a study reports the weights after the last step; leave out load_best_model_at_end")
    check_precision(run, "bf16" if args.bf16 else "fp32", "TrainingArguments(bf16=run.precision == 'bf16')")
    if args.device.type != run.device.type:
        raise UsageError(
            f"the Trainer trains on {args.device}, and the run on {run.device}; for the CPU give "
            "TrainingArguments(use_cpu=True)"
        )


def _strategy(args: Any) -> str:
    """Return the name of the strategy of evaluations, which is a text or a member of an enumeration."""
    return str(getattr(args.eval_strategy, "value", args.eval_strategy))


class _Rates:
    """A schedule for the trainer that leaves the rates to the run."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def step(self, *_: Any) -> None:
        """Do nothing: the run has set the rates."""

    def get_last_lr(self) -> list[float]:
        """Return the rates of the groups."""
        return [group["lr"] for group in self._optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


class _Reports(TrainerCallback):  # type: ignore[misc]
    """Callbacks of the trainer, and some of its methods, which report to the run."""

    def __init__(self, run: Run, trainer: Any, keep: Keep) -> None:
        self._run = run
        self._trainer = trainer
        self._keep = keep
        self._loop = CalledLoop(run)
        self._losses: list[Tensor] = []
        self._examples = 0
        self._draws = run.stream.position
        self._its = {name: getattr(trainer, name) for name in ("train", "training_step", "evaluate", "predict")}

    def train(self, **options: Any) -> Any:
        """Train from where the run is, to its end."""
        args, loader = self._trainer.args, self._trainer.get_train_dataloader()
        steps = -(-len(loader) // args.gradient_accumulation_steps)
        done = self._loop.begin(int(args.num_train_epochs), steps, self._keep)
        assert self._run.loop is not None
        args.num_train_epochs = self._run.loop.horizon
        self._draws = self._run.stream.position
        with self._at(done * steps) as place:
            result = self._its["train"](**{**options, "resume_from_checkpoint": place})
        self._loop.end()
        return result

    @contextmanager
    def _at(self, steps: int) -> Iterator[str | None]:
        """Write the position as the trainer reads it, with the model, in a temporary folder; None for the beginning."""
        if not steps:
            yield None
            return
        with tempfile.TemporaryDirectory() as folder:
            torch.save(self._trainer.model.state_dict(), Path(folder) / WEIGHTS_FILE)
            state = TrainerState(global_step=steps, train_batch_size=self._trainer.args.train_batch_size)
            state.compute_steps(self._trainer.args, self._run.loop.steps if self._run.loop else None)
            state.save_to_json(str(Path(folder) / STATE_FILE))
            yield folder

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Continue the run's stream: the trainer's preparations drew from it."""
        self._run.stream.position = self._draws

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Move on to the epoch."""
        self._loop.epoch_begins()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock: the batches have been loaded."""
        self._run.clock.start()

    def training_step(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        """Note the loss and the number of examples of a part of a step."""
        loss = self._its["training_step"](model, inputs, *rest, **options)
        self._losses.append(loss)
        self._examples += next(
            (len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim()), 0
        )
        return loss

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the step. After the last one the trainer evaluates and stops."""
        losses, self._losses = self._losses, []
        examples, self._examples = self._examples, 0
        self._run.step(sum(losses[1:], losses[0]), examples=examples)
        if self._run.at_end:
            control.should_training_stop = True
            control.should_evaluate = control.should_evaluate or _strategy(args) == "steps"

    def evaluate(self, *given: Any, metric_key_prefix: str = "eval", **options: Any) -> Any:
        """Evaluate as the run does; report it if the trainer is training."""
        which = "validation" if metric_key_prefix == "eval" else metric_key_prefix
        with self._run.evaluating(which):
            figures = self._its["evaluate"](*given, metric_key_prefix=metric_key_prefix, **options)
        if which == "validation" and self._trainer.is_in_train:
            self._run.validate(**self._figures(figures))
        return figures

    def predict(self, *given: Any, metric_key_prefix: str = "test", **options: Any) -> Any:
        """Predict as the run evaluates."""
        with self._run.evaluating(metric_key_prefix):
            return self._its["predict"](*given, metric_key_prefix=metric_key_prefix, **options)

    def _figures(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return the metric of an evaluation, and its loss if it has one."""
        metric = self._run.metric.name
        found = {name: figures[f"eval_{name}"] for name in (metric, "loss") if f"eval_{name}" in figures}
        if metric not in found:
            raise UsageError(
                f"the Trainer's evaluation lacks the study's metric {metric!r}; it gave {', '.join(figures)}. Let "
                f"compute_metrics return {{{metric!r}: ...}}"
            )
        return found
