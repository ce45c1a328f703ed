"""The format of a study folder, declared once: `study.json`, and the statuses and phases of its trials.

A plan makes a `StudyDocument`, a run changes it by `dataclasses.replace`, a report reads its attributes. `read` turns
plain data into these objects, `records.plain` turns them back.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

SCHEMA: Final = 3

Phase = Literal["search", "evaluation", "timing"]
SEARCH: Final = "search"
EVALUATION: Final = "evaluation"
TIMING: Final = "timing"

BEHAVIOUR: Final = "behaviour"
"""The kind of a record that says how the optimizers moved in one step."""
FIGURES: Final = ("gradient_norm", "update_norm", "weight_norm", "cosine")
"""Its figures, of all parameters together; under `layers` a list of them for every parameter. Norms are Euclidean. The
weights are those before the step, and the cosine is that of the angle between the update and the one before it."""

FINISHED: Final = "finished"
DIVERGED: Final = "diverged"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed out"
INTERRUPTED: Final = "interrupted"
"""The status of a trial whose record has no end."""
UNSTARTED: Final = "not started"

Match = Literal["steps", "seconds", "evaluations"]
"""The kind of equal cost that the main verdicts compare at."""
STEPS: Final = "steps"
SECONDS: Final = "seconds"
EVALUATIONS: Final = "evaluations"

Point = int | str
"""A point of a search: the number of a drawn one, or the library's defaults."""
FROM_PYTHON: Final = "comparison"
"""The source of a workload that exists in a Python program only; one of several has its name after a colon."""

DEFAULTS: Final = "defaults"

LATER: Final = {"unwritten": None}
"""Metadata of an entry that older documents lack. It is not written while it is None, so that they stay as they are."""

NONE_YET: Final[Mapping[str, tuple[()]]] = {"unwritten": ()}
"""Metadata of a list that older documents lack. It is not written while it is empty."""

SINCE_ZERO: Final = {"unwritten": 0}
"""Metadata of a number that older documents lack, and that is 0 in their plans. It is not written while it is 0."""

Options = Mapping[str, Any]
T = TypeVar("T")


class FormatError(ValueError):
    """Stored data that differ from their declaration. The message names the place and the value."""


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """The place of the declaration, its preset, and the sizes of the three sets, None for an experiment."""

    source: str
    preset: str
    sizes: Mapping[str, int] | None


@dataclass(frozen=True, kw_only=True)
class Device:
    """The accelerator of every trial: its kind, such as `cuda`, its name, and its driver where it is known."""

    kind: str
    name: str
    driver: str | None


