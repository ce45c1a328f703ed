"""Optimizers by name for Lightning, and their averaged weights in validation and checkpoints.

Example:
    >>> import lightning
    >>> class Classifier(lightning.LightningModule):
    ...     def configure_optimizers(self):
    ...         return configure_optimizers(self, "adamw", lr=1e-3, weight_decay=0.1, ema_decay=0.999)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import ParamsT

from .adapting import Schedule, build, check, refuse_two_clippings, scheduled

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError("steepest.lightning needs Lightning; install it: pip install 'steepest[lightning]'") from error

TRAINED = "steepest_trained_weights"
"""Key in a checkpoint of the model's state with the weights that are trained; ``state_dict`` has the averaged ones."""


def configure_optimizers(
    module: LightningModule,
    name: str,
    params: nn.Module | ParamsT | None = None,
    *,
    schedule: Schedule | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return what a module's ``configure_optimizers`` returns: an optimizer, and its schedule, stepped at every step.

    Lightning calls that method where the module has been placed and sharded, and where the number of steps is known.

    Args:
        module: the module, fitted by a Trainer.
        name: the optimizer's name, an alias or a wrapper, as for `steepest.create`.
        params: a part of the module, such as a generator; or parameters or groups as in torch, which are taken as they
            are. None is the whole module. Biases, norms and embeddings of a module do not decay.
        schedule: a class of `steepest.schedules`, or a function of (optimizer, total_steps). With manual optimization
            the module steps it.
        options: options of the class.

    Raises:
        UnknownNameError: the optimizer does not exist; the message has the close match.
        TypeError: an option that does not exist, or a value of another type.
        ValueError: a value out of bounds, clipping by the optimizer and by the Trainer, a schedule where training has
            no end, or gradients accumulated for a step that needs a closure or the loss.
        RuntimeError: the module has no Trainer.
    """
    if not hasattr(type(module), "trainer"):  # pytorch_lightning has another class
        raise TypeError(f"configure_optimizers takes the LightningModule first, then a name; not {module!r}")
    trainer = module.trainer
    refuse_two_clippings(options, "gradient_clip_val", trainer.gradient_clip_val)
    _refuse_accumulation(name, options, trainer)
    optimizer = build(name, module if params is None else params, options)
    if schedule is None:
        return {"optimizer": optimizer}
    scheduler = scheduled(optimizer, schedule, _steps(trainer))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _steps(trainer: Trainer) -> int:
    """Return the number of steps of the whole training.

    Raises:
        ValueError: training has no end.
    """
    steps = trainer.estimated_stepping_batches
    if not 0 < steps < float("inf"):
        raise ValueError("a schedule needs an end of training; give the Trainer max_epochs or max_steps")
    return int(steps)


def _refuse_accumulation(name: str, options: Mapping[str, Any], trainer: Trainer) -> None:
    """Raise `ValueError` where the Trainer's closure would evaluate the last of several accumulated batches only."""
    if (why := check(name, options, ("params", "schedule")).demand) and trainer.accumulate_grad_batches > 1:
        raise ValueError(
            f"{name!r} does not go with accumulate_grad_batches={trainer.accumulate_grad_batches}: "
            f"{why}, and Lightning's closure has that of the last batch only; give larger batches instead"
        )


class EvaluateAveraged(Callback):  # type: ignore[misc]
    """Callback that evaluates and saves averaged weights: of ``ema_decay``, ``lookahead`` or a Schedule-Free rule.

    In validation, test and prediction by a Trainer that has fitted, the module has the averaged weights; the trained
    ones come back afterwards. A checkpoint has the averaged weights as its ``state_dict``, for
    ``load_from_checkpoint``, and the trained ones for `Trainer.fit`, which resumes from them. See
    `steepest.Optimizer.averaged`.

    Of several optimizers, those that keep averages give them.

    Raises:
        RuntimeError: at the start of `Trainer.fit`, if none of the optimizers keeps an average.
        ValueError: there too, if a `ModelCheckpoint` saves only weights, for which Lightning asks no callback.
    """

    def __init__(self) -> None:
        self._blocks = ExitStack()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise an error if the optimizers have only the weights that they train."""
        if not _averaging(trainer):
            names = ", ".join(type(optimizer).__name__ for optimizer in trainer.optimizers)
            raise RuntimeError(
                f"EvaluateAveraged finds no averaged weights: {names} keeps none; give an optimizer of steepest "
                "ema_decay=0.999, or leave the callback out"
            )
        if any(getattr(callback, "save_weights_only", False) for callback in trainer.checkpoint_callbacks):
            raise ValueError(
                "with save_weights_only=True Lightning asks no callback, and saves the trained weights in place of the "
                "averaged ones; leave it out"
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the averaged weights into the module."""
        self._blocks.enter_context(_averaged(trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        self._blocks.close()

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the trained weights back, if an evaluation has raised."""
        self._blocks.close()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the averaged weights as the module's, and the trained ones under a key of their own."""
        trained = checkpoint["state_dict"]
        with _averaged(trainer):
            averaged = trainer.strategy.lightning_module_state_dict()
            checkpoint["state_dict"] = {key: _copied(value) for key, value in averaged.items()}
        checkpoint[TRAINED] = trained

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Mapping[str, Any]) -> None:
        """Resume training from the trained weights; an evaluation keeps the averaged ones.

        Raises:
            ValueError: a checkpoint without trained weights, which was saved without this callback.
        """
        if trainer.state.fn != "fit":
            return
        if TRAINED not in checkpoint:
            raise ValueError("the checkpoint was saved without EvaluateAveraged; resume without it, or start anew")
        pl_module.load_state_dict(checkpoint[TRAINED])


def _averaging(trainer: Trainer) -> list[Any]:
    """Return the optimizers that keep averages."""
    return [optimizer for optimizer in trainer.optimizers if getattr(optimizer, "keeps_averages", False)]


@contextmanager
def _averaged(trainer: Trainer) -> Iterator[None]:
    """Use the averaged weights of all optimizers inside the block."""
    with ExitStack() as blocks:
        for optimizer in _averaging(trainer):
            blocks.enter_context(optimizer.averaged())
        yield


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


__all__ = ["EvaluateAveraged", "configure_optimizers"]
