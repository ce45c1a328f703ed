"""Real trainings as paths: snapshots of the weights in the plane in which they vary most, and the loss around them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path as File
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from steepest.landscapes.declaration import Surface
from steepest.landscapes.paths import Walk
from steepest.landscapes.plane import plane_of
from steepest.landscapes.rates import Choice
from steepest.landscapes.traced import Traced
from steepest.landscapes.tracing import check_counts, path_of, window_of
from steepest.study import seeds, workloads
from steepest.study.data.batches import Batch, count
from steepest.study.declaration import Workload
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.planning.request import Request
from steepest.study.planning.subject import subject_of
from steepest.study.records.format import SEARCH
from steepest.study.running.preparation import data_of
from steepest.study.trials import forward
from steepest.study.trials.performance import perform
from steepest.study.trials.run import Ended, Run, Watcher
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import Task, initial_model

SNAPSHOTS: Final = 60
"""Points of a path, besides its start."""
EXAMPLES: Final = 256
"""Training examples, the first ones, on which the drawn loss is computed; of a loader its first batch."""
POINTS: Final = 41
"""Points along each side of the drawn grid."""


def trace_training(
    workload: str,
    optimizers: str | Iterable[str] = (),
    *,
    preset: str = "quick",
    epochs: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    snapshots: int = SNAPSHOTS,
    data_dir: File | None = None,
) -> Traced:
    """Train a workload of studies with each optimizer, and return the paths of the weights.

    All begin with the same weights and see the same batches, for equally many steps, each with its declared or given
    rate. The path is that of the weights to be evaluated, after equal counts of steps. It is drawn in the plane through
    the lowest snapshot in the two directions in which the snapshots of all optimizers together vary most (Li et al.
    2018, arXiv:1712.09913, section 7). The values, on the path and around it, are the loss on the first `EXAMPLES`
    training examples, with layers in evaluation mode, except that batch normalisation uses the statistics of these
    examples: a point of the plane has no running ones. It is one training with one seed: a picture, not a study.

    Args:
        workload: a name, or a file of yours: `my_task.py`.
        optimizers: names, perhaps with options; none are the workload's own.
        preset: the size of the workload: `smoke`, `quick` or `full`.
        epochs, steps: the length in the workload's unit, instead of the preset's.
        seed: the seed of the weights and of the order.
        snapshots: points of every path, besides its start.
        data_dir: the folder of the data files.

    Raises:
        UsageError: as a study would; or the workload is a training loop of yours, whose loss nobody else can compute;
            or training changes other buffers of its model, which no point of the plane has.
    """
    check_counts(snapshots=snapshots)
    named = (optimizers,) if isinstance(optimizers, str) else tuple(optimizers)
    declared = workloads.find(workload)
    request = Request.of_one_run(declared, preset, named, epochs=epochs, steps=steps)
    if not isinstance(request.workload, Workload):
        raise UsageError(f"{workload} is a training loop of yours, whose loss cannot be drawn; give a workload")
    subject = subject_of(request, data_of(request, data_dir))
    assert isinstance(subject.task, Task)
    assert subject.steps is not None
    skipped = tuple((label, report.skipped) for label, report in subject.reports.items() if report.skipped)
    configs = [config for config in request.configs if not subject.reports[config.label].skipped]
    every = math.ceil(subject.steps / snapshots)
    recorded = [_Snapshots.of(subject.task, _spec(subject.pattern, config, seed), every) for config in configs]
    if not recorded:
        raise UsageError("; ".join(f"{label}: {reason}" for label, reason in skipped))
    return _traced(subject.task, request.workload.title, configs, recorded, skipped, seed)


def _spec(pattern: TrialSpec, config: OptimizerConfig, seed: int) -> TrialSpec:
    return replace(pattern, config=config, seed=seed, phase=SEARCH)  # a search never reads the test set


def _traced(
    task: Task,
    title: str,
    configs: Sequence[OptimizerConfig],
    recorded: Sequence["_Snapshots"],
    skipped: tuple[tuple[str, str], ...],
    seed: int,
) -> Traced:
    surface = _surface(task, title, recorded[0], seed)
    walks = [each.walk(surface) for each in recorded]
    plane = plane_of(surface, walks)
    choices = [Choice(config.rate, "given") for config in configs]
    paths = tuple(
        path_of(plane, config, choice, 0, walked)
        for config, choice, walked in zip(configs, choices, walks, strict=True)
    )
    budget = max(int(walked.evaluations[-1]) for walked in walks)
    window = window_of(surface, plane, None, paths, surface.starts)
    return Traced(surface, paths, skipped, surface.starts, budget, plane, window)


def _surface(task: Task, title: str, first: "_Snapshots", seed: int) -> Surface:
    """Return the loss on a fixed part of the training set, as a function of the parameters."""
    with closing(task.splits.train.chunks(EXAMPLES)) as chunks:
        batch = next(chunks)
    with seeds.GlobalStream("init", seed).active():
        model = initial_model(task)
    model.eval()
    for module in model.modules():
        for name in _running(module):
            module.register_buffer(name, None)
    names = {name: param.dtype for name, param in model.named_parameters()}
    return Surface(
        value=partial(_loss, task, model, names, batch),
        formula="",
        source="Li et al. 2018, Visualizing the loss landscape of neural nets, arXiv:1712.09913",
        starts=(tuple(first.positions[0].tolist()),),
        shapes=tuple(tuple(param.shape) for param in model.parameters()),
        is_elementwise=False,
        points=POINTS,
        note=f"A real training with one seed, rates as declared or given. The loss is that on {count(batch)} training "
        f"examples; paths have a point after every {_steps(first.every)}. It is a picture, not a study.",
        name="training",
        title=f"{title}: the loss around real trainings",
    )


def _steps(count: int) -> str:
    return "step" if count == 1 else f"{count} steps"


def _loss(task: Task, model: nn.Module, names: dict[str, torch.dtype], batch: Batch, *params: Tensor) -> Tensor:
    own = {name: param.to(dtype) for (name, dtype), param in zip(names.items(), params, strict=True)}
    given = forward.given(batch, task.loss)
    outputs = functional_call(model, own, given.arguments, dict(given.named))
    return forward.loss_of(task.loss, forward.in_floats(outputs), given.targets).double()


def _running(module: nn.Module) -> tuple[str, ...]:
    """Return the names of a layer's running statistics; without them it computes those of its batch."""
    is_normalising = isinstance(module, nn.modules.batchnorm._NormBase)
    return ("running_mean", "running_var", "num_batches_tracked") if is_normalising else ()


