"""The Trainer of Lightning: its optimizer, rates, losses and evaluations are the run's."""

from typing import Any

from torch import Tensor

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:  # the same trainer by its older name
    from pytorch_lightning import Callback

from steepest.study.errors import UsageError
from steepest.study.trainers.loop import CalledLoop, check_precision
from steepest.study.trials.keeping import Keep
from steepest.study.trials.run import Run


def attach(run: Run, trainer: Any, module: Any, keep: Keep | None) -> None:
    """Let a trainer train a module with the run's optimizer, and report to the run."""
    _check(run, trainer, module)
    optimizer = run.optimizer(module)
    module.configure_optimizers = lambda: optimizer
    reports = _Reports(run, trainer, module, keep)
    trainer.callbacks.append(reports)
    trainer.fit = reports.fit
    trainer.test = reports.test
    trainer.fit_loop.epoch_loop.val_loop.run = reports.validate


def _check(run: Run, trainer: Any, module: Any) -> None:
    """Raise UsageError for a trainer or a module that the run cannot lead."""
    if not hasattr(trainer, "fit_loop"):
        raise UsageError(f"run.lightning_trainer takes a lightning Trainer, not a {type(trainer).__name__}")
    if not getattr(module, "automatic_optimization", True):
        raise UsageError(
            "the module optimizes by hand (automatic_optimization = False); write its loop as an experiment's own"
        )
    if trainer.max_steps != -1:
        raise UsageError("the run counts whole epochs: give Trainer(max_epochs=3) and no max_steps")
    own = "bf16" if trainer.precision == "bf16-mixed" else "fp32"
    check_precision(run, own, "Trainer(precision='bf16-mixed' if run.precision == 'bf16' else '32-true')")
    if trainer.strategy.root_device.type != run.device.type:
        raise UsageError(
            f"the Trainer trains on {trainer.strategy.root_device}, and the run on {run.device}; for the CPU give "
            "Trainer(accelerator='cpu')"
        )


class _Reports(Callback):  # type: ignore[misc]
    """Callbacks of the trainer, and some of its methods, which report to the run."""

    def __init__(self, run: Run, trainer: Any, module: Any, keep: Keep | None) -> None:
        self._run = run
        self._trainer = trainer
        self._module = module
        self._keep = {"module": module, **(keep or {})}
        self._loop = CalledLoop(run)
        self._losses: list[Tensor] = []
        self._examples = 0
        self._steps = 0
        self._fit, self._test, self._validate = trainer.fit, trainer.test, trainer.fit_loop.epoch_loop.val_loop.run

    def fit(self, *given: Any, **options: Any) -> None:
        """Train from where the run is, to its end."""
        self._fit(*given, **options)
        self._loop.end()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the run's loop, and move the trainer to its place."""
        if pl_module is not self._module:
            raise UsageError("the Trainer fits another module than the one that run.lightning_trainer was given")
        steps = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
        done = self._loop.begin(trainer.max_epochs, steps, self._keep)
        assert self._run.loop is not None
        trainer.fit_loop.max_epochs = self._run.loop.horizon
        progress = trainer.fit_loop.epoch_progress
        for counts in (progress.total, progress.current):
            counts.ready = counts.started = counts.processed = counts.completed = done
        self._steps = trainer.global_step

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Move on to the epoch."""
        self._loop.epoch_begins()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock, unless the batch is a further part of a step."""
        if not self._losses:
            self._run.clock.start()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report the step if one was taken. After the last one the trainer evaluates and stops."""
        self._losses.append(outputs["loss"])  # divided by the number of accumulated batches
        self._examples += _examples(batch)
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        losses, self._losses = self._losses, []
        examples, self._examples = self._examples, 0
        self._run.step(sum(losses[1:], losses[0]), examples=examples)
        if self._run.at_end:
            trainer.should_stop = True

    def validate(self) -> Any:
        """Validate as the run does, and report it; the trainer's check before training is not reported."""
        with self._run.evaluating():
            result = self._validate()
        if not self._trainer.sanity_checking:
            self._run.validate(**self._figures())
        return result

    def test(self, *given: Any, **options: Any) -> Any:
        """Test as the run evaluates."""
        with self._run.evaluating("test"):
            return self._test(*given, **options)

    def _figures(self) -> dict[str, float]:
        """Return the metric that the module has logged, and the loss if it has."""
        metric, logged = self._run.metric.name, self._trainer.callback_metrics
        found = {name: float(logged[f"val_{name}"]) for name in (metric, "loss") if f"val_{name}" in logged}
        if metric not in found:
            raise UsageError(
                f"the module's validation did not log the study's metric; log it in validation_step as "
                f"self.log('val_{metric}', ...). It logged: {', '.join(logged) or 'nothing'}"
            )
        return found


def _examples(batch: Any) -> int:
    """Return the length of the first tensor of a batch."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 0
    parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, list | tuple) else ()
    return next((count for count in map(_examples, parts) if count), 0)
