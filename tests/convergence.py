"""Short training on the built-in workloads: how many steps a class needs to a workload's first target, by its rate."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

import steepest
from cases import FED, LAZY, defaults
from steepest import Optimizer
from steepest.study import seeds, workloads
from steepest.study.data import adapt, fashion_mnist
from steepest.study.data.dataset import Splits
from steepest.study.data.splits import split
from steepest.study.declaration import Workload
from steepest.study.trials.performance import threads

SEED = 0
RATES = 5
"""Learning rates that a class is tried with."""


@dataclass(frozen=True)
class Work:
    """A workload at a preset, for a number of steps.

    Attributes:
        name: the workload's name.
        steps: steps after which a rate has failed.
        every: steps between two looks at the validation examples.
        preset: size and targets.
        examples: validation examples that are looked at; the first ones.
    """

    name: str
    steps: int
    every: int
    preset: str = "quick"
    examples: int = 5_000

    @cached_property
    def workload(self) -> Workload:
        return workloads.find(self.name)(self.preset)

    @cached_property
    def model(self) -> nn.Module:
        """A model whose parameters classes are asked about; none is trained."""
        return self.workload.model()

    @cached_property
    def splits(self) -> Splits:
        data = adapt.load(self.workload.data)
        assert self.workload.sizes is not None
        return split(data, self.workload.sizes)

    @property
    def target(self) -> float:
        return self.workload.targets[0]

    def reached(self, metric: float) -> bool:
        sign = self.workload.metric.sign
        return sign * metric >= sign * self.target

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches for all steps, in an order that is the same for every class and rate."""
        order = seeds.generator("order", SEED)
        epochs = math.ceil(self.steps * self.workload.batch_size / len(self.splits.train))
        drawn = (torch.randperm(len(self.splits.train), generator=order) for _ in range(epochs))
        batches = itertools.chain.from_iterable(indices.split(self.workload.batch_size) for indices in drawn)
        return map(self.splits.train.batch, itertools.islice(batches, self.steps))

    def sets(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The whole training set for every step, of which there are as many as looks."""
        return itertools.repeat(self.splits.train.batch(slice(None)), self.steps // self.every)

    @torch.no_grad()
    def measure(self, model: nn.Module) -> float:
        """The metric on the validation examples, as the workload's studies evaluate it."""
        inputs, targets = self.splits.validation.batch(slice(0, self.examples))
        model.eval()
        outputs = model(inputs)
        model.train()
        loss = float(self.workload.loss(outputs, targets))
        return self.workload.metric.total(outputs, targets, loss, len(targets)) / len(targets)


SMALL = (
    Work("digits-mlp", steps=360, every=6),
    Work("matrix-factorisation", steps=1_600, every=40, preset="smoke"),
)
"""Every class is tried with every rate."""

LARGE = (
    Work("fashion-mnist", steps=48, every=4, examples=400)
    if fashion_mnist.find()
    else Work("digits", steps=180, every=6),  # its network is small, and its data are always there
    Work("char-transformer", steps=192, every=8, examples=64),
)
"""Every class is tried on one of them, until a rate is found."""


def large(cls: type[Optimizer]) -> Work:
    """The larger workload of a class. A checksum chooses, so that a new class moves no other."""
    return LARGE[zlib.crc32(cls.__name__.encode()) % len(LARGE)]


def rates(cls: type[Optimizer]) -> list[float]:
    """The middles of equal parts of the declared range, on its logarithmic scale; the default of a rate without one."""
    search = cls.fields["lr"].search
    if search is None:
        return [cls.fields["lr"].default]
    assert search.scale == "log"
    return [search.low * (search.high / search.low) ** ((place + 0.5) / RATES) for place in range(RATES)]


@dataclass(frozen=True)
class Run:
    """A training: the rate, the best metric that was seen, and the steps to the target; None if it was not reached."""

    lr: float
    metric: float
    steps: int | None


@dataclass(frozen=True)
class Change:
    """What a class needs to reach a target that it does not reach with its defaults on batches.

    Attributes:
        reason: why it needs it.
        options: options to change; ``lr`` then stands for every rate.
        in_sets: whether every step sees the whole training set.
        is_tested: whether the tests hold the class to needing it; not where that takes an hour.
    """

    reason: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    in_sets: bool = False
    is_tested: bool = True


NO_CHANGE = Change()

GROWTH = (("growth_rate", 1.1),)
"""The bound that D-Adaptation needs where its estimate overshoots."""

FAR = "its first distance is 2e-5 and hardly grows here, and the target is 27 from the start"
"""The reason of the classes that start from a millionth of the weights' norm."""

CHANGES = {
    ("adabound", "matrix-factorisation"): Change(
        "its rates end at `final_lr`, a rate of SGD, and SGD needs more than 0.3 here", (("final_lr", 5.0),)
    ),
    ("adadelta", "matrix-factorisation"): Change(
        "its steps start near lr√ε and grow with their own average: at lr 5 it takes 2,640 steps", (("eps", 1e-4),)
    ),
    ("cocob", "matrix-factorisation"): Change(
        "its bets stay small for about α steps: with 100 it is 2 from the start after 480 steps, and the target is 28",
        (("alpha", 10.0),),
    ),
    ("dadaptadam", "digits-mlp"): Change(
        "its estimate grows up to sevenfold in a step, while Adam's averages still start, and never falls", GROWTH
    ),
    ("dadaptadam", "char-transformer"): Change("the same happens as on the digits", GROWTH),
    ("dadaptsgd", "digits-mlp"): Change(
        "its estimate overshoots: it ends at 0.8, over a first gradient of 0.36, and SGD diverges at such rates",
        (("d0", 0.1), ("growth_rate", 1.02), ("momentum", 0.9)),
    ),
    ("dadaptsgd", "matrix-factorisation"): Change(
        "it is 5e-4 from the start after 480 steps, and the target is more than 16 away",
        (("d0", 0.1),),
    ),
    ("dog", "matrix-factorisation"): Change(FAR, (("reps_rel", 0.1),)),
    ("dowg", "digits-mlp"): Change(
        "its distance grows by half in a step and is beyond the target's, 7, after 30 steps, from where it does not "
        "return",
        (("lr", 0.5),),
    ),
    ("dowg", "matrix-factorisation"): Change(
        "its distance passes the target's, where gradients grow faster than their sum, and it diverges",
        (("max_norm", 0.1),),
    ),
    ("ldog", "matrix-factorisation"): Change(FAR, (("reps_rel", 0.1),)),
    ("ldog", "fashion-mnist"): Change(
        "its first distance is a millionth of each tensor's norm, and 48 steps are few", (("reps_rel", 0.01),)
    ),
    ("rprop", "matrix-factorisation"): Change(
        "the signs of successive gradients speak of one function only if every step sees all examples", in_sets=True
    ),
    ("shampoo", "matrix-factorisation"): Change(
        "a root of 1000 x 1000 in every step takes hours, and with 50 steps between roots its own steps do not arrive "
        "at rates of 0.0017 to 0.018",
        (("precondition_frequency", 50), ("graft", "adam")),
        is_tested=False,
    ),
}
"""Classes that do not reach a target as the others do. The tests hold both to it: without the change, and with it."""


def refusal(cls: type[Optimizer], work: Work) -> str:
    """Why a class cannot train on a workload; empty if it can."""
    model = work.model
    if work in LARGE and cls.needs_closure(defaults(cls)):
        return "a step has several passes over the training set, which take minutes here"
    if cls in LAZY.values() and not any(getattr(module, "sparse", False) for module in model.modules()):
        return "takes sparse gradients alone"
    if not any(_is_taken(cls, p) for p in model.parameters()):
        return "takes none of the parameters"
    return ""


@cache
def runs(cls: type[Optimizer], work: Work, change: Change = NO_CHANGE) -> tuple[Run, ...]:
    """A training for each of the rates; on a larger workload until one reaches the target."""
    if work in SMALL:
        return tuple(train(cls, work, lr, change) for lr in rates(cls))
    made: list[Run] = []
    for lr in promising(cls):
        made.append(train(cls, work, lr, change))
        if made[-1].steps:
            break
    return tuple(made)


def promising(cls: type[Optimizer]) -> list[float]:
    """The rates, from the best on the digits to the worst: those that reached the target first."""
    return [run.lr for run in sorted(runs(cls, SMALL[0]), key=lambda run: (run.steps or math.inf, -run.metric))]


def train(cls: type[Optimizer], work: Work, lr: float, change: Change = NO_CHANGE) -> Run:
    """Train until the target is reached, the loss is not finite, or the steps are over."""
    sign = work.workload.metric.sign
    best = -math.inf
    with seeds.GlobalStream("init", SEED).active(), threads(1):
        training = Training(cls, work, lr, dict(change.options))
        in_sets = change.in_sets or training.needs_closure
        batches, every = (work.sets(), 1) if in_sets else (work.batches(), work.every)
        for step, batch in enumerate(batches, 1):
            if not math.isfinite(training.advance(*batch)):
                break
            if step % every == 0:
                metric = training.measure(work)
                best = max(best, sign * metric)
                if work.reached(metric):
                    return Run(lr, metric, step)
    return Run(lr, sign * best, None)


class Training:
    """A model and a class that trains it; AdamW has what the class does not take."""

    def __init__(self, cls: type[Optimizer], work: Work, lr: float, options: dict[str, Any]) -> None:
        self.loss = work.workload.loss
        self.model = work.workload.model()
        if cls.rule_for(defaults(cls)).sparse is None:
            for module in self.model.modules():
                if isinstance(module, nn.Embedding):
                    module.sparse = False
        params = list(self.model.parameters())
        taken = [p for p in params if _is_taken(cls, p)]
        rest = [p for p in params if not _is_taken(cls, p)]
        self.optimizer: Any = cls(taken, **{"lr": lr, **options})
        self.others = [steepest.AdamW(rest)] if rest else []
        self.is_fed = cls in FED.values()
        self.needs_closure = cls.needs_closure(self.optimizer.param_groups[0])
        self.steps = 0

    def advance(self, inputs: Tensor, targets: Tensor) -> float:
        """Take one step, and return the loss before it."""
        closure = self._closure(inputs, targets)
        if self.is_fed and self.steps % self.optimizer.param_groups[0]["hessian_interval"] == 0:
            self._feed(inputs, targets)
        self.steps += 1
        if self.needs_closure:
            loss = self.optimizer.step(closure)
        else:
            loss = closure()
            self.optimizer.step(loss=loss)
        for other in self.others:
            other.step()
        return loss.item()

    def measure(self, work: Work) -> float:
        """The metric of the weights that the class evaluates."""
        with self.optimizer.averaged() if self.optimizer.evaluates_others else nullcontext():
            return work.measure(self.model)

    def _closure(self, inputs: Tensor, targets: Tensor) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            self.model.zero_grad()
            loss = self.loss(self.model(inputs), targets)
            loss.backward()
            return loss

        return closure

    def _feed(self, inputs: Tensor, targets: Tensor) -> None:
        """Estimator G: labels drawn from the model's own output, whose loss's gradient is squared."""
        self.model.zero_grad()
        outputs = self.model(inputs)
        self.loss(outputs, _drawn(outputs.detach(), targets)).backward()
        self.optimizer.param_groups[0]["batch_size"] = float(targets.numel())
        self.optimizer.update_hessian()


def _drawn(outputs: Tensor, targets: Tensor) -> Tensor:
    """Labels from the distribution whose negative log-likelihood the loss is: of classes, or normal of variance 1/2."""
    if targets.is_floating_point():
        return outputs + torch.randn_like(outputs) * math.sqrt(0.5)
    return torch.distributions.Categorical(logits=outputs).sample()


def _is_taken(cls: type[Optimizer], p: Any) -> bool:
    try:
        cls([p])
    except ValueError:
        return False
    return True


def works(cls: type[Optimizer]) -> list[Work]:
    """The workloads that a class is tried on."""
    return [work for work in (*SMALL, large(cls)) if not refusal(cls, work)]
