"""One optimizer in a study: what it is run with, and the name that tables and curves give it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from steepest.study import origins, schedules
from steepest.study.errors import UsageError
from steepest.study.origins import Origin


@dataclass(frozen=True)
class Contestant:
    """An optimizer with options and a learning-rate schedule, under a label.

    Attributes:
        label: the optimizer's name, and in brackets what differs from the workload's setting.
        source: where it comes from: a name of ours, `MODULE:NAME` or `FILE.py:NAME`.
        options: the options that it is built with; all others keep their defaults. Plain data.
        schedule: name of the schedule, see `steepest.study.schedules`.
        fixed: names of the options that were given for it, which a search leaves alone.

    >>> contestant("adam[eps=0.1]", {"adam": {"lr": 0.01}}).label
    'Adam[eps=0.1]'
    >>> contestant("adam[lr=0.01]", {"adam": {"lr": 0.01}}).label
    'Adam'
    """

    label: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = schedules.CONSTANT
    fixed: frozenset[str] = frozenset()

    @property
    def origin(self) -> Origin:
        """The optimizer's class or factory."""
        return origins.find(self.source)

    @property
    def slug(self) -> str:
        """The source's last name as a part of a file name."""
        return re.sub(r"[^a-z0-9]+", "-", self.source.rpartition(":")[2].lower()).strip("-")

    def with_options(self, options: Mapping[str, Any]) -> "Contestant":
        """Return it with these options on top of its own; an entry of a tuple is given by its own name."""
        return replace(self, options=self.origin.merged(self.options, options))

    def with_defaults(self, names: Iterable[str]) -> "Contestant":
        """Return it with the library's default for these options, however it was set."""
        kept = {key: value for key, value in self.options.items() if key not in names}
        return replace(self, options=self.origin.merged({}, kept))

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer over the model's parameters."""
        return self.origin.build(model.parameters(), self.options)

    def document(self) -> dict[str, Any]:
        """Return what a record says about it; the rule's own source is part of what its numbers depend on."""
        return {
            "label": self.label,
            "name": self.source,
            "given": dict(self.options),
            "options": self.origin.resolved(self.options),
            "schedule": self.schedule,
            "rule_sha256": self.origin.sha256(self.options),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "Contestant":
        """Return what `document` described."""
        return cls(document["label"], document["name"], document["given"], document["schedule"])


def contestant(text: str, settings: Mapping[str, Mapping[str, Any]], schedule: str = schedules.CONSTANT) -> Contestant:
    """Read `NAME[key=value,...]`; what is not given is the workload's setting, and then the optimizer's default.

    NAME is one of ours, `MODULE:NAME` or `FILE.py:NAME`. A rule that sets its own steps keeps a constant rate.
    """
    try:
        source, given = origins.parse(text)
        origin = origins.find(source)
        setting = settings.get(source, {})
        usual = origin.resolved(setting)
        options = origin.merged(setting, given)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    changed = {key: value for key, value in given.items() if value != usual.get(key)}
    kept = schedule if origin.takes_schedule else schedules.CONSTANT
    return Contestant(origin.label(changed), source, options, kept, frozenset(given))
