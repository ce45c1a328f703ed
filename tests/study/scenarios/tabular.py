"""A table with numbers and categories, with gaps in it."""

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from steepest import study


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.categories = nn.Embedding(5, 3)
        self.body = nn.Sequential(nn.Linear(11, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        gaps = numbers.isnan()
        columns = [numbers.nan_to_num(), gaps.float(), self.categories(categories)]
        return self.body(torch.cat(columns, dim=1)).squeeze(1)


def table(seed: int, rows: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(rows, 4, generator=generator)
    categories = torch.randint(0, 5, (rows,), generator=generator)
    wanted = numbers.sum(dim=1) + categories
    numbers[torch.rand(numbers.shape, generator=generator) < 0.1] = torch.nan
    return TensorDataset(numbers, categories, wanted)


def error(model: nn.Module, part: TensorDataset) -> dict[str, float]:
    model.eval()
    numbers, categories, wanted = part[:]
    with torch.no_grad():
        errors = model(numbers, categories) - wanted
    model.train()
    return {"absolute_error": errors.abs().mean().item(), "loss": errors.square().mean().item()}


@study.experiment(metric=study.Metric("absolute_error", "minimize"), target=(2.0, 1.5), margin=0.05)
def prices(run: study.Run) -> None:
    """A table."""
    loader = DataLoader(table(0, 100), batch_size=20, shuffle=True, generator=run.generator("order"))
    model = Net()
    optimizer = run.optimizer(model)
    for _ in run.epochs(4, keep={"model": model, "loader": loader}):
        for numbers, categories, wanted in loader:
            loss = mse_loss(model(numbers, categories), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss, examples=len(wanted))
        with run.evaluating():
            figures = error(model, table(1, 50))
        run.validate(**figures)
    with run.evaluating("test"):
        figures = error(model, table(2, 50))
    run.test(**figures)
