"""The forward pass on a batch of any structure: a model's arguments, its targets, and the loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from steepest.study.data import batches
from steepest.study.data.batches import Batch
from steepest.study.declaration import Loss
from steepest.study.errors import UsageError


@dataclass(frozen=True)
class Given:
    """A batch as a model takes it, and its targets, as loss and metric take them."""

    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    targets: Any

    def outputs(self, model: nn.Module) -> Any:
        """Return the model's outputs."""
        return model(*self.arguments, **self.named)


def given(batch: Batch, loss: Loss | None) -> Given:
    """Divide a batch into arguments and targets.

    Raises:
        UsageError: it is not a dict, a tuple or a list, or it lacks an entry besides the targets.
    """
    if isinstance(batch, Mapping):
        return Given((), batch, batch)
    if not isinstance(batch, tuple | list) or not batch:
        raise UsageError(
            f"a batch must be a dict, which the model gets by name, or a tuple or list of its arguments and the "
            f"targets; this one is {batches.described(batch)}"
        )
    if loss is None:
        return Given(tuple(batch), {}, batch[-1])
    if len(batch) == 1:
        raise UsageError(
            f"a batch of one entry, {batches.described(batch[0])}, has no targets for the loss; let the data yield "
            "(inputs, targets), or declare no loss and let the model return it"
        )
    return Given(tuple(batch[:-1]), {}, batch[-1])


def in_floats(outputs: Any) -> Any:
    """Return outputs that are one tensor in float32, whatever precision the forward pass had."""
    return outputs.float() if isinstance(outputs, Tensor) else outputs


def loss_of(loss: Loss | None, outputs: Any, targets: Any) -> Tensor:
    """Return the mean loss: the declared one of (outputs, targets), or without one that which the model returned.

    Raises:
        UsageError: the model returned none.
    """
    if loss is not None:
        return loss(outputs, targets)
    found = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", outputs)
    if not isinstance(found, Tensor) or found.numel() != 1:
        raise UsageError(
            "the workload declares no loss, so the model must return it: a scalar tensor, or an output with .loss or "
            f"['loss']; it returned {batches.described(outputs)}. Declare loss=..., or give the model its labels"
        )
    return found.float()
