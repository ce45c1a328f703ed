"""A Trainer of Lightning as an experiment: noisy spirals.

    pip install lightning
    steepest study examples/experiment_lightning.py -o adamw -o lion --trials 8 --seeds 10

The run's optimizer takes the place of the module's `configure_optimizers`.
"""

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from steepest import study

EPOCHS = {"smoke": 4, "quick": 20, "full": 100}
POINTS = {"smoke": 100, "quick": 1_000, "full": 5_000}


def spirals(count: int, seed: int) -> TensorDataset:
    """Return points on two noisy spirals."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.arange(count) % 2
    turns = torch.rand(count, generator=generator)
    angle = torch.pi * (2 * turns + side)
    points = torch.stack([turns * angle.cos(), turns * angle.sin()], dim=1)
    return TensorDataset(points + 0.03 * torch.randn(points.shape, generator=generator), side)


class Classifier(lightning.LightningModule):
    """A network with two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, 32), nn.Tanh(), nn.Dropout(0.05), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2)
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        x, y = batch
        return cross_entropy(self.net(x), y)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log accuracy and loss."""
        self._log_figures(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log accuracy and loss."""
        self._log_figures(batch, "test")

    def _log_figures(self, batch: tuple[Tensor, Tensor], which: str) -> None:
        x, y = batch
        outputs = self.net(x)
        self.log(f"{which}_accuracy", (outputs.argmax(dim=1) == y).float().mean(), batch_size=len(y))
        self.log(f"{which}_loss", cross_entropy(outputs, y), batch_size=len(y))


@study.experiment(metric=study.Metric("accuracy", "maximize"), target=(0.7, 0.9), margin=0.01)
def two_spirals(run: study.Run) -> None:
    """Two spirals, by Lightning."""
    train, validation, test = (DataLoader(spirals(POINTS[run.preset], seed), batch_size=20) for seed in range(3))
    train = DataLoader(train.dataset, batch_size=20, shuffle=True)
    module = Classifier()
    trainer = lightning.Trainer(
        max_epochs=EPOCHS[run.preset],
        accelerator=run.device.type,
        precision="bf16-mixed" if run.precision == "bf16" else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    run.lightning_trainer(trainer, module)
    trainer.fit(module, train, validation)
    (figures,) = trainer.test(module, test, verbose=False)
    run.test(accuracy=figures["test_accuracy"], loss=figures["test_loss"])
