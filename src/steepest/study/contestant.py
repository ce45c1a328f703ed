"""One optimizer in a study: what it is run with, and the name that tables and curves give it."""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steepest import registry
from steepest.registry import Recipe
from steepest.study.errors import UsageError


@dataclass(frozen=True)
class Contestant:
    """A recipe under a label: the optimizer's name, and in brackets what differs from the workload's setting.

    >>> contestant("adam[eps=0.1]", {"adam": {"lr": 0.01}}).label
    'Adam[eps=0.1]'
    >>> contestant("adam[lr=0.01]", {"adam": {"lr": 0.01}}).label
    'Adam'
    """

    label: str
    recipe: Recipe

    def document(self) -> dict[str, Any]:
        """Return what a record says about it; the rule's own source is part of what its numbers depend on."""
        options = self.recipe.resolved()
        source = inspect.getsource(self.recipe.optimizer.rule_for(options).fn)
        return {
            "label": self.label,
            "name": self.recipe.name,
            "options": options,
            "rule_sha256": hashlib.sha256(source.encode()).hexdigest(),
        }


def contestant(text: str, settings: Mapping[str, Mapping[str, Any]]) -> Contestant:
    """Read `NAME[key=value,...]`; what is not given is the workload's setting, and then the optimizer's default."""
    try:
        given = registry.parse(text)
        setting = Recipe(given.name, settings.get(given.name, {}))
    except ValueError as error:
        raise UsageError(str(error)) from error
    usual = setting.resolved()
    changed = {key: value for key, value in given.options.items() if value != usual[key]}
    return Contestant(Recipe(given.name, changed).label, given.with_defaults(setting.options))
