"""`Run`: the handle by which a training function takes part in a study.

A run makes optimizers, counts, times and reports. A `Watcher` decides the use of its reports: the record of a trial, a
rehearsal, a timing pass, or the twin that proves a checkpoint.
"""

import importlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from steepest.study import seeds
from steepest.study.declaration import Metric
from steepest.study.errors import UsageError
from steepest.study.optimizers.schedules import CONSTANT, factor
from steepest.study.trials import devices, keeping, precision
from steepest.study.trials.behaviour import Behaviour
from steepest.study.trials.clock import Clock
from steepest.study.trials.keeping import Keep
from steepest.study.trials.optimizers import StudiedOptimizer
from steepest.study.trials.spec import TrialSpec

EPOCHS: Final = "epochs"
STEPS: Final = "steps"
INSTALL: Final = {
    "hugging_face": "pip install transformers accelerate",
    "lightning": "pip install lightning",
}
"""Commands that install the packages of trainers."""

State = dict[str, Any]
T = TypeVar("T")


class Ended(BaseException):
    """The run is over. It passes through a training function, also through its `except Exception`."""


class Watcher:
    """The receiver of a run's reports. Every method may raise `Ended`.

    `measures` is False where evaluations would be thrown away. `observes` is True where samples of the optimizers'
    behaviour are kept. `shortens` is True where epochs may end early.
    `last_step` is the step after which the loop ends early, if it does.
    """

    measures = True
    observes = False
    shortens = False
    last_step: int | None = None

    def begun(self, run: "Run") -> State | None:
        """Handle the begin of the loop. Return the state to resume from, None to begin at the beginning."""

    def stepped(self, run: "Run", loss: float) -> None:
        """Handle a step."""

    def moved(self, run: "Run", sample: Mapping[str, Any]) -> None:
        """Handle a sample of how the optimizers moved in the last step."""

    def marked(self, run: "Run") -> bool:
        """Handle the moment between two passes of the loop, when the run's state is whole. Return True to end it."""
        return False

    def measuring(self, run: "Run") -> None:
        """Handle the moment before an evaluation."""

    def validated(self, run: "Run", figures: Mapping[str, float]) -> None:
        """Handle an evaluation."""

    def looped(self, run: "Run") -> None:
        """Handle the end of the loop."""

    def tested(self, run: "Run", figures: Mapping[str, float]) -> None:
        """Handle the figures of the test set."""

    def logged(self, run: "Run", figures: Mapping[str, float]) -> None:
        """Handle figures that no verdict uses."""


@dataclass
class Counts:
    """Counters of a run: whole epochs, steps since the last one, all steps, gradients and examples."""

    epoch: int = 0
    in_epoch: int = 0
    steps: int = 0
    evaluations: int = 0
    examples: int = 0


@dataclass(frozen=True)
class Loop:
    """The loop of a run: its unit, its length in this unit, the steps of an epoch if they are known, and what it keeps.

    `keep` is None for a loop that cannot resume.
    """

    unit: str
    horizon: int
    per_epoch: int | None
    keep: Keep | None

    @property
    def steps(self) -> int | None:
        """Steps of the whole loop, None if the number is not known."""
        if self.unit == STEPS:
            return self.horizon
        return None if self.per_epoch is None else self.horizon * self.per_epoch


@dataclass
class Means:
    """Means over the steps since the last evaluation, weighted by their examples."""

    totals: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float, weight: int) -> None:
        """Add the value of a step."""
        total = self.totals.setdefault(name, [0.0, 0])
        total[0] += value * weight
        total[1] += weight

    def taken(self) -> dict[str, float]:
        """Return the means and begin anew."""
        totals, self.totals = self.totals, {}
        return {name: total / weight for name, (total, weight) in totals.items()}


class Trainable(Protocol):
    """The interface of a task: its metric and its training function.

    `is_ours` is True for a training function whose memory is known to be in what it keeps.
    """

    @property
    def metric(self) -> Metric:
        """The metric that its function reports."""

    @property
    def sha256(self) -> Mapping[str, str]:
        """The digests of its data, where they are known."""

    @property
    def is_ours(self) -> bool:
        """True for the library's own training function."""

    def train(self, run: "Run", spec: TrialSpec) -> None:
        """Train once, and report to the run."""