def _other_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that are not running statistics."""
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in _running(module):
                yield f"{prefix}.{name}".removeprefix("."), buffer


class _Snapshots(Watcher):
    """A watcher that takes the weights after equal counts of steps."""

    measures = False

    def __init__(self, every: int) -> None:
        self.every = every
        self.positions: list[Tensor] = []
        self.evaluations: list[int] = []
        self.buffers: dict[str, Tensor] = {}
        self.ended = ""

    @classmethod
    def of(cls, task: Task, spec: TrialSpec, every: int) -> "_Snapshots":
        """Return the snapshots of a training."""
        made = cls(every)
        perform(task, spec, made)
        return made

    def begun(self, run: Run) -> None:
        """Take the weights before the first step."""
        self.buffers = {name: buffer.clone() for name, buffer in _other_buffers(self._model(run))}
        self._take(run)

    def stepped(self, run: Run, loss: float) -> None:
        """Take the weights, or end the run where they are lost."""
        if not math.isfinite(loss):
            self.ended = f"loss is {loss} at step {run.counts.steps}"
            raise Ended
        if run.counts.steps % self.every == 0:
            self._take(run)

    def looped(self, run: Run) -> None:
        """Take the last weights, and do not look at the test set."""
        if self.evaluations[-1] < run.counts.evaluations:
            self._take(run)
        raise Ended

    def _model(self, run: Run) -> nn.Module:
        (optimizer,) = run.optimizers.values()
        assert isinstance(optimizer.of, nn.Module)
        return optimizer.of

    def _take(self, run: Run) -> None:
        (optimizer,) = run.optimizers.values()
        model = self._model(run)
        changed = [name for name, buffer in _other_buffers(model) if not torch.equal(buffer, self.buffers[name])]
        if changed:
            raise UsageError(
                f"training changes the buffer {changed[0]} of the model, which no point of a plane of its parameters "
                "has, so that the loss cannot be drawn; take a model without it"
            )
        with optimizer.weights_to_measure(), torch.no_grad():
            flat = torch.cat([param.detach().flatten().double() for param in model.parameters()])
        if torch.isfinite(flat).all():
            self.positions.append(flat.cpu())
            self.evaluations.append(run.counts.evaluations)

    def walk(self, surface: Surface) -> Walk:
        """Return the record of the run, with values of the surface."""
        positions: Any = torch.stack(self.positions).numpy()
        with torch.no_grad():
            values = [float(surface.value(*surface.split(position))) for position in self.positions]
        return Walk(
            positions=positions,
            values=np.array(values),
            evaluations=np.array(self.evaluations, dtype=np.int64),
            gradient_norms=np.full(len(positions) - 1, math.nan),
            ended=self.ended,
            is_lost=bool(self.ended),
        )