@dataclass(frozen=True, kw_only=True)
class Config:
    """The training of every trial.

    Attributes:
        epochs: its length, in `unit`.
        unit: `epochs`, or `steps` for an experiment that counts these.
        batch_size, evaluations: examples of a step, and evaluations in an epoch; None for an experiment.
        steps_per_epoch: None if the number is not known.
        reproducible: False if two equal runs differed in the rehearsal.
        device: the accelerator; None for the CPU.
        deterministic: True if torch may use deterministic algorithms only.
        behaviour: True if evaluation trials store samples of how the optimizers moved.
        sharpness: True if they store the loss's sharpness at every evaluation.
        evaluate_every, accumulate, max_norm: see `steepest.study.Workload`.
    """

    epochs: int
    unit: Literal["epochs", "steps"] = field(default="epochs", metadata={"unwritten": "epochs"})
    batch_size: int | None
    evaluations: int | None
    precision: str
    seeds: tuple[int, ...]
    all_train: bool
    steps_per_epoch: int | None
    channels_last: bool
    reproducible: bool = field(default=True, metadata={"unwritten": True})
    device: Device | None = field(default=None, metadata={"unwritten": None})
    deterministic: bool = field(default=False, metadata={"unwritten": False})
    behaviour: bool = field(default=False, metadata={"unwritten": False})
    sharpness: bool = field(default=False, metadata={"unwritten": False})
    evaluate_every: int | None = field(default=None, metadata={"unwritten": None})
    accumulate: int = field(default=1, metadata={"unwritten": 1})
    max_norm: float | None = field(default=None, metadata={"unwritten": None})
    task: TaskEntry


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The decisions that were made before anything ran.

    Attributes:
        trials: points of the search for every optimizer, in addition to the library's defaults; 0 without a search.
        tuning_seeds: seeds of the search.
        sampler: how points were drawn.
        searched: hyperparameters that were asked to be searched.
        extensions: further searches after the first, each with the `low` and `high` of its new rates by optimizer;
            an optimizer without an entry got further points of the range that it had.
        schedule: the learning rate's schedule that was asked for.
        reference: the label of the optimizer that all others are compared with; None for the first one.
        alpha: the family-wise error rate of the verdicts.
        margin: the difference of the metric without practical meaning; 0 where none was declared.
        targets: values of the validation metric, easiest first.
        timing_rounds: how often the seconds of every optimizer's step were to be taken.
        seed_offset: the first evaluation seed.
        search_seed: the number of the search's draw and of its tuning seeds.
        looks: the numbers of seeds after which a sequential test looks; empty for a test with a fixed number.
        spending: the exponent of a sequential test's spending of alpha.
        match: the kind of equal cost that the verdicts compare at.
    """

    trials: int
    tuning_seeds: tuple[int, ...]
    sampler: str
    searched: tuple[str, ...]
    extensions: tuple[Mapping[str, Mapping[str, float]], ...]
    schedule: str
    reference: str | None
    alpha: float
    margin: float
    targets: tuple[float, ...]
    timing_rounds: int
    seed_offset: int = field(default=0, metadata=SINCE_ZERO)
    search_seed: int = field(default=0, metadata=SINCE_ZERO)
    looks: tuple[int, ...] = field(default=(), metadata=NONE_YET)
    spending: float | None = field(default=None, metadata=LATER)
    match: Match = field(default=STEPS, metadata={"unwritten": STEPS})


@dataclass(frozen=True, kw_only=True)
class SearchedRange:
    """A hyperparameter that is drawn from a range; with `complement` it is one minus the drawn number."""

    low: float
    high: float
    scale: str
    complement: bool


@dataclass(frozen=True)
class SearchedValues:
    """A hyperparameter that takes one of several values."""

    values: tuple[Any, ...]


Dimension = SearchedRange | SearchedValues


@dataclass(frozen=True, kw_only=True)
class PointEntry:
    """A planned point of a search and its options, those of its schedule among them where they are searched."""

    point: Point
    options: Options


@dataclass(frozen=True, kw_only=True)
class OptimizerEntry:
    """An optimizer of the study.

    Attributes:
        label: its name in tables.
        name: its source: a name of the library, `MODULE:NAME` or `FILE.py:NAME`.
        given: the options that were set.
        options: all options, with the defaults.
        schedule: the schedule of its learning rate, such as `cosine` or `wsd[warmup=100]`.
        rule_sha256: the digest of its code.
        executor: the executor of its steps in the dry run.
        skipped: the reason why it takes no part; None if it does.
        space: its search space.
        points: the points of its search, in order.
    """

    label: str
    name: str
    given: Options
    options: Options
    schedule: str
    rule_sha256: str
    executor: str | None = None
    skipped: str | None = None
    space: Mapping[str, Dimension]
    points: tuple[PointEntry, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The point that an optimizer's search chose, None without a search, and the options of its evaluation.

    `schedule` is the schedule of the evaluation if the search has drawn any of it; None where it is the optimizer's.
    """

    point: Point | None
    given: Options
    options: Options
    schedule: str | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class TrialEntry:
    """A trial of the study. Its records are in `trials/<id>.jsonl`."""

    id: str
    optimizer: str
    seed: int
    phase: Phase
    point: Point | None


@dataclass(frozen=True, kw_only=True)
class Published:
    """Figures that were published for the same optimizers, by label."""

    source: str
    setting: str
    rows: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The metric of the verdicts."""

    name: str
    direction: Literal["maximize", "minimize"]
    over: str


@dataclass(frozen=True, kw_only=True)
class Model:
    """The network, known by the digests of its printed layers and of its code."""

    name: str
    parameters: int
    sha256: str
    code_sha256: str


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data, and the number of examples in each set. `fallback` names the missing data that these stand in for."""

    name: str
    source: str
    fallback: str | None
    sha256: Mapping[str, str]
    train: int
    validation: int
    test: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine that ran the study."""

    cpu: str
    cores: int
    memory_gib: float | None
    platform: str


@dataclass(frozen=True, kw_only=True)
class StudyDocument:
    """The whole of `study.json`.

    `seed_counts` are the numbers of evaluation seeds that the study has had, if they were raised after an evaluation.
    """

    schema: int = SCHEMA
    name: str
    workload: str
    preset: str
    title: str
    description: str
    config: Config
    protocol: Protocol
    metric: Metric
    model: Model
    data: Data | None
    optimizers: tuple[OptimizerEntry, ...]
    code: Mapping[str, Mapping[str, Any]]
    trials: tuple[TrialEntry, ...]
    chosen: Mapping[str, Choice]
    published: Published | None
    seed_purposes: Mapping[str, str]
    versions: Mapping[str, str]
    machine: Machine
    threads: int
    commit: str | None
    created: str
    command: str
    seed_counts: tuple[int, ...] = field(default=(), metadata=NONE_YET)


@dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """The last record of a trial that has ended; its figures stand next to these entries, by name."""

    status: str = INTERRUPTED
    step: int = 0
    epoch: float = 0
    reason: str | None = None
    error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrialTimes:
    """The last record of a trial's wall times. `restarts` is the reason why an interrupted trial began again."""

    train_seconds: float | None = None
    examples: float | None = None
    step_seconds: float | None = None
    peak_device_bytes: int | None = None
    executor: str | None = None
    restarts: str | None = None


