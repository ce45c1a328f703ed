"""The configuration of one optimizer in a study: its source, its options, and its label in tables and curves."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from steepest import registry
from steepest.study import seeds, user_files
from steepest.study.errors import UsageError
from steepest.study.optimizers import schedules, settings, sources
from steepest.study.optimizers.external import matrix
from steepest.study.optimizers.source import OptimizerSource, Trained, storable

Settings = Mapping[str, Mapping[str, Any]]
"""Options by optimizer, as a workload declares them."""


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer with options and a learning-rate schedule, under a label.

    Attributes:
        label: the optimizer's name, and in brackets the options that differ from the workload's setting.
        source: a name of the library, `MODULE:NAME` or `FILE.py:NAME`.
        options: the options for its constructor, as plain data; all others keep their defaults.
        schedule: the schedule with its options, as `steepest.study.optimizers.schedules.read` takes it.
        fixed: names of the options that were given for it or its schedule, which a search does not change.

    >>> parse_config("adam[eps=0.1]", {"adam": {"lr": 0.01}}).label
    'Adam[eps=0.1]'
    >>> parse_config("adam[lr=0.01]", {"adam": {"lr": 0.01}}).label
    'Adam'
    >>> parse_config("adam[lr=0.01,schedule=wsd,warmup=100]", {}).schedule
    'wsd[warmup=100]'
    """

    label: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = schedules.CONSTANT
    fixed: frozenset[str] = frozenset()

    @property
    def origin(self) -> OptimizerSource:
        """The optimizer's class or factory."""
        return sources.find(self.source)

    @property
    def rate(self) -> float | None:
        """The learning rate; None for an optimizer without one, or with one that is not a number."""
        rate = self.origin.resolved(self.options).get("lr")
        return float(rate) if isinstance(rate, float | int) else None

    @property
    def recipe_names(self) -> tuple[str, ...]:
        """The names that mean its schedule, in brackets and in a search space: not those that it has itself."""
        return recipe_names(self.origin) if self.origin.takes_schedule else ()

    @property
    def has_own_schedule(self) -> bool:
        """True if its brackets named a schedule."""
        return schedules.SCHEDULE in self.fixed.intersection(self.recipe_names)

    @property
    def slug(self) -> str:
        """The source's last name as a part of a file name."""
        return re.sub(r"[^a-z0-9]+", "-", self.source.rpartition(":")[2].lower()).strip("-")

    def with_options(self, options: Mapping[str, Any]) -> "OptimizerConfig":
        """Return the configuration with these options, and those of its schedule, on top of its own.

        Entries of a tuple have their own names. An option that its schedule does not have at this point is left out.

        Raises:
            UsageError: it has no such option, or refuses the value although it takes what it had before.
        """
        own, timing = _parted(options, self.recipe_names)
        try:
            schedule = str(schedules.read(self.schedule).drawn(timing))
            changed = replace(self, options=self.origin.merged(self.options, own), schedule=schedule)
            refusal = changed.refusal()
        except (ValueError, TypeError) as error:
            changed, refusal = self, str(error)
        if refusal and (changed is self or not self.refusal()):
            point = ", ".join(f"{key}={registry.spell(value)}" for key, value in options.items())
            raise UsageError(f"{self.label} cannot run with {point}: {refusal}; change its search space")
        return changed

    def with_defaults(self, names: Iterable[str]) -> "OptimizerConfig":
        """Return the configuration with the library's defaults for these options, and for those of its schedule."""
        names = set(names)
        schedule = str(schedules.read(self.schedule).without(names.intersection(self.recipe_names)))
        usual = self.origin.resolved({})
        kept = {key: value for key, value in self.options.items() if key not in names}
        single = {
            entry: usual[whole][place]
            for whole, entries in self.origin.entries.items()
            for place, entry in enumerate(entries)
            if whole in kept and entry in names
        }
        return replace(self, options=self.origin.merged(kept, single), schedule=schedule)

    def settings(self, searched: Iterable[str]) -> dict[str, Any]:
        """Return its options, and by name the searched ones of its schedule."""
        timing = [name for name in searched if name in self.recipe_names]
        return {**self.options, **schedules.read(self.schedule).entries(timing)}

    def build(self, of: Trained) -> torch.optim.Optimizer:
        """Return the optimizer of a model, or of parameters or groups.

        An optimizer with modes (schedule-free) is set to training.
        """
        optimizer = self.origin.build(of, self.options)
        to_train = getattr(optimizer, "train", None)
        if callable(to_train):
            to_train()
        return optimizer

    def refusal(self) -> str | None:
        """Return the reason why the optimizer refuses its options, tried on a small matrix; None if it accepts them."""
        try:
            with settings.kept(), seeds.GlobalStream("init", 0).active():
                self.origin.build(matrix(), self.options)
        except Exception as error:  # whatever another library raises
            return user_files.reason(error)
        return None

    def document(self) -> dict[str, Any]:
        """Return the configuration as a record stores it. The digest of the rule's own source is part of it."""
        return dict(self._document)

    @cached_property
    def _document(self) -> dict[str, Any]:
        """The document, made once: all seeds of a study share it."""
        return {
            "label": self.label,
            "name": self.source,
            "given": dict(self.options),
            "options": self.origin.resolved(self.options),
            "schedule": self.schedule,
            "rule_sha256": self.origin.sha256(self.options),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "OptimizerConfig":
        """Return the configuration that `document` described. JSON's lists become tuples again."""
        given = {key: storable(key, value) for key, value in document["given"].items()}
        return cls(document["label"], document["name"], given, document["schedule"])


def parse_config(text: str, settings: Settings, schedule: str = schedules.CONSTANT) -> OptimizerConfig:
    """Read `NAME[key=value,...]`. Options that are not given come from the workload's setting, then from the defaults.

    NAME is one of ours, `MODULE:NAME` or `FILE.py:NAME`. A setting holds for the optimizer however it is spelled: for
    torch's class of the same name and for subclasses too. The brackets may hold a schedule and its options, on top of
    `schedule`. A rule that sets its own steps keeps a constant rate, and so does one whose averages take a schedule's
    place, unless its brackets say otherwise.
    """
    try:
        source, brackets = sources.parse(text)
        origin = sources.find(source)
        given, timing = _parted(brackets, recipe_names(origin))
        of_study = schedule if origin.takes_schedule else schedules.CONSTANT
        usual_schedule = schedules.read(origin.usual_schedule or of_study)
        own_schedule = _schedule(text, origin, timing, usual_schedule)
        setting = _setting(source, origin, settings)
        options = _merged(origin, setting, given)
        usual = origin.resolved(origin.merged(setting, {}))
    except UsageError:
        raise
    except (ValueError, TypeError) as error:
        raise UsageError(f"{text}: {error}") from error
    changed = {key: value for key, value in options.items() if value != usual.get(key)}
    label = origin.label({**changed, **_spelled(own_schedule, usual_schedule, origin)})
    fixed = _fixed(given, origin.entries).union(timing, own_schedule.options.keys() - origin.names)
    return OptimizerConfig(label, source, options, str(own_schedule), fixed)


def recipe_names(origin: OptimizerSource) -> tuple[str, ...]:
    """Return the names in an optimizer's brackets that are its schedule's: it has no options of these names."""
    return tuple(name for name in schedules.KEYS if name not in origin.names)


def _parted(options: Mapping[str, Any], names: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the optimizer's options, and those of its schedule."""
    own = {key: value for key, value in options.items() if key not in names}
    return own, {key: value for key, value in options.items() if key in names}


def _merged(origin: OptimizerSource, setting: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given options on top of a setting. An error about a name lists those of a schedule as well."""
    try:
        return origin.merged(setting, given)
    except ValueError as error:
        if origin.names.issuperset(given) or not origin.takes_schedule:
            raise
        raise type(error)(f"{error}; its schedule is given by {', '.join(recipe_names(origin))}") from error


def _schedule(
    text: str, origin: OptimizerSource, given: Mapping[str, Any], usual: schedules.Schedule
) -> schedules.Schedule:
    if given and not origin.takes_schedule:
        raise UsageError(
            f"{text}: {origin.label({})} finds its own steps and takes no schedule; leave out {', '.join(given)}"
        )
    try:
        return schedules.recipe(given, usual)
    except UsageError as error:
        raise UsageError(f"{text}: {error}") from error


def _spelled(own: schedules.Schedule, usual: schedules.Schedule, origin: OptimizerSource) -> dict[str, Any]:
    """Return the part of a label on the schedule, as the brackets would have it."""
    changes = own.changes(usual)
    return {schedules.SCHEDULE: str(own)} if origin.names.intersection(changes) else changes


def _setting(source: str, origin: OptimizerSource, settings: Settings) -> Mapping[str, Any]:
    """Return the workload's setting under the optimizer's own name, else the part of its twin's that holds for it."""
    setting, twins = own_setting(source, origin, settings)
    if setting is not None or not twins:
        return setting or {}
    adopted = origin.adopted(twins)
    tried = OptimizerConfig(origin.label({}), source, origin.merged(adopted, {}))
    return adopted if tried.refusal() is None else {}  # its constructor settles one of the options itself


def own_setting(
    source: str, origin: OptimizerSource, settings: Settings
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
    """Return two settings of a workload: under the optimizer's own name, if any, and under its twin's."""
    by_source = {sources.parse(name)[0]: options for name, options in settings.items()}
    twins = (options for name, options in by_source.items() if origin.twin and origin.twin == _twin(name))
    return by_source.get(source), next(twins, {})


def _twin(source: str) -> str | None:
    """Return the library's optimizer that a setting's name means; None for a package that is not installed."""
    if ":" not in source:
        return source
    try:
        return sources.find(source).twin
    except UsageError:
        return None


def _fixed(given: Iterable[str], entries: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Return the given names, the entries of tuples among them, and the tuples that have entries among them."""
    names = set(given)
    parts = {entry for whole, members in entries.items() if whole in names for entry in members}
    wholes = {whole for whole, members in entries.items() if names.intersection(members)}
    return frozenset(names | parts | wholes)
