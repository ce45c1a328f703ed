"""Parameter groups of a model: without decay for biases and norms, with a rate for each layer, or by your own rules.

Every function returns a list of groups that any optimizer takes. `print` shows it as a table.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from html import escape
from typing import Any

from torch import nn

from .text import html_table, table

Options = Mapping[str, Any]
Predicate = Callable[[str, nn.Module, nn.Parameter], bool]
Rule = str | Predicate
"""Choice of parameters: a shell pattern of names, or a function of (name, module that holds it, parameter)."""

REST = "rest"
"""Name of the group of all parameters that no rule takes."""

WRAPPED = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Names under which wrappers hold the wrapped module, in addition to ``module``."""


class ParamGroups(list[dict[str, Any]]):
    """Parameter groups, as an optimizer's first argument. `str` is a table of them.

    Attributes:
        remark: a sentence on how the groups were found; may be empty.
    """

    def __init__(self, groups: Sequence[dict[str, Any]] = (), remark: str = "") -> None:
        super().__init__(groups)
        self.remark = remark

    def __str__(self) -> str:
        """Return a table: each group's name, tensors, elements, options, and the names of some parameters."""
        return "\n".join([*table(self._rows()), *([self.remark] if self.remark else [])])

    def _repr_html_(self) -> str:
        """Return the same table for a notebook."""
        return html_table(self._rows()) + (f"<p>{escape(self.remark)}</p>" if self.remark else "")

    def _rows(self) -> list[tuple[str, ...]]:
        return [("group", "tensors", "parameters", "options", "such as"), *map(_row, self)]


def _row(group: dict[str, Any]) -> tuple[str, ...]:
    names, params = _named(group)
    options = ", ".join(
        f"{key}={_short(v)}" for key, v in group.items() if key not in ("params", "name", "param_names")
    )
    count = sum(p.numel() for p in params)
    return str(group["name"]), str(len(params)), f"{count:,}", options or "-", _some(names)


def _named(group: dict[str, Any]) -> tuple[list[str], list[nn.Parameter]]:
    """Return names and parameters. An optimizer takes the groups as its own, and keeps the names in another place."""
    if "param_names" in group:
        return group["param_names"], group["params"]
    return [name for name, _ in group["params"]], [p for _, p in group["params"]]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _some(names: Iterable[str], most: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f", ... ({len(listed) - most} more)" if len(listed) > most else "")


@dataclass(frozen=True)
class Place:
    """A parameter and its places in a model, of which tied weights have several.

    Attributes:
        parameter: the parameter.
        owners: for each place the name without wrappers' prefixes, and the module that holds the parameter there.
    """

    parameter: nn.Parameter
    owners: list[tuple[str, nn.Module]]

    @property
    def name(self) -> str:
        """The name of the first place, without wrappers' prefixes such as ``module.`` and ``_orig_mod.``."""
        return self.owners[0][0]

    def matches(self, predicate: Predicate) -> bool:
        """Return whether a predicate holds in any of the places."""
        return any(predicate(name, module, self.parameter) for name, module in self.owners)


def places(model: nn.Module) -> list[Place]:
    """Return every parameter of a model once, in the model's order, frozen ones too."""
    found: dict[int, Place] = {}
    for prefix, module in _modules(model):
        for local, p in module.named_parameters(recurse=False, remove_duplicate=False):
            place = found.setdefault(id(p), Place(p, []))
            place.owners.append((f"{prefix}{local}", module))
    return list(found.values())


