"""Two networks against each other, each with an optimizer of its own: points on a ring.

    steepest study examples/experiment_gan.py -o adam[betas=(0.5,0.999)] -o rmsprop --trials 8 --seeds 10

Both optimizers of a run are the one that is studied, with the same options. `name=` tells them apart.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from steepest import study

STEPS = {"smoke": 30, "quick": 2_000, "full": 10_000}
BATCH = 64


def network(outputs: int) -> nn.Module:
    """Return a network of two numbers."""
    return nn.Sequential(
        nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, outputs)
    )


def ring(count: int) -> Tensor:
    """Return points near the circle of radius 1, drawn from torch's global generator."""
    angle = 2 * torch.pi * torch.rand(count)
    return torch.stack([angle.cos(), angle.sin()], dim=1) + 0.05 * torch.randn(count, 2)


def energy_distance(left: Tensor, right: Tensor) -> float:
    """Return the distance of two samples: 0 in the mean if one distribution gave both."""
    between, *within = (torch.cdist(a, b).mean() for a, b in ((left, right), (left, left), (right, right)))
    return (2 * between - sum(within)).item()


@study.experiment(metric=study.Metric("energy_distance", "minimize"), target=(0.5, 0.3, 0.2), margin=0.01)
def points(run: study.Run) -> None:
    """A generator of points on a ring, and a discriminator."""
    generator, discriminator = network(2), network(1)
    creates = run.optimizer(generator, name="generator")
    judges = run.optimizer(discriminator, name="discriminator")

    def distance(which: str) -> float:
        with run.evaluating(which), torch.no_grad():  # its draws are the same for every optimizer
            return energy_distance(generator(torch.randn(500, 2)), ring(500))

    for _ in run.steps(STEPS[run.preset], keep={"generator": generator, "discriminator": discriminator}):
        real, made = ring(BATCH), generator(torch.randn(BATCH, 2))
        judged = softplus(-discriminator(real)).mean() + softplus(discriminator(made.detach())).mean()
        judges.zero_grad()
        judged.backward()
        judges.step()
        loss = softplus(-discriminator(made)).mean()
        creates.zero_grad()
        loss.backward()
        creates.step()
        run.step(loss, examples=BATCH, discriminator=judged.item())
        if run.every(10):
            run.validate(energy_distance=distance("validation"))
    run.test(energy_distance=distance("test"))
