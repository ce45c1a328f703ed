"""Images that processes of the DataLoader shift, mirror and spoil, with draws from three generators."""

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from steepest import study


class Images(Dataset[tuple[Tensor, int]]):
    """Bright spots in one of four corners."""

    def __init__(self, seed: int, count: int, *, augmented: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.corners = torch.randint(0, 4, (count,), generator=generator)
        self.images = 0.5 * torch.randn(count, 1, 8, 8, generator=generator)
        for image, corner in zip(self.images, self.corners.tolist(), strict=True):
            image[0, 1 + 4 * (corner // 2), 1 + 4 * (corner % 2)] += 3
        self.augmented = augmented

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, corner = self.images[index], int(self.corners[index])
        if not self.augmented:
            return image, corner
        image = image.roll((random.randint(0, 1), int(np.random.randint(2))), dims=(1, 2))
        return image + 0.1 * torch.randn_like(image), corner


def accuracy(model: nn.Module, part: Images) -> float:
    model.eval()
    with torch.no_grad():
        found = torch.cat([(model(x).argmax(dim=1) == y).float() for x, y in DataLoader(part, batch_size=20)])
    model.train()
    return found.mean().item()


@study.experiment(metric=study.Metric("accuracy", "maximize"), target=0.5, margin=0.02)
def corners(run: study.Run) -> None:
    """Augmented images."""
    loader = DataLoader(Images(0, 60, augmented=True), batch_size=20, shuffle=True, num_workers=2)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    optimizer = run.optimizer(model)
    for _ in run.epochs(3, keep={"model": model, "loader": loader}):
        for x, y in loader:
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss, examples=len(y))
        with run.evaluating():
            reached = accuracy(model, Images(1, 40))
        run.validate(accuracy=reached)
    with run.evaluating("test"):
        reached = accuracy(model, Images(2, 40))
    run.test(accuracy=reached)