class Run:
    """One training run of a study, as its training function sees it.

    Attributes:
        seed: the run's seed.
        precision: the number format that the study was asked for: `fp32`, `bf16` or `fp16`.
        preset: the size of the study: `smoke`, `quick` or `full`.
        horizon: the length that was asked for by `--epochs` or `--steps`; None for the function's own.
        optimizers: the optimizers that the function has asked for, by name.
        metric: the study's metric.
        clock: seconds of the steps so far.
        counts: counters of the run.
    """

    def __init__(self, spec: TrialSpec, metric: Metric, watcher: Watcher, place: Path | None = None) -> None:
        self.seed = spec.seed
        self.precision = spec.precision
        self.preset = spec.task.preset
        self.horizon = spec.epochs
        self.optimizers: dict[str, StudiedOptimizer] = {}
        self.clock = Clock()
        self.counts = Counts()
        self.stream = seeds.GlobalStream("init", spec.seed)
        """The stream that the function's code draws from."""
        self.loop: Loop | None = None
        self.over = False
        self.changes: list[str] = []
        """The process's settings that the function has changed, once it has ended."""
        self.metric = metric
        self.asked_for: set[str] = set()
        """The names of those settings of the study that the function has looked at."""
        self._device = torch.device(spec.device)
        self._place = place
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._scaler = precision.scaler(spec.precision, spec.device)
        self._spec = spec
        self._watcher = watcher
        self._noise = seeds.Noise(spec.seed)
        self._generators: dict[str, torch.Generator] = {}
        self._means = Means()
        self._behaviour = Behaviour(self.clock, lambda: self.counts.steps)
        self._looping = self._tested = self._evaluated_inside = self._by_steps = False

    @property
    def device(self) -> torch.device:
        """The device to train on."""
        self.asked_for.add("device")
        return self._device

    @property
    def folder(self) -> Path:
        """A folder for files of this trial, made when it is first asked for: `files/TRIAL` in the study's folder.

        In any other pass, such as the rehearsal, it is a temporary one.
        """
        if self._place is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="steepest-")
            self._place = Path(self._temporary.name)
        self._place.mkdir(parents=True, exist_ok=True)
        return self._place

    @property
    def scaler(self) -> torch.amp.GradScaler:
        """The scaler of the loss for `fp16`. In other formats it changes nothing."""
        self.asked_for.add("scaler")
        return self._scaler

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context for the forward pass in the study's precision: `with run.autocast(): ...`."""
        self.asked_for.add("precision")
        return precision.autocast(self.precision, self._device.type)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all its optimizers."""
        return [group for optimizer in self.optimizers.values() for group in optimizer.made.param_groups]

    @property
    def measures(self) -> bool:
        """False in a pass that only takes steps, such as the timing pass: evaluations would be thrown away."""
        return self._watcher.measures

    @property
    def position(self) -> float:
        """The place in the loop, in its unit: epochs, of which a part may be done, or steps."""
        counts, loop = self.counts, self.loop
        if loop is None or loop.unit == STEPS:
            return counts.steps
        if not counts.in_epoch or loop.per_epoch in (None, counts.in_epoch):
            return counts.epoch + bool(counts.in_epoch)
        return counts.epoch + counts.in_epoch / loop.per_epoch

    @property
    def current(self) -> int:
        """The number of the epoch in progress, from 1, or of the step."""
        return self.counts.steps if self.loop is None or self.loop.unit == STEPS else self.counts.epoch + 1

    def optimizer(self, of: Any, name: str = "optimizer") -> torch.optim.Optimizer:
        """Return the optimizer that this run studies.

        Args:
            of: a model, or its parameter groups.
            name: a name for a second optimizer of the same run, such as that of a GAN's other network.

        Raises:
            UsageError: there is one of this name already, or training has begun.
        """
        self._check_alive()
        if self.loop is not None:
            raise UsageError("run.optimizer is called before the loop begins, so that all of its state can be kept")
        if name in self.optimizers:
            raise UsageError(
                f"run.optimizer was called twice for {name!r}; give another network's optimizer a name of its own: "
                'run.optimizer(net, name="generator")'
            )
        of = of if isinstance(of, nn.Module) else _groups(of)
        with seeds.GlobalStream("optimizer", self.seed, name).active():
            made = self._spec.config.build(of)
        self.optimizers[name] = StudiedOptimizer(made, of, self.stream, self._noise)
        if self._spec.behaviour and self._watcher.observes:
            self.optimizers[name].moves = self._behaviour.watch(name, made, of)
        return made

    def generator(self, purpose: str) -> torch.Generator:
        """Return this run's generator of a purpose, such as `order`; the same object for the same purpose."""
        if purpose not in self._generators:
            self._generators[purpose] = seeds.generator("generator", self.seed, purpose)
        return self._generators[purpose]

    def epochs(self, count: int | None = None, *, steps: int | None = None, keep: Keep | None = None) -> Iterator[int]:
        """Yield the numbers of the epochs, from 0.

        Args:
            count: how many, unless the study was asked for another number.
            steps: calls of `run.step` in an epoch. Without it the length of a DataLoader in `keep` counts, if there is
                exactly one. A schedule needs to know it.
            keep: the objects that training changes, by name: models, schedulers, loaders, generators, dicts of tensors
                and numbers. The study's optimizers and generators are kept without it. After an interruption the
                trial resumes at the last epoch that has begun; without `keep` it starts again.
        """
        self._begin(EPOCHS, count, _length(keep) if steps is None else steps, keep)
        yield from self._passes(self._one_epoch)

    def steps(
        self, count: int | None = None, *, per_epoch: int | None = None, keep: Keep | None = None
    ) -> Iterator[int]:
        """Yield the numbers of the steps, from 0. Every pass calls `run.step` once.

        Args:
            count: how many, unless the study was asked for another number.
            per_epoch: steps of an epoch; the horizon is then `count / per_epoch` epochs.
            keep: as in `epochs`; the trial resumes at the last step before its checkpoint.
        """
        if per_epoch is None:
            self._begin(STEPS, count, None, keep)
        else:
            if count is not None and count % per_epoch:
                raise UsageError(
                    f"run.steps({count}, per_epoch={per_epoch}) ends in the middle of an epoch; take a multiple of "
                    f"{per_epoch}, or leave out per_epoch to count in steps"
                )
            self._begin(EPOCHS, None if count is None else count // per_epoch, per_epoch, keep)
        self._by_steps = True
        yield from self._passes(self._one_step)

    def step(self, loss: Tensor | float, /, *, examples: int = 0, **figures: float) -> None:
        """Report an optimizer step that has been taken. It sets the learning rate of the next one.

        Args:
            loss: the loss of the step, before it was taken. The run ends as diverged if it is not finite.
            examples: the number of its examples: their speed is reported, and means are weighted by it.
            figures: further figures of the step, such as `accuracy=0.9`; their means stand in the records as
                `train_accuracy`.
        """
        value = _number(loss)
        devices.synchronize(self._device)
        self.clock.lap()
        self._check_looping("step")
        counts = self.counts
        counts.steps += 1
        counts.examples += examples
        counts.evaluations += max([1, *(optimizer.taken() for optimizer in self.optimizers.values())])
        self._tell(self._watcher.stepped, value)
        sample = self._behaviour.sample()
        if sample is not None:
            self._tell(self._watcher.moved, sample)
        self._means.add("loss", value, examples or 1)
        for name, figure in figures.items():
            self._means.add(name, _number(figure, f"run.step(..., {name}=...)"), examples or 1)
        self._advance()
        self._evaluated_inside = False
        self._set_rates()
        self.clock.start()

    def validate(self, **figures: float) -> None:
        """Report figures of the validation set, by name: the study's metric, and `loss` if you have it.

        Without figures only the means over the steps since the last call are reported.
        """
        self._check_alive()
        measured = self._measured("validate", "validation", figures) if figures else {}
        means = {f"train_{name}": value for name, value in self._means.taken().items()}
        self._tell(self._watcher.validated, means | measured)
        self.clock.start()

    def test(self, **figures: float) -> None:
        """Report figures of the test set, once, after the loop. A trial of a search has ended by then."""
        self._check_alive()
        if self.loop is None or self._looping:
            raise UsageError("run.test was called before the loop ended; the test set is read once, after all training")
        if self._tested:
            raise UsageError("run.test was called twice; the test set is read once")
        measured = self._measured("test", "test", figures)
        self._tested = True
        self._tell(self._watcher.tested, measured)

    def log(self, **figures: float) -> None:
        """Put figures into the record that no verdict uses."""
        self._check_alive()
        self._tell(
            self._watcher.logged, {name: _number(value, f"run.log({name}=...)") for name, value in figures.items()}
        )

    def every(self, steps: int) -> bool:
        """Return whether so many steps have passed again, or the loop's last one.

        Raises:
            ValueError: the number is not a whole one of at least 1.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"run.every takes a whole number of steps of at least 1, not {steps!r}")
        return self.counts.steps > 0 and (self.counts.steps % steps == 0 or self.at_end)

    @property
    def at_end(self) -> bool:
        """True after the last step of the loop."""
        last = (self.loop.steps if self.loop else None, self._watcher.last_step)
        return self.counts.steps > 0 and self.counts.steps in last

    def untimed(self) -> AbstractContextManager[None]:
        """Leave the code in a block out of the step's seconds: `with run.untimed(): ...`."""
        return self.clock.paused()

    @contextmanager
    def evaluating(self, which: str = "validation") -> Iterator[None]:
        """Evaluate in this block: out of the seconds, with draws of its own, and with the weights to be measured.

        These are the averaged weights of an optimizer that keeps some. One with `eval()` and `train()`, as
        schedule-free ones have, is switched.
        """
        stream = seeds.GlobalStream("evaluation", self.seed, which, self.counts.steps)
        self._evaluated_inside = True
        self._tell(self._watcher.measuring)
        with self.untimed(), stream.active(), ExitStack() as stack:
            for optimizer in self.optimizers.values():
                stack.enter_context(optimizer.weights_to_measure())
            yield

    def hugging_face_trainer(self, trainer: Any, *, keep: Keep | None = None) -> None:
        """Let a `transformers.Trainer` train with this run's optimizer and report its steps and evaluations.

        Call `trainer.train()` afterwards, and `run.test` with the figures of `trainer.evaluate` on the test set.

        Args:
            trainer: a Trainer that has not trained yet, without an optimizer of its own.
            keep: objects that training changes, by name, in addition to its model; see `epochs`.
        """
        _trainers("hugging_face").attach(self, trainer, keep)

    def lightning_trainer(self, trainer: Any, module: Any, *, keep: Keep | None = None) -> None:
        """Let a `lightning.Trainer` train a module with this run's optimizer and report its steps and evaluations.

        The optimizer takes the place of `module.configure_optimizers`. Call `trainer.fit(module, ...)` afterwards, and
        `run.test` with the figures of `trainer.test`. The module logs the study's metric as `val_` and its name.

        Args:
            trainer: a Trainer that has not trained yet.
            module: the LightningModule that it will train.
            keep: objects that training changes, by name, in addition to the module; see `epochs`.
        """
        _trainers("lightning").attach(self, trainer, module, keep)

    def state(self) -> State:
        """Return the state of the run between two steps, not copied."""
        assert self.loop is not None
        return {
            "kept": {name: keeping.read(thing) for name, thing in (self.loop.keep or {}).items()},
            "optimizers": {name: keeping.read(optimizer.made) for name, optimizer in self.optimizers.items()},
            "generators": {purpose: keeping.read(source) for purpose, source in self._generators.items()},
            "draws": self.stream.position,
            "noise": self._noise.state,
            "scaler": self._scaler.state_dict(),
            "counts": asdict(self.counts),
            "means": self._means.totals,
            "behaviour": self._behaviour.state,
        }

    def check_complete(self) -> None:
        """Raise UsageError if the training function has returned without training."""
        if self.loop is None:
            raise UsageError(
                "the training function returned without a loop: for epoch in run.epochs(...), or run.steps(...)"
            )
        if self._looping:
            raise UsageError("the training function left its loop before the end; let run.epochs or run.steps end it")

    def forget(self) -> None:
        """Drop what the function has kept, once its state is not needed any more. Positions stay."""
        if self.loop is not None:
            self.loop = replace(self.loop, keep=None)

    def close(self) -> None:
        """End the run: further reports of its function raise `Ended`."""
        self.over = True
        if self._temporary is not None:
            self._temporary.cleanup()
        for optimizer in self.optimizers.values():
            optimizer.close()

    def _begin(self, unit: str, count: int | None, per_epoch: int | None, keep: Keep | None) -> None:
        """Begin the loop: its streams, its state if there is one to resume from, and the first rates."""
        self._check_alive()
        if self.loop is not None:
            raise UsageError("the loop of a run was begun twice; call run.epochs or run.steps once")
        if not self.optimizers:
            raise UsageError("the training function never asked for its optimizer: optimizer = run.optimizer(model)")
        if keep is not None:
            keeping.check(keep)
        self.loop = Loop(unit, self._horizon(unit, count), per_epoch, keep)
        self._looping = True
        self.stream.position = seeds.start("dropout", self.seed)
        for optimizer in self.optimizers.values():
            optimizer.note_rates()
        state = self._tell(self._watcher.begun)
        if state is not None:
            self._restore(state)
        self._check_schedule()
        self._set_rates()

    def _horizon(self, unit: str, count: int | None) -> int:
        wanted = self.horizon or count
        if wanted is None:
            raise UsageError(
                f"the number of {unit} is not known: call run.{unit}(10), or start the study with --{unit}"
            )
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
            raise UsageError(f"run.{unit} takes a whole number of at least 1, not {wanted!r}")
        return wanted

    def _passes(self, one: Callable[[], Iterator[int]]) -> Iterator[int]:
        """Go through the loop, with marks between its passes."""
        assert self.loop is not None
        while self.counts.epoch < self.loop.horizon if self.loop.unit == EPOCHS else self._steps_left():
            yield from one()
            if self._tell(self._watcher.marked):
                break
        self._looping = False
        self._tell(self._watcher.looped)

    def _steps_left(self) -> bool:
        assert self.loop is not None
        return self.counts.steps < self.loop.horizon

    def _one_epoch(self) -> Iterator[int]:
        counts = self.counts
        self.clock.start()
        yield counts.epoch
        self._check_epoch()
        counts.epoch, counts.in_epoch = counts.epoch + 1, 0

    def _one_step(self) -> Iterator[int]:
        counts, taken = self.counts, self.counts.steps
        self.clock.start()
        yield taken
        if counts.steps != taken + 1:
            raise UsageError(f"run.step was called {counts.steps - taken} times in one pass of run.steps; call it once")

    def _restore(self, state: State) -> None:
        assert self.loop is not None
        for name, kept in state["kept"].items():
            keeping.write((self.loop.keep or {})[name], kept)
        for name, optimizer in state["optimizers"].items():
            keeping.write(self.optimizers[name].made, optimizer)
        for purpose, source in state["generators"].items():
            keeping.write(self.generator(purpose), source)
        self.stream.position, self._noise.state = state["draws"], state["noise"]
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
        self.counts = Counts(**state["counts"])
        self._means = Means(state["means"])
        self._behaviour.state = state.get("behaviour", {})  # older checkpoints have none

    def _advance(self) -> None:
        """Count a step of its epoch. A loop over steps begins the next epoch by itself."""
        assert self.loop is not None
        self.counts.in_epoch += 1
        if self._by_steps and self.counts.in_epoch == self.loop.per_epoch:
            self.counts.epoch, self.counts.in_epoch = self.counts.epoch + 1, 0

    def _set_rates(self) -> None:
        """Set every group's rate for the next step."""
        if self._spec.config.schedule == CONSTANT:
            return
        assert self.loop is not None
        assert self.loop.steps is not None
        share = factor(self._spec.config.schedule)(min(self.counts.steps, self.loop.steps - 1), self.loop.steps)
        for optimizer in self.optimizers.values():
            optimizer.scale_rates(share)

    def _check_schedule(self) -> None:
        assert self.loop is not None
        schedule = self._spec.config.schedule
        if schedule == CONSTANT:
            return
        if self.loop.steps is None:
            raise UsageError(
                f"the schedule {schedule} needs the number of steps in an epoch: "
                "call run.epochs(..., steps=len(loader)), or keep the DataLoader"
            )
        if any(optimizer.is_scheduled for optimizer in self.optimizers.values()):
            raise UsageError(
                f"a learning-rate scheduler is attached to the run's optimizer, and the study's schedule {schedule} "
                "sets the same rates; take the scheduler out, or keep it with --schedule constant"
            )

    def _check_epoch(self) -> None:
        """Raise UsageError if an epoch had another number of steps than the loop says."""
        assert self.loop is not None
        taken, said = self.counts.in_epoch, self.loop.per_epoch
        if not taken:
            raise UsageError("run.step was not called in an epoch; call it after every step of the optimizer")
        if said is not None and taken != said and not self._watcher.shortens:
            raise UsageError(
                f"an epoch had {taken} steps, and the loop says {said}: call run.epochs(..., steps={taken}), so that "
                "schedules and positions are right"
            )

    def _tell(self, report: Callable[..., T], *given: Any) -> T:
        """Pass a report to the watcher. A run that it ends stays over, also where other code catches `Ended`."""
        try:
            return report(self, *given)
        except Ended:
            self.over = True
            raise

    def _check_alive(self) -> None:
        if self.over:
            raise Ended

    def _check_looping(self, method: str) -> None:
        self._check_alive()
        if not self._looping:
            raise UsageError(f"run.{method} is called inside the loop: for epoch in run.epochs(...)")

    def _measured(self, method: str, which: str, figures: Mapping[str, Any]) -> dict[str, float]:
        """Return the figures of a set by their names in a record. Raise UsageError for others than the declared."""
        metric = self.metric.name
        unknown = [name for name in figures if name not in (metric, "loss")]
        if unknown:
            raise UsageError(
                f"run.{method} takes the study's metric {metric!r} and 'loss', not {', '.join(map(repr, unknown))}; "
                "other figures go to run.log"
            )
        if metric not in figures:
            raise UsageError(f"run.{method} needs the study's metric: run.{method}({metric}=...)")
        numbers = {f"{which}_{name}": _number(value, f"run.{method}({name}=...)") for name, value in figures.items()}
        hidden = [optimizer for optimizer in self.optimizers.values() if optimizer.has_other_weights]
        if hidden and not self._evaluated_inside:
            raise UsageError(
                f"{self._spec.config.label} has other weights for evaluation than for training; evaluate in a block "
                f"before every run.{method}: with run.evaluating(): ..."
            )
        self._evaluated_inside = False  # the next figures need a block of their own
        return numbers


def _trainers(name: str) -> Any:
    """Return the module for a trainer. Raise UsageError if a package that it needs is not installed."""
    try:
        return importlib.import_module(f"steepest.study.trainers.{name}")  # only when asked for
    except ModuleNotFoundError as error:
        raise UsageError(f"run.{name}_trainer needs {error.name}, which is not installed: {INSTALL[name]}") from error


def _groups(of: Any) -> list[Any]:
    """Return parameters or groups as a list. Raise UsageError for a group with a rate of its own."""
    groups = list(of)
    if any(isinstance(group, dict) and "lr" in group for group in groups):
        raise UsageError(
            "run.optimizer was given groups with rates of their own (lr), which the study sets; leave them out, and "
            "for a share of the study's rate multiply group['lr'] of the optimizer that it returns"
        )
    return groups


def _length(keep: Keep | None) -> int | None:
    """Return the length of the only DataLoader among the kept objects."""
    loaders = [thing for thing in (keep or {}).values() if isinstance(thing, DataLoader)]
    if len(loaders) != 1:
        return None
    try:
        return len(loaders[0])
    except TypeError:  # of an IterableDataset
        return None


def _number(value: Any, place: str = "run.step") -> float:
    try:
        return float(value.item() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f" {value!r}"
        raise UsageError(f"{place} takes one number, not a {type(value).__name__}{shape}") from None
