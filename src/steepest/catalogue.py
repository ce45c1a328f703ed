"""Catalogue of optimizers: build one by its name, list the names, and say what is known about one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Literal, overload

import torch
from torch import nn
from torch.optim.optimizer import ParamsT

from . import registry
from .executors.choose import runnable
from .fields import Field, Options
from .group import GroupSpec
from .optimizer import Optimizer
from .text import range_in_words, table
from .wrappers import Wrapper

Need = Literal["closure", "sparse", "matrices", "estimates", "loss"]
NEEDS: Mapping[Need, str] = MappingProxyType(
    {
        "closure": "step() takes a closure, which evaluates the loss anew",
        "sparse": "gradients are sparse tensors",
        "matrices": "parameters are matrices",
        "estimates": "estimates of the Hessian's diagonal are fed between steps (update_hessian)",
        "loss": "step(loss=loss), or a closure that returns it, tells the loss of the gradients",
    }
)
"""Demands that an optimizer may have, in words."""


Wrapping = Literal["asam", "extragradient", "gsam", "mechanic", "outer", "sam"]


@overload
def create(name: Wrapping, params: nn.Module | ParamsT, /, **options: Any) -> Wrapper: ...


@overload
def create(name: str, params: nn.Module | ParamsT, /, **options: Any) -> Optimizer: ...


def create(name: str, params: nn.Module | ParamsT, /, **options: Any) -> Optimizer | Wrapper:
    """Build an optimizer by its name.

    Example:
        >>> model = nn.Linear(10, 1)
        >>> create("lion", model, lr=1e-4)  # doctest: +ELLIPSIS
        Lion (...
        >>> create("sam", model, base="adamw", rho=0.1, lr=1e-3)  # doctest: +ELLIPSIS
        SAM(rho=0.1, ...) around AdamW (...

    Args:
        name: a class's name or an alias, such as ``"adamw"`` or ``"signsgd"``; case, ``-`` and ``_`` do not matter. A
            wrapper such as ``"sam"`` is built around ``base``, a name or a class, and options that it does not have
            are for that.
        params: a model, whose named parameters are taken; or parameters, named parameters or groups, as in torch.
        options: options of the class. An entry of a tuple has its own name: ``beta2`` of ``betas``.

    Raises:
        UnknownNameError: the name does not exist; the message has the close match.
        TypeError: an option does not exist (with the close match and all options), or an argument of another type.
        ValueError: a model without parameters, or a value that is not allowed.
    """
    _check_name(name)
    cls = registry.wrapper(name)
    if cls is not None:
        own, others = cls.parted(options)
        return cls(_inside(others.pop("base", cls.usual_base), params, others), **own)
    meaning = registry.look_up(name)
    return meaning.cls.over(params, **meaning.merged(options))


def _inside(base: Any, params: nn.Module | ParamsT, options: Options) -> torch.optim.Optimizer:
    """Return the optimizer for a wrapper to be built around, by its name or class."""
    if isinstance(base, str):
        return create(base, params, **options)
    if isinstance(base, type) and issubclass(base, Optimizer):
        return base.over(params, **options)
    if not callable(base):
        raise TypeError(f"base must be an optimizer's name or class, not {base!r}")
    made: torch.optim.Optimizer = base(params.parameters() if isinstance(params, nn.Module) else params, **options)
    return made


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        kind = f"class, {name.__name__}" if isinstance(name, type) else type(name).__name__
        order = 'create takes a name first, then the model: create("adamw", model, lr=1e-3)'
        raise TypeError(f"{order}; the first argument is a {kind}")
    if "[" in name:
        raise registry.UnknownNameError(f"{name!r} is not a name; options are arguments: create('adam', model, lr=0.1)")


def names(pattern: str = "*", *, aliases: bool = False) -> list[str]:
    """Return the sorted names of all optimizers, or of those that match a pattern.

    Example:
        >>> names("sgd*")
        ['sgd', 'sgdp', 'sgdschedulefree']

    Args:
        pattern: a shell pattern such as ``"adam*"``; case, ``-`` and ``_`` do not matter.
        aliases: whether to return aliases too.
    """
    plain = re.sub(r"[-_\s](?![^\[]*\])", "", pattern).lower()
    known = [*registry.optimizers(), *(registry.aliases() if aliases else ())]
    return sorted(name for name in known if fnmatchcase(name, plain))


@dataclass(frozen=True)
class Info:
    """Facts about an optimizer under some options, all from its declarations.

    Attributes:
        name: the class's name in lower case.
        optimizer: the class.
        title: the class in a sentence.
        options: the options that differ from the defaults: those that an alias stands for, for example.
        kind: the kind of its rule, such as ``pointwise``, ``per_tensor``, ``matrix`` or ``driver``.
        executors: the executors that can run it on this machine's CPU, the preferred one first.
        state_bytes: bytes of state per float32 parameter, for a matrix of a million elements. State that all parameters
            share is not counted.
        fields: the arguments of the constructor by name. Each has its default, bounds (``low``, ``high``), allowed
            words (``choices``), search range (``search``) and meaning (``doc``).
        needs: what a training loop or a model must have for it; see `NEEDS`.
        source: the citation.
        use: when to choose it, and over which other one; empty where its class does not say.
        caveats: evidence against it, with its source; empty where its class names none.
        aliases: other names, with the options that they stand for.
    """

    name: str
    optimizer: type[Optimizer]
    title: str
    options: Options
    kind: str
    executors: tuple[str, ...]
    state_bytes: float
    fields: Mapping[str, Field] = field(repr=False)
    needs: tuple[Need, ...]
    source: str
    use: str
    caveats: str
    aliases: Mapping[str, Options]

    def __str__(self) -> str:
        """Return the facts as a short page."""
        facts = {
            "kind": self.kind.replace("_", "-"),
            "state": state_in_words(self._recipe),
            "executors": ", ".join(self.executors),
            "needs": "; ".join(NEEDS[need] for need in self.needs) or "nothing special",
            "aliases": registry.in_words(self.aliases) or "none",
            "source": self.source,
            **{title: text for title, text in (("use", self.use), ("caveats", self.caveats)) if text},
        }
        head = [self._recipe.label, self.title, "", *table(list(facts.items()))]
        rows = [("option", "default", "allowed", "searched")]
        rows += [(f.name, str(f.default), f.allowed, range_in_words(f)) for f in self.fields.values()]
        return "\n".join([*head, "", *table(rows)])

    @property
    def _recipe(self) -> registry.Recipe:
        return registry.Recipe(self.name, self.options)


def info(name: str) -> Info:
    """Return what is known about an optimizer.

    Example:
        >>> info("adam").state_bytes
        8.0
        >>> info("signsgd").options
        {'momentum': 0}

    Args:
        name: a class's name or an alias, perhaps with options: ``"adam[amsgrad=true]"``.

    Raises:
        UnknownNameError: the optimizer or an option does not exist.
        ValueError: a value is not allowed.
    """
    recipe = registry.parse(name)
    cls, options = recipe.optimizer, recipe.resolved()
    about = sections(cls)
    return Info(
        name=recipe.name,
        optimizer=cls,
        title=about[""].partition("\n")[0],
        options=dict(recipe.options),
        kind=cls.rule_for(options).kind,
        executors=runnable(_spec(recipe, torch.zeros(2, 2))),
        state_bytes=state_bytes(recipe),
        fields=MappingProxyType({f.name: f for f in cls.fields.values() if not f.fixed}),
        needs=tuple(_needs(cls, options)),
        source=about.get("Source", ""),
        use=about.get("Use", ""),
        caveats=about.get("Caveats", ""),
        aliases=registry.declared_aliases(cls),
    )


def sections(cls: type[Optimizer]) -> dict[str, str]:
    """Return the sections of a class's docstring by title, each as one line; under ``""`` the text before the first.

    Example:
        >>> sections(registry.find("adamw"))["Use"].partition(":")[0]
        'Choose it first for transformers and everything with embeddings'
    """
    before, *parts = re.split(r"^(\w+):\n(?=[ \t])", inspect.cleandoc(cls.__doc__ or ""), flags=re.MULTILINE)
    titled = zip(parts[::2], parts[1::2], strict=True)
    return {"": before.strip(), **{title: " ".join(text.split()) for title, text in titled}}


def state_bytes(recipe: registry.Recipe) -> float:
    """Return the bytes of state per parameter of a float32 matrix of a million elements, to two places.

    The matrix is on the meta device, so that no memory is taken.
    """
    probe = torch.zeros(1000, 1000, device="meta")
    states: dict[Any, dict[str, Any]] = {probe: {}}
    _spec(recipe, probe).create_state(states, probe)
    held = [value for value in states[probe].values() if isinstance(value, torch.Tensor)]
    return round(sum(value.numel() * value.element_size() for value in held) / probe.numel(), 2)


def state_in_words(recipe: registry.Recipe) -> str:
    """Return how much state an optimizer keeps, as a phrase."""
    rule = recipe.optimizer.rule_for(recipe.resolved())
    shared = " and what all share, which grows as it runs" if any(s.kind == "shared" for s in rule.state) else ""
    return f"{state_bytes(recipe):g} bytes per float32 parameter{shared}"


def _spec(recipe: registry.Recipe, p: torch.Tensor) -> GroupSpec:
    return GroupSpec.of(recipe.optimizer, recipe.build([p]).param_groups[0], p)


def _needs(cls: type[Optimizer], options: Options) -> list[Need]:
    found: dict[Need, bool] = {
        "closure": cls.needs_closure(options),
        "sparse": cls.rule_for(options).sparse == "lazy",
        "matrices": not _takes_vectors(cls),
        "estimates": cls.takes_estimates,
        "loss": cls.needs_loss(options),
    }
    return [need for need, is_needed in found.items() if is_needed]


def _takes_vectors(cls: type[Optimizer]) -> bool:
    try:
        cls([torch.zeros(2)])
    except ValueError:
        return False
    return True
