"""A workload's declaration: data, model, loss, metric, sizes, targets, and the settings of its usual optimizers."""

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from steepest.study import user_files
from steepest.study.data.adapt import Source
from steepest.study.data.splits import Sizes
from steepest.study.errors import StudyError, UsageError
from steepest.study.suggest import choices

Loss = Callable[[Any, Any], Tensor]
PRESETS: Final = ("smoke", "quick", "full")

OVER: Final = ("examples", "set")

Need = Literal["closure", "sparse", "matrices"]
NEEDS: Final[Mapping[Need, str]] = {
    "closure": "its loss is evaluated several times in a step",
    "sparse": "its gradients are sparse tensors",
    "matrices": "its parameters are matrices only",
}


@dataclass(frozen=True)
class Metric:
    """A figure of merit and its direction.

    Attributes:
        name: its name in records and tables; `loss` stands for the loss itself.
        direction: `maximize` or `minimize`.
        of: a function of (outputs, targets); without one the loss is the metric. An experiment reports its metric
            itself and needs none.
        over: the argument of `of`. `examples`: it returns one value per example of a batch, shape (N,), and their
            mean is reported. `set`: it is called once with all outputs and all targets of a set, concatenated, and
            returns one number (AUC, F1, BLEU, perplexity).
    """

    name: str
    direction: Literal["maximize", "minimize"]
    of: Callable[[Any, Any], Any] | None = None
    over: Literal["examples", "set"] = "examples"

    def __post_init__(self) -> None:
        """Refuse a metric that every trial would fail on."""
        if not isinstance(self.name, str) or not self.name:
            raise UsageError(f"name of a metric must be a text, such as 'accuracy', not {self.name!r}")
        if self.name == "loss" and self.of is not None:
            raise UsageError(
                "a metric with a function of its own cannot be called 'loss': records hold the loss itself under this "
                "name; give it another name, such as 'my_loss', or take steepest.study.LOSS"
            )
        if self.of is not None and not (callable(self.of) and _takes(self.of, 2)):
            raise UsageError(f"metric {self.name!r} must have a function of (outputs, targets), not {self.of!r}")
        if self.direction not in ("maximize", "minimize"):
            raise UsageError(choices("direction of a metric", str(self.direction), ("maximize", "minimize")))
        if self.over not in OVER:
            raise UsageError(choices("'over' of a metric", str(self.over), OVER))

    @property
    def sign(self) -> int:
        """1 if more is better, -1 if less is better."""
        return 1 if self.direction == "maximize" else -1

    def total(self, outputs: Any, targets: Any, loss: float, count: int) -> float:
        """Return the metric of a batch, summed over its `count` examples; `loss` is the batch's mean loss.

        Raises:
            UsageError: the function returned anything but one value per example.
        """
        if self.of is None:
            return loss * count
        values = _tensor_of(self.of(outputs, targets))
        if values is None or values.shape != (count,):
            raise UsageError(
                f"metric {self.name!r} must return one value per example, shape ({count},); it returned "
                f"{_shown(values)}. A mean over the batch must stay a value per example; a figure of a whole set (AUC, "
                f"F1) is declared as Metric({self.name!r}, {self.direction!r}, of, over='set')"
            )
        return float(values.sum())

    def of_set(self, outputs: Any, targets: Any) -> float:
        """Return the metric of a whole set. The metric must have `over='set'`.

        Raises:
            UsageError: the function returned anything but one number.
        """
        assert self.of is not None
        value = _tensor_of(self.of(outputs, targets))
        if value is None or value.dim():
            raise UsageError(
                f"metric {self.name!r} has over='set' and must return one number; it returned {_shown(value)}. One "
                "value per example, whose mean is reported, is declared without over='set'"
            )
        return float(value)


