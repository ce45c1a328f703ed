"""Reinforcement learning: no data set, and the figures are returns of episodes.

    steepest study examples/experiment_reinforcement.py -o adam -o rmsprop --trials 8 --seeds 10

A walker in a corridor sees its place. A step to either side costs 0.02, the right end gives 1, and one step in ten goes
astray. A policy learns by REINFORCE, from episodes that its own actions make.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from steepest import study

CELLS = 7
LONGEST = 20
STEPS = {"smoke": 24, "quick": 200, "full": 1_000}


class Corridors:
    """Many corridors at once. All draws are from torch's global generator."""

    def __init__(self, count: int) -> None:
        self.places = torch.full((count,), CELLS // 2)
        self.over = torch.zeros(count, dtype=torch.bool)

    @property
    def seen(self) -> Tensor:
        """What the walkers see, one row each."""
        return nn.functional.one_hot(self.places, CELLS).float()

    def act(self, actions: Tensor) -> Tensor:
        """Go left (0) or right (1), and return the rewards; none after the end."""
        astray = torch.rand(len(actions)) < 0.1
        ways = 2 * (actions ^ astray.long()) - 1
        playing = ~self.over
        self.places = torch.where(playing, (self.places + ways).clamp(0, CELLS - 1), self.places)
        self.over = self.over | (self.places == CELLS - 1)
        return playing * ((self.places == CELLS - 1).float() - 0.02)


def episodes(policy: nn.Module, count: int) -> tuple[Tensor, Tensor]:
    """Return the returns of episodes, and the logarithm of the probability of the actions in each."""
    corridors = Corridors(count)
    returns, logarithms = torch.zeros(count), torch.zeros(count)
    for _ in range(LONGEST):
        choice = Categorical(logits=policy(corridors.seen))
        actions = choice.sample()
        logarithms = logarithms + choice.log_prob(actions) * ~corridors.over
        returns = returns + corridors.act(actions)
    return returns, logarithms


@study.experiment(metric=study.Metric("mean_return", "maximize"), target=(0.6, 0.75, 0.85), margin=0.02)
def corridor(run: study.Run) -> None:
    """A walker in a corridor, by REINFORCE."""
    policy = nn.Sequential(nn.Linear(CELLS, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = run.optimizer(policy)

    def mean_return(which: str) -> float:
        with run.evaluating(which), torch.no_grad():  # episodes of their own, the same luck for every optimizer
            return episodes(policy, 200)[0].mean().item()

    for _ in run.steps(STEPS[run.preset], keep={"policy": policy}):
        returns, logarithms = episodes(policy, 16)
        loss = -((returns - returns.mean()) * logarithms).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.step(loss, mean_return=returns.mean().item())
        if run.every(8):
            run.validate(mean_return=mean_return("validation"))
    run.test(mean_return=mean_return("test"))