def _modules(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield each module with the prefix of its parameters' names, in the order of `nn.Module.named_modules`."""
    yield prefix, module
    for name, child in module._modules.items():  # named_children leaves out a module that is there twice
        if child is not None:
            yield from _modules(child, prefix if _is_wrapper(module, name) else f"{prefix}{name}.")


def _is_wrapper(module: nn.Module, name: str) -> bool:
    """Return whether a module only wraps the child of that name, as DDP, DataParallel and torch.compile do."""
    if name in WRAPPED:
        return True
    return name == "module" and len(module._modules) == 1 and not module._parameters


def _trainable(model: nn.Module) -> list[Place]:
    """Return the places of the parameters that train.

    Raises:
        TypeError: the argument is not a model.
        ValueError: nothing trains.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"parameter groups are made of a model, a torch.nn.Module, not of a {type(model).__name__}")
    known = places(model)
    train = [place for place in known if place.parameter.requires_grad]
    if not train:
        reason = f"all of its {len(known)} tensors have requires_grad=False" if known else "it has no parameters"
        raise ValueError(f"this {type(model).__name__} has nothing to train: {reason}")
    return train


def _group(name: str, members: Sequence[Place], options: Options) -> dict[str, Any]:
    if reserved := options.keys() & {"params", "name"}:
        raise ValueError(
            f"options of group {name!r} cannot have the key {min(reserved)!r}, which the group sets itself"
        )
    return {"params": [(place.name, place.parameter) for place in members], "name": name, **options}


# -- by rules of one's own -------------------------------------------------------------------------------------------


def by(model: nn.Module, rules: Mapping[str, Rule], /, **options: Options) -> ParamGroups:
    """Put parameters in groups by patterns of their names, or by functions.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
        >>> print(by(model, {"head": "1.*"}, head={"lr": 0.01}))
        group  tensors  parameters  options  such as
        head   2        18          lr=0.01  1.weight, 1.bias
        rest   2        72          -        0.weight, 0.bias

    Args:
        model: the model. Parameters that do not train (``requires_grad=False``) are in no group.
        rules: for each group's name a shell pattern of names (``"encoder.*"``), or a function of the name, the module
            that holds the parameter, and the parameter. Names are without wrappers' prefixes. Tied weights match by
            any of their names.
        options: each group's options, such as ``head={"lr": 0.01}``. Parameters that no rule takes are in the group
            ``rest``, whose options may be given too.

    Raises:
        TypeError: a rule is neither pattern nor function, or a group's options are not a dict.
        ValueError: a group is empty, two groups take one parameter, or options are for a group that does not exist.
    """
    predicates = {name: _predicate(name, rule) for name, rule in rules.items()}
    _check_options(predicates, options)
    train = _trainable(model)
    taken: dict[str, list[Place]] = {name: [] for name in (*predicates, REST)}
    for place in train:
        holders = [name for name, predicate in predicates.items() if place.matches(predicate)]
        if len(holders) > 1:
            both = " and ".join(map(repr, holders))
            raise ValueError(f"parameter {place.name!r} falls in groups {both}; make their rules exclude each other")
        taken[holders[0] if holders else REST].append(place)
    for name, held in taken.items():
        if not held and (name in predicates or name in options):
            raise ValueError(_empty(name, rules.get(name), train))
    return ParamGroups([_group(name, held, options.get(name, {})) for name, held in taken.items() if held])


def _predicate(name: str, rule: object) -> Predicate:
    if name == REST:
        raise ValueError(f"{REST!r} is the group of what no rule takes; give your group another name")
    if isinstance(rule, str):
        return lambda held, module, p: fnmatchcase(held, rule)
    if callable(rule):
        return rule
    form = "a pattern such as 'head.*', or a function of (name, module, parameter)"
    raise TypeError(f"the rule of group {name!r} must be {form}, not {rule!r}")


def _check_options(names: Mapping[str, Predicate], options: Mapping[str, object]) -> None:
    allowed = [*names, REST]
    for name, value in options.items():
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"there are options for a group {name!r}{hint} (groups: {', '.join(allowed)})")
        if not isinstance(value, Mapping):
            raise TypeError(f"options of group {name!r} must be a dict such as {{'lr': 0.1}}, not {value!r}")


def _empty(name: str, rule: Rule | None, train: Sequence[Place]) -> str:
    matched = f"the pattern {rule!r} matches" if isinstance(rule, str) else "its function takes" if rule else "it has"
    known = _some((place.name for place in train), 8)
    return f"group {name!r} is empty: {matched} none of the {len(train)} parameters that train, such as {known}"


# -- without decay ---------------------------------------------------------------------------------------------------


def no_decay(
    model: nn.Module,
    *,
    weight_decay: float | None = None,
    embeddings: bool = True,
    also: Sequence[str] = (),
    **options: Any,
) -> ParamGroups:
    """Leave biases, the weights of norms, and embeddings out of weight decay.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
        >>> print(no_decay(model, weight_decay=0.1))
        group     tensors  parameters  options           such as
        decay     1        64          weight_decay=0.1  0.weight
        no decay  3        24          weight_decay=0    0.bias, 1.weight, 1.bias

    Args:
        model: the model. Parameters that do not train are in no group.
        weight_decay: decay of all others; None leaves it to the optimizer, as a study does that searches it.
        embeddings: whether embeddings do not decay. A weight that is tied to an embedding counts as one.
        also: patterns of further names that do not decay, such as ``"*.gamma"`` or ``"pos_embed"``.
        options: options of both groups, such as ``lr``.

    Raises:
        ValueError: nothing is left to decay, or a pattern matches nothing. A model without biases, norms and
            embeddings has only one group.
    """
    train = _trainable(model)
    exempt = _exemption(train, embeddings, also)
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    groups = ParamGroups(_split(train, exempt, {**options, **decay}, "{}"))
    if groups[0]["name"] != "decay":
        known = _some((place.name for place in train), 8)
        raise ValueError(
            f"group 'decay' is empty: all that trains are biases, norms and exempted names, such as {known}"
        )
    return groups


def _exemption(train: Sequence[Place], embeddings: bool, also: Sequence[str]) -> Predicate:
    """Return the predicate of what does not decay."""
    if isinstance(also, str):
        raise TypeError(f"also takes a list of patterns, not the text {also!r}; write [{also!r}]")
    patterns = [_predicate("also", pattern) for pattern in also]
    for pattern, predicate in zip(also, patterns, strict=True):
        if not any(place.matches(predicate) for place in train):
            raise ValueError(_empty("no decay", pattern, train))
    kinds = [is_bias, is_of_norm, *([is_of_embedding] if embeddings else []), *patterns]
    return lambda name, module, p: any(kind(name, module, p) for kind in kinds)


def _split(members: Sequence[Place], exempt: Predicate, options: Options, title: str) -> list[dict[str, Any]]:
    """Return the groups of what decays and of what does not; an empty one is left out."""
    parts: dict[str, list[Place]] = {"decay": [], "no decay": []}
    for place in members:
        parts["no decay" if place.matches(exempt) else "decay"].append(place)
    decays = {"decay": options, "no decay": {**options, "weight_decay": 0}}
    return [_group(title.format(part), held, decays[part]) for part, held in parts.items() if held]


def is_bias(name: str, module: nn.Module, p: nn.Parameter) -> bool:
    """Return whether a parameter is a bias by its name: ``bias``, ``in_proj_bias``, ``bias_ih_l0``."""
    return "bias" in name.rpartition(".")[2].split("_")


def is_of_norm(name: str, module: nn.Module, p: nn.Parameter) -> bool:
    """Return whether a norm holds a parameter: one of torch's, or vectors of a class with ``norm`` in its name."""
    norms = [kind for kind in type(module).__mro__ if "norm" in kind.__name__.lower()]
    return any(p.dim() <= 1 or kind.__module__.startswith("torch.nn.modules.") for kind in norms)


def is_of_embedding(name: str, module: nn.Module, p: nn.Parameter) -> bool:
    """Return whether an embedding holds a parameter."""
    return isinstance(module, (nn.Embedding, nn.EmbeddingBag))


# -- matrices --------------------------------------------------------------------------------------------------------


def for_matrices(model: nn.Module, *, stacks: bool = False) -> ParamGroups:
    """Divide a model into hidden matrices, for rules such as Muon's, and all other parameters, for AdamW.

    Example:
        >>> model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9))
        >>> print(for_matrices(model))
        group     tensors  parameters  options         such as
        matrices  1        64          use_muon=True   1.weight
        others    4        161         use_muon=False  0.weight, 1.bias, 2.weight, ... (1 more)

    A matrix has two dimensions or more that are not of size 1. Embeddings are not hidden, nor weights tied to one, nor
    parameters of the model's own with ``emb`` in their name. The head, the last linear layer, is not hidden either. A
    parameter with three dimensions or more is a matrix where a convolution or a recurrent layer holds it.

    Args:
        model: the model. Parameters that do not train are in no group.
        stacks: whether other parameters with three dimensions or more are matrices too, such as stacked experts.

    Raises:
        ValueError: nothing is a hidden matrix.
    """
    train = _trainable(model)
    linear = [module for _, module in _modules(model) if isinstance(module, nn.Linear)]
    head = linear[-1] if linear else None

    def is_hidden(place: Place) -> bool:
        if sum(size != 1 for size in place.parameter.shape) < 2:
            return False
        if any(module is head or is_of_embedding(name, module, place.parameter) for name, module in place.owners):
            return False
        if any("emb" in name.rpartition(".")[2].lower() for name, _ in place.owners):
            return False
        known = any(isinstance(module, HOLDERS_OF_MATRICES) for _, module in place.owners)
        return place.parameter.dim() == 2 or known or stacks

    chosen = [place for place in train if is_hidden(place)]
    others = [place for place in train if not is_hidden(place)]
    if not chosen:
        known = _some((f"{place.name} {tuple(place.parameter.shape)}" for place in train), 8)
        raise ValueError(
            f"this {type(model).__name__} has no hidden matrix: all that trains are embeddings, the head (the last "
            f"linear layer), vectors and numbers, such as {known}; train it with AdamW"
        )
    made = [_group("matrices", chosen, {"use_muon": True})]
    return ParamGroups([*made, *([_group("others", others, {"use_muon": False})] if others else [])])


HOLDERS_OF_MATRICES = (nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase)
"""Modules whose parameters of three dimensions or more are matrices, with a row for each index of the first."""


# -- layer by layer --------------------------------------------------------------------------------------------------


def layerwise(
    model: nn.Module,
    *,
    lr: float,
    decay: float = 0.75,
    layers: str | Sequence[str] | None = None,
    weight_decay: float | None = None,
    **options: Any,
) -> ParamGroups:
    """Give each layer a learning rate of its own: the last level ``lr``, each earlier one ``decay`` times the next.

    Levels are what comes before the layers (embeddings), each layer, and what comes after them (the head). Layers are
    the children of the model's longest `ModuleList` or `Sequential`: of the one with the most children that have
    parameters, then of the one with the most parameters. Parameters between two layers belong to the earlier one.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> print(layerwise(model, lr=0.1, decay=0.5))
        group    tensors  parameters  options   such as
        layer 0  2        72          lr=0.025  0.weight, 0.bias
        layer 1  2        72          lr=0.05   1.weight, 1.bias
        layer 2  2        18          lr=0.1    2.weight, 2.bias
        layers: the 3 children with parameters of the model itself, a Sequential; layers="NAME" names another

    Args:
        model: the model. Parameters that do not train are in no group; their layers count all the same.
        lr: rate of the last level.
        decay: ratio of the rates of two levels.
        layers: name of the module whose children are the layers, or the names of the layers from first to last.
        weight_decay: decay; biases, norms and embeddings are then groups of their own, as in `no_decay`.
        options: options of all groups.

    Raises:
        ValueError: no layers are found, a name does not exist, or a number is out of bounds.
    """
    if not (0 < decay <= 1 and lr > 0):
        raise ValueError(f"layerwise takes lr > 0 and 0 < decay <= 1, not lr={lr!r} and decay={decay!r}")
    train = _trainable(model)
    found = _layers(model, layers)
    levels = _levels(model, found.prefixes)
    last = max(levels.values())
    exempt = None if weight_decay is None else _exemption(train, embeddings=True, also=())
    groups: list[dict[str, Any]] = []
    for level in range(last + 1):
        members = [place for place in train if levels[place.name] == level]
        title = _title(level, len(found.prefixes))
        own = {**options, "lr": lr * decay ** (last - level)}
        if exempt is not None:
            groups += _split(members, exempt, {**own, "weight_decay": weight_decay}, title + ", {}")
        elif members:
            groups.append(_group(title, members, own))
    return ParamGroups(groups, found.remark)


@dataclass(frozen=True)
class Layers:
    """Layers of a model: the prefixes of their parameters' names, first to last, and a sentence on the choice."""

    prefixes: list[str]
    remark: str


def _layers(model: nn.Module, wanted: str | Sequence[str] | None) -> Layers:
    known = dict(_modules(model))  # of a wrapper and its module the module stays
    if isinstance(wanted, str):
        return _children(_prefix(wanted, known), known[_prefix(wanted, known)])
    if wanted is not None:
        prefixes = [_prefix(name, known) for name in wanted]
        if empty := [name for name, prefix in zip(wanted, prefixes, strict=True) if not _size(known[prefix])]:
            raise ValueError(f"layer {empty[0]!r} has no parameters; leave it out")
        return Layers(prefixes, f"layers: {', '.join(wanted)}, as given")
    lists = [(p, m) for p, m in known.items() if isinstance(m, (nn.ModuleList, nn.Sequential))]
    sizes = {prefix: (len(_with_parameters(module)), _size(module)) for prefix, module in lists}
    prefix = max(sizes, key=lambda p: sizes[p], default="")
    if not sizes or sizes[prefix][0] < 2:
        children = ", ".join(name for name, child in model.named_children() if _size(child))
        raise ValueError(
            f"found no layers: no ModuleList or Sequential of this {type(model).__name__} has two children with "
            f"parameters; name the layers, first to last, as layers=[...] (its own children: {children})"
        )
    return _children(prefix, known[prefix])


def _children(prefix: str, module: nn.Module) -> Layers:
    held = _with_parameters(module)
    if len(held) < 2:
        raise ValueError(f"{prefix[:-1]!r} has {len(held)} children with parameters; layers are two or more")
    place = f"of {prefix[:-1]!r}" if prefix else "of the model itself"
    remark = f'layers: the {len(held)} children with parameters {place}, a {type(module).__name__}; layers="NAME" names'
    return Layers([f"{prefix}{name}." for name in held], f"{remark} another")


def _with_parameters(module: nn.Module) -> list[str]:
    return [name for name, child in module._modules.items() if child is not None and _size(child)]


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _prefix(name: str, known: Mapping[str, nn.Module]) -> str:
    """Return the prefix of a module that the user has named."""
    prefix = f"{name}." if name else ""
    if prefix not in known:
        names = [known_prefix[:-1] for known_prefix in known if known_prefix]
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"the model has no module {name!r}{hint} (there are: {_some(names, 8)})")
    return prefix


def _levels(model: nn.Module, prefixes: Sequence[str]) -> dict[str, int]:
    """Return the level of each parameter by its name: 0 before the layers, then 1, 2, ..., and one more after them."""
    levels: dict[str, int] = {}
    begun: list[int] = []
    for place in places(model):
        layer = next((i for i, prefix in enumerate(prefixes, 1) if place.name.startswith(prefix)), 0)
        if layer:
            begun.append(layer)
        outside = len(prefixes) + 1 if len({*begun}) == len(prefixes) else max(begun, default=0)
        levels[place.name] = layer or outside
    return levels


def _title(level: int, layers: int) -> str:
    return "before" if level == 0 else "after" if level > layers else f"layer {level - 1}"