@dataclass(frozen=True)
class Published:
    """Figures that somebody published for the preset `full` of a workload, keyed by optimizer name."""

    source: str
    setting: str
    epochs: int
    rows: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, path: Path) -> "Published":
        """Return the figures in a JSON file."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


class Size(TypedDict):
    """The arguments of a `Workload` that differ from preset to preset."""

    sizes: Sizes
    horizon: int
    seeds: int
    trials: int
    evaluations: NotRequired[int]


@dataclass(frozen=True, kw_only=True, eq=False)  # tensors among the fields have no single answer to ==
class Declaration:
    """The declaration of anything that a study trains on.

    Attributes:
        metric: figure of merit, with its direction.
        target: values of the validation metric whose first crossing is timed: none, one, or several.
        margin: largest difference of the metric without practical meaning, in the metric's unit; 0 if none is known.
        seeds: number of evaluation seeds, unless asked otherwise.
        trials: number of search trials of every optimizer, unless asked otherwise; 0 runs the given settings.
        needs: abilities that an optimizer needs here.
        title, description: words for people; without them, the function's docstring.
        network: the model in a few words.
        settings: the usual optimizers, in display order, with the options that they are run with here.
        published: figures to show next to the results of the preset `full`.
    """

    metric: Metric
    target: float | tuple[float, ...] = ()
    margin: float = 0.0
    seeds: int = 10
    trials: int = 16
    needs: tuple[Need, ...] = ()
    title: str = ""
    description: str = ""
    network: str = ""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    published: Published | None = None

    def __post_init__(self) -> None:
        """Refuse a declaration that every study would fail on."""
        self._check_counts(seeds=1, trials=0)
        if not isinstance(self.metric, Metric):
            raise UsageError(
                f"metric of {self._kind} must be a Metric with its name and direction, not {self.metric!r}; "
                "for classes there is steepest.study.ACCURACY, for the loss itself steepest.study.LOSS"
            )
        for value in self._given_targets:
            if not _is_finite(value):
                raise UsageError(f"target of {self._kind} must be a number or a tuple of numbers, not {value!r}")
        if not _is_finite(self.margin) or self.margin < 0:
            raise UsageError(f"margin of {self._kind} must be a number of at least 0, not {self.margin!r}")
        for need in self.needs:
            if need not in NEEDS:
                raise UsageError(choices("need", need, NEEDS))
        for name, options in self.settings.items():
            if not isinstance(options, Mapping):
                raise UsageError(
                    f"settings of {self._kind} must hold the options of every optimizer, such as "
                    f'{{"adam": {{"lr": 0.01}}}}; for {name!r} they hold {options!r}'
                )

    @property
    def targets(self) -> tuple[float, ...]:
        """The targets, easiest first."""
        return tuple(sorted({*self._given_targets}, key=lambda value: self.metric.sign * value))

    @property
    def _kind(self) -> str:
        return f"{'an' if type(self).__name__[0] in 'AEIOU' else 'a'} {type(self).__name__.lower()}"

    def _check_counts(self, **least: int) -> None:
        for name, lowest in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise UsageError(f"{name} of {self._kind} must be a whole number of at least {lowest}, not {value!r}")

    @property
    def _given_targets(self) -> Sequence[float]:
        return self.target if isinstance(self.target, tuple | list) else (self.target,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload(Declaration):
    """A task to train on, at one size: data, a model and a loss, trained in the library's own loop.

    Attributes:
        data: a `DataSet`, `(inputs, targets)`, `((inputs, targets), (test inputs, test targets))`, torch datasets in
            their place, or a function of the data folder (or of nothing) that returns one of these. Or three
            DataLoaders or datasets, `(training, validation, test)`, which are read batch by batch in every epoch.
        model: builds the network from torch's global generator, which the trial seeds.
        loss: mean loss of (outputs, targets); a scalar tensor. A tuple's last entry is the targets and the others go to
            the model, `model(*inputs)`; a dict goes to it whole, `model(**batch)`, and is the targets too. Without a
            loss the model gets the whole batch of either kind, and returns the loss: a scalar tensor, or an output with
            `.loss` or `["loss"]`.
        batch_size: examples of a step; DataLoaders have their own.
        horizon: epochs of a trial.
        steps: steps of a trial, in place of `horizon`, for data without a length too; needs `evaluate_every`.
        sizes: examples of the three sets; None keeps a tenth of the training examples for validation, and all others.
        evaluations: evaluations on the validation set in every epoch, evenly spaced; the last is at the epoch's end.
        evaluate_every: steps between two evaluations, in place of `evaluations`; the last is at the end.
        accumulate: parts in which a batch is computed one after another, for less memory. Their gradients add up to the
            batch's, if the loss is a mean. Batch normalisation sees the parts.
        max_norm: the largest norm of all gradients together; longer ones are scaled down to it.
    """

    data: Source
    model: Callable[[], nn.Module]
    loss: Loss | None = None
    batch_size: int | None = None
    horizon: int | None = None
    steps: int | None = None
    sizes: Sizes | None = None
    evaluations: int = 1
    evaluate_every: int | None = None
    accumulate: int = 1
    max_norm: float | None = None

    def __post_init__(self) -> None:
        """Refuse a workload that every study would fail on."""
        given = [name for name in ("batch_size", "horizon", "steps") if getattr(self, name) is not None]
        self._check_counts(**dict.fromkeys(given, 1), evaluations=1, accumulate=1)
        self._check_length()
        self._check_loop()
        if self.loss is not None:
            _check_function("loss", self.loss, 2, "of (outputs, targets), such as torch.nn.functional.cross_entropy")
        _check_function("model", self.model, 0, "of nothing that builds it: every trial starts from a model of its own")
        super().__post_init__()
        if self.metric.over == "set" and self.metric.of is None:
            raise UsageError(
                f"metric {self.metric.name!r} has over='set' and no function; give one of (outputs, targets)"
            )
        if self.sizes is not None:
            _check_sizes(self.sizes)

    @property
    def loop(self) -> dict[str, Any]:
        """The options of the training loop that differ from their defaults."""
        usual = {"evaluate_every": None, "accumulate": 1, "max_norm": None}
        return {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}

    @property
    def unit(self) -> Literal["epochs", "steps"]:
        """The unit of a trial's length."""
        return "epochs" if self.steps is None else "steps"

    @property
    def length(self) -> int:
        """The length of a trial, in its unit."""
        return self.horizon or self.steps or 0

    def _check_length(self) -> None:
        if (self.horizon is None) == (self.steps is None):
            given = "both are given" if self.steps else "none is given"
            raise UsageError(f"a workload has a horizon in epochs (horizon=) or in steps (steps=); {given}")
        if self.steps is not None and self.evaluate_every is None:
            raise UsageError(
                f"a horizon of {self.steps} steps has no epochs to evaluate in; give evaluate_every=, such as "
                f"{max(1, self.steps // 10)}"
            )

    def _check_loop(self) -> None:
        if self.evaluate_every is not None:
            self._check_counts(evaluate_every=1)
            if self.evaluations != 1:
                raise UsageError("evaluations and evaluate_every both say when to evaluate; leave out one of the two")
        if self.batch_size is not None and self.accumulate > self.batch_size:
            raise UsageError(
                f"accumulate={self.accumulate} divides a batch of {self.batch_size} into more parts than it has "
                "examples"
            )
        if self.max_norm is not None and not (_is_finite(self.max_norm) and self.max_norm > 0):
            raise UsageError(f"max_norm of a workload must be a number above 0, not {self.max_norm!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment(Declaration):
    """A training function of the user's own, at one size.

    Attributes:
        function: trains once, with the `Run` that it is given.
    """

    function: Callable[..., None]

    def __post_init__(self) -> None:
        """Refuse an experiment that every study would fail on."""
        _check_function("function", self.function, 1, "of a run: def train(run: study.Run) -> None", "an experiment")
        super().__post_init__()


def _tensor_of(value: object) -> Tensor | None:
    """Return a metric's result as a tensor of real numbers, None for anything else."""
    try:
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))  # floats stay float64
    except (TypeError, ValueError, RuntimeError):
        return None
    return None if tensor.is_complex() else tensor