def read(kind: type[T], value: object, place: str = "") -> T:
    """Read plain data from JSON as an object of a declared class. Entries without a declaration are ignored.

    >>> read(Choice, {"point": 1, "given": {}, "options": {"lr": 0.1}})
    Choice(point=1, given={}, options={'lr': 0.1}, schedule=None)
    >>> read(Choice, {"point": 1.5, "given": {}, "options": {}}, "chosen.SGD")
    Traceback (most recent call last):
    steepest.study.records.format.FormatError: chosen.SGD.point is 1.5, not an integer, a text or null
    """
    checked: T = _read(kind, value, place)
    return checked


def _read(kind: Any, value: Any, place: str) -> Any:
    reader = _READERS.get(get_origin(kind) or kind, _object if is_dataclass(kind) else None)
    return value if reader is None else reader(kind, value, place)


def _object(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(kind, value, place)
    values = {}
    for entry, entry_kind in _entries(kind):
        inside = f"{place}.{entry.name}" if place else entry.name
        if entry.name in value:
            values[entry.name] = _read(entry_kind, value[entry.name], inside)
        elif entry.default is MISSING:
            raise FormatError(f"{inside} is missing")
    return kind(**values)


@cache
def _entries(kind: Any) -> list[tuple[Field[Any], Any]]:
    kinds = get_type_hints(kind)
    return [(entry, kinds[entry.name]) for entry in fields(kind)]


def _list(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(kind, value, place)
    return tuple(_read(get_args(kind)[0], item, f"{place}[{number}]") for number, item in enumerate(value))


def _mapping(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(kind, value, place)
    return {key: _read(get_args(kind)[1], item, f"{place}.{key}") for key, item in value.items()}


def _union(kind: Any, value: Any, place: str) -> Any:
    kinds = [member for member in get_args(kind) if member is not NoneType]
    if value is None and len(kinds) < len(get_args(kind)):
        return None
    fitting = [
        member
        for member in kinds
        if is_dataclass(member) and isinstance(value, Mapping) and _has_entries(member, value)
    ]
    if len(kinds) == 1 and is_dataclass(kinds[0]):
        fitting = kinds
    if fitting:
        return _read(fitting[0], value, place)
    for member in kinds:
        try:
            return _read(member, value, place)
        except FormatError:
            continue
    raise _wrong(kind, value, place)


def _has_entries(kind: Any, value: Mapping[str, Any]) -> bool:
    return all(entry.name in value or entry.default is not MISSING for entry, _ in _entries(kind))


def _choice(kind: Any, value: Any, place: str) -> Any:
    if value not in get_args(kind):
        raise _wrong(kind, value, place)
    return value


def _scalar(fits: Callable[[Any], bool]) -> Callable[[Any, Any, str], Any]:
    def reader(kind: Any, value: Any, place: str) -> Any:
        if not fits(value):
            raise _wrong(kind, value, place)
        return float(value) if kind is float and isinstance(value, str) else value

    return reader


def is_number(value: Any) -> bool:
    """Return whether a value is a number, or the name of a number that JSON lacks."""
    return (isinstance(value, int | float) and not isinstance(value, bool)) or value in ("nan", "inf", "-inf")


_READERS: Final[dict[Any, Callable[[Any, Any, str], Any]]] = {
    tuple: _list,
    Mapping: _mapping,
    Union: _union,
    UnionType: _union,
    Literal: _choice,
    bool: _scalar(lambda value: isinstance(value, bool)),
    int: _scalar(lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: _scalar(is_number),
    str: _scalar(lambda value: isinstance(value, str)),
}

_WORDS: Final[dict[Any, str]] = {
    tuple: "a list",
    Mapping: "an object",
    bool: "true or false",
    NoneType: "null",
    int: "an integer",
    float: "a number",
    str: "a text",
}


def _wrong(kind: Any, value: Any, place: str) -> FormatError:
    return FormatError(f"{place or 'it'} is {_shown(value)}, not {_words(kind)}")


def _words(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(repr(word) for word in get_args(kind))
    if origin in (Union, UnionType):
        *first, last = dict.fromkeys(map(_words, get_args(kind)))
        return f"{', '.join(first)} or {last}" if first else last
    return _WORDS.get(origin or kind, "an object")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
