"""Other libraries that have some of the same rules: where their classes are and how they are constructed.

They are optional (extra ``bench``); a library that is not installed is named and left out.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

from torch.optim import Optimizer


@dataclass(frozen=True)
class Peer:
    """One library.

    Attributes:
        package: its name for pip.
        module: the module that holds its optimizers.
        classes: its class of each of our rules, by our class's name. Only classes of its own: several libraries pass
            torch's on, which are measured anyway.
        renamed: our hyperparameters that have another name there.
        extra: further arguments that its constructors need.
        made_ready_by: a method to call once before the first step.
    """

    package: str
    module: str
    classes: Mapping[str, str]
    renamed: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    made_ready_by: str | None = None

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        if importlib.util.find_spec(self.module.partition(".")[0]) is None:
            return None
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return "of unknown version"

    def optimizer(self, name: str) -> Callable[..., Optimizer]:
        """Import its class of our rule ``name``."""
        cls: Callable[..., Optimizer] = getattr(importlib.import_module(self.module), self.classes[name])
        return cls


PEERS: Final = (
    Peer(
        package="pytorch_optimizer",
        module="pytorch_optimizer",
        classes={"Adadelta": "AdaDelta", "Adamax": "AdaMax", "NovoGrad": "NovoGrad", "RAdam": "RAdam"},
    ),
    Peer(
        package="heavyball",
        module="heavyball",
        classes={"AdamW": "AdamW", "NAdam": "NAdam", "RMSprop": "RMSprop", "SGD": "SGD"},
        renamed={"momentum": "beta"},
        extra={"consume_grad": False},  # by default a step takes the gradients away, and the next has nothing to do
    ),
    Peer(
        package="torch-optimi",
        module="optimi",
        classes={"Adam": "Adam", "AdamW": "AdamW", "RAdam": "RAdam", "SGD": "SGD"},
    ),
    Peer(
        # The schedule-free form of a rule is another rule, with the same number of averages to keep.
        package="schedulefree",
        module="schedulefree",
        classes={"AdamW": "AdamWScheduleFree", "RAdam": "RAdamScheduleFree", "SGD": "SGDScheduleFree"},
        made_ready_by="train",
    ),
    Peer(
        package="timm",
        module="timm.optim",
        classes={
            "AdamW": "AdamWLegacy",
            "NAdam": "NAdamLegacy",
            "NovoGrad": "NvNovoGrad",
            "RAdam": "RAdamLegacy",
            "RMSprop": "RMSpropTF",
        },
    ),
)
"""All libraries that can be compared with."""


def installed() -> dict[str, str]:
    """Return the versions of the installed libraries, by package."""
    return {peer.package: peer.version for peer in PEERS if peer.version is not None}


def absent() -> list[str]:
    """Return the packages that are not installed."""
    return [peer.package for peer in PEERS if peer.version is None]