def _shown(value: Tensor | None) -> str:
    if value is None:
        return "something that is no number and no tensor of real numbers"
    return f"shape {tuple(value.shape)}" if value.dim() else "a single number, shape ()"


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_sizes(sizes: object) -> None:
    counts = tuple(vars(sizes).values()) if isinstance(sizes, Sizes) else ()
    if not counts or any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in counts):
        raise UsageError(
            f"sizes of a workload must be Sizes(train, validation, test), each a whole number of at least 1, or None; "
            f"not {sizes!r}"
        )


def _check_function(name: str, value: object, arguments: int, of: str, kind: str = "a workload") -> None:
    if isinstance(value, nn.Module) and name == "model":
        given = f"a {type(value).__name__} that is built already; put its construction into the function"
    elif inspect.isclass(value) and issubclass(value, nn.Module) and name == "loss":
        given = f"the class {value.__name__}; make an object of it, {value.__name__}()"
    elif not callable(value):
        given = repr(value)
    elif not _takes(value, arguments):
        given = f"{getattr(value, '__name__', value)}{inspect.signature(value)}"
    else:
        return
    raise UsageError(f"{name} of {kind} must be a function {of}; it is {given}")


def _takes(function: Callable[..., Any], arguments: int) -> bool:
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # a function in C may not tell
        return True
    return True


