"""`steepest lr-range`: the learning-rate range test on a workload."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor

from steepest.cli import console
from steepest.study import seeds, user_files
from steepest.study.data import adapt
from steepest.study.data.dataset import DataSet, Examples
from steepest.study.data.splits import Sizes
from steepest.study.declaration import Declared, Workload
from steepest.study.errors import StudyError, UsageError
from steepest.study.optimizers.config import OptimizerConfig, parse_config
from steepest.study.trials.task import Task, initial_model, task_of
from steepest.sweep import LrRange, bounds, in_words, lr_range


@dataclass(frozen=True)
class Arguments:
    """The arguments of the command."""

    declared: Declared
    optimizers: Sequence[str]
    preset: str
    low: float | None
    high: float | None
    steps: int
    repeats: int
    seed: int
    plot: Path | None
    data_dir: Path | None
    as_json: bool


@dataclass(frozen=True)
class Batches:
    """Training batches of a workload; every pass has an order of its own, from torch's global generator."""

    examples: Examples
    size: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one pass."""
        for places in torch.split(torch.randperm(len(self.examples)), self.size):
            yield self.examples.batch(places)


def run(arguments: Arguments) -> None:
    """Run the range test for every optimizer and print the results; write figures if they are asked for."""
    workload = arguments.declared.workload(arguments.preset)
    configs = [parse_config(text, workload.settings) for text in arguments.optimizers or workload.settings]
    if not configs:
        raise UsageError(f"{arguments.declared.source} has no optimizers of its own; name some: -o adamw -o sgd")
    with console.messages():
        data = adapt.load(workload.data, arguments.data_dir)
    task = task_of(workload, data, _sizes(workload, data))
    results = [_tested(config, task, workload.batch_size, arguments) for config in configs]
    if arguments.plot:
        for config, result in zip(configs, results, strict=True):
            _draw(result, arguments.plot if len(results) == 1 else _beside(arguments.plot, config.slug))
    if arguments.as_json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        _show(results)


def _sizes(workload: Workload, data: DataSet) -> Sizes:
    return Sizes.usual(data) if workload.sizes is None else workload.sizes.fitted(data)


def _tested(config: OptimizerConfig, task: Task, batch_size: int | None, arguments: Arguments) -> LrRange:
    """Return the result for one optimizer, on the model of a study's seed 0."""
    declared = config.origin.ranges.get("lr")
    if "lr" in config.fixed or declared is None or not config.origin.takes_schedule:
        why = "its lr is given" if "lr" in config.fixed else "it finds its step sizes itself"
        raise UsageError(f"{config.label} cannot be tested: {why}; lr-range takes the range as --low and --high")
    if config.has_own_schedule:
        raise UsageError(
            f"{config.label} cannot be tested with a schedule: lr-range moves the rate itself; leave it out"
        )
    with seeds.GlobalStream("init", arguments.seed).active():
        model = initial_model(task)
    train = task.splits.train
    assert isinstance(train, Examples)  # `_sizes` has refused loaders
    if task.loss is None:
        raise UsageError(f"{arguments.declared.source} declares no loss, which lr-range needs; declare loss=...")
    assert batch_size is not None
    batches = Batches(train.drawn(arguments.seed, 0), batch_size)
    try:
        low, high = bounds(config.label, declared, arguments.low, arguments.high)
        optimizer = config.with_options({"lr": low}).build(model)
        counts = {"steps": arguments.steps, "repeats": arguments.repeats, "seed": arguments.seed}
        return lr_range(model, task.loss, batches, optimizer, low=low, high=high, label=config.label, **counts)
    except ValueError as error:
        raise UsageError(f"{config.label}: {error}") from error
    except Exception as error:  # whatever a model, a loss or another library raises
        raise StudyError(f"{config.label} stopped with {user_files.reason(error)}") from error


def _show(results: Sequence[LrRange]) -> None:
    grid = Table(box=None, pad_edge=False, header_style="")
    for heading in ("optimizer", "rate", "from", "to", "factor", "diverges", "tried"):
        grid.add_column(heading, no_wrap=True, justify="left" if heading == "optimizer" else "right")
    for result in results:
        found = result.candidates
        ends = [in_words(rate) for rate in (min(found, default=None), max(found, default=None))]
        factor = f"{result.spread:.2g}" if found else "-"
        diverges = in_words(min((rate for rate in result.diverges if rate is not None), default=None))
        tried = f"{in_words(result.rates[0])} to {in_words(result.rates[-1])}"
        grid.add_row(Text(result.optimizer), in_words(result.recommended), *ends, factor, diverges, tried)
    console.out().print(grid)
    for result in results:
        for remark in result.remarks:
            console.note(f"{result.optimizer}: {remark}")


def _beside(path: Path, name: str) -> Path:
    return path.with_stem(f"{path.stem}-{name}")


def _draw(result: LrRange, path: Path) -> None:
    try:
        result.plot().savefig(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"the figure {path} cannot be written: {error}") from error