@dataclass(frozen=True)
class Declared:
    """A workload or an experiment by name: the function that makes it at a size, and the place of its declaration.

    `source` is its name on a command line: the workload's name, or `FILE.py:FUNCTION`. `function` is the function that
    stands under the decorator.
    """

    name: str
    build: Callable[..., Declaration]
    source: str
    function: Callable[..., Any]

    def __call__(self, preset: str = "quick") -> Declaration:
        """Return the workload or experiment at a size: `smoke`, `quick` or `full`."""
        if preset not in PRESETS:
            raise UsageError(choices("preset", preset, PRESETS))
        made = self._made(preset)
        if not isinstance(made, Declaration):
            raise UsageError(f"{self.source} must return a Workload; it returned a {type(made).__name__}")
        title, _, description = inspect.cleandoc(self.function.__doc__ or self.name).partition("\n")
        words = " ".join(description.split())
        return replace(made, title=made.title or title.rstrip("."), description=made.description or words)

    def workload(self, preset: str = "quick") -> Workload:
        """Return the workload at a size. Raise UsageError for an experiment."""
        made = self(preset)
        if not isinstance(made, Workload):
            raise UsageError(f"{self.source} is an experiment with a loop of its own; this needs a workload")
        return made

    @property
    def depends_on_preset(self) -> bool:
        """True if its sizes differ."""
        return bool(inspect.signature(self.build).parameters)

    def _made(self, preset: str) -> Any:
        try:
            return self.build(preset) if self.depends_on_preset else self.build()
        except StudyError:
            raise
        except Exception as error:  # whatever the user's code raises
            file = Path(inspect.getfile(self.function))
            raise UsageError(f"{self.source} stopped with {user_files.reason(error, file)}") from error


def workload(function: Callable[..., Workload]) -> Declared:
    """Declare the function's result as a workload: `@workload def my_task(preset): return Workload(...)`.

    The function takes the preset's name, or nothing if all presets are alike.
    """
    name = function.__name__.replace("_", "-")
    return Declared(name, function, name, function)


def experiment(
    *,
    metric: Metric,
    target: float | tuple[float, ...] = (),
    margin: float = 0.0,
    seeds: int = 10,
    trials: int = 16,
    needs: tuple[Need, ...] = (),
    network: str = "",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Callable[..., None]], Declared]:
    """Declare a training function as an experiment: `@experiment(metric=...) def finetune(run): ...`.

    The function takes a `Run` and trains once with the optimizer that the run gives it. It is called several times in a
    process, also while another call is in progress. The size of a study is `run.preset`. The first line of its
    docstring is the title.

    Args:
        metric: the figure that it reports to `run.validate` and `run.test`, with its direction.
        target, margin, seeds, trials, needs, network, settings: see `Declaration`.
    """

    def declared(function: Callable[..., None]) -> Declared:
        name = function.__name__.replace("_", "-")
        made = partial(
            Experiment,
            function=function,
            metric=metric,
            target=target,
            margin=margin,
            seeds=seeds,
            trials=trials,
            needs=needs,
            network=network,
            settings=settings or {},
        )
        return Declared(name, lambda preset: made(), name, function)

    return declared


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 for every example whose highest output is its class, else 0."""
    return (outputs.argmax(dim=1) == targets).float()


ACCURACY: Final = Metric("accuracy", "maximize", accuracy)
LOSS: Final = Metric("loss", "minimize")
