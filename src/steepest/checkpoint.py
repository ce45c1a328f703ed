"""Save and load state dicts: extra entries that we add, and conversion of a saved dict before torch loads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from . import storage
from .fields import STORAGE_OPTIONS, State
from .group import declared_by, kept_by, rules_of
from .kinds import KINDS
from .rule import Rule
from .sharding import outline
from .views import compute_dtype

StateDict = dict[str, Any]
Group = dict[str, Any]

SHOWN = 8
"""Number of entries of a list that an error message shows."""


# -- saving ------------------------------------------------------------------------------------------------------------


def marked(cls: Any, groups: list[Group], saved: StateDict) -> StateDict:
    """Return a state dict as files have it, with marks for coded state.

    Coded state can then not be mistaken for plain state (see `storage.marked`).
    """
    declared = {i: declared_by(cls.rule_for(group, p)) for i, (p, group) in enumerate(_places(groups))}
    state = {
        i: storage.marked(held, declared[i]) if i in declared and isinstance(held, dict) else held
        for i, held in saved["state"].items()
    }
    return {**saved, "state": state}


def plain(cls: Any, groups: list[Group], saved: StateDict) -> StateDict:
    """Return the state dict of the same optimizer without codecs."""
    options = {name: cls.fields[name].default for name in STORAGE_OPTIONS}
    state = {
        i: storage.converted(saved["state"][i], declared_by(cls.rule_for(group, p)), {**group, **options}, p)
        for i, (p, group) in enumerate(_places(groups))
        if i in saved["state"]
    }
    plain_groups = [{**group, **options} for group in saved["param_groups"]]
    return marked(cls, groups, {**saved, "state": state, "param_groups": plain_groups})


def _places(groups: Iterable[Group]) -> list[tuple[Tensor, Group]]:
    return [(p, group) for group in groups for p in group["params"]]


# -- loading -----------------------------------------------------------------------------------------------------------


def fitted(cls: Any, groups: list[Group], state_dict: StateDict, strict_names: bool, keep_dtype: bool) -> StateDict:
    """Return a copy of ``state_dict`` that torch's ``load_state_dict`` can load without harm.

    Args:
        cls: the class of the optimizer that loads the copy.
        groups: that optimizer's groups.
        state_dict: a state dict of this class or of torch's class of the same name.
        strict_names: demand the same parameter names on both sides.
        keep_dtype: keep the dtype of saved state, where torch casts it to the parameter's.

    Raises:
        ValueError: the names or shapes do not fit.
    """
    own, saved = groups, state_dict["param_groups"]
    if strict_names:
        _check_names(cls, own, saved, state_dict["state"])
    in_order = arranged(own, saved)
    fitted_groups = [_with_own_options(cls, *pair) for pair in zip(own, in_order, strict=False)]
    loaded = [_as_loaded(*pair) for pair in zip(own, fitted_groups, strict=False)]
    owners = _owners(loaded, in_order)
    _refuse({"reshaped": _reshaped(cls, state_dict["state"], owners)})
    _refuse_incomplete(cls, state_dict["state"], loaded, in_order)
    _refuse_without_numbers(cls, state_dict["state"], loaded, in_order)
    state = {key: _copied(value) for key, value in state_dict["state"].items()}
    for i, (p, group) in owners.items():
        if i in state:
            state[i] = _loadable(cls.rule_for(group, p), state[i], p, group, keep_dtype)
    return {**state_dict, "state": state, "param_groups": fitted_groups + in_order[len(fitted_groups) :]}


def restore(cls: Any, groups: list[Group], state: Any) -> None:
    """Complete an optimizer's groups and state after torch has loaded or unpickled them.

    Missing options take their defaults, and options that the class settles take its values. Sealed tensors are taken
    out. Counters of older files are restored.
    """
    for group in groups:
        for name, field in cls.fields.items():
            group.setdefault(name, field.default)
            if field.fixed:
                group[name] = field.default
        for p in (p for p in group["params"] if p in state):
            storage.unseal(state[p], p)
            storage.restore_counters(declared_by(cls.rule_for(group, p)), state[p], p, group)


def _loadable(rule: Rule, held: Mapping[str, Any], p: Tensor, group: Group, keep_dtype: bool) -> dict[str, Any]:
    """Return one parameter's state in a form that torch's ``load_state_dict`` can be given.

    torch casts every tensor but "step" to the parameter's dtype. Tensors that must not be cast are sealed. A scalar
    passes as a plain number.
    """
    declared = declared_by(rule)
    held = storage.converted(held, declared, group, p)
    numbers = {s.name: s.kind for s in declared if KINDS[s.kind].is_number}
    coded = {key for name, codec in storage.coding(declared, group, p).items() for key in codec.keys(name)}
    scalars = {name for name, kind in numbers.items() if kind == "scalar"}
    wide = {s.name for s in declared if KINDS[s.kind].is_wide}
    held = {name: x.to(compute_dtype(p.dtype)) if name in wide else x for name, x in held.items()}
    sealed = storage.sealed(held, held.keys() - numbers if keep_dtype else coded | wide)
    return {name: x.item() if name in scalars and isinstance(x, Tensor) else x for name, x in sealed.items()}


def _with_own_options(cls: Any, own: Group, saved: Group) -> Group:
    """Return a saved group with the storage options of ``own`` and the options that the saved group lacks.

    The seed is the saved one, so that the saved run continues with its own random bits.
    """
    lacking = {name: own[name] for name in cls.fields if name not in saved}
    return {**saved, **lacking, **{name: own[name] for name in STORAGE_OPTIONS - {"seed"}}}


def _as_loaded(own: Group, fitted: Group) -> Group:
    """Return one of our groups with the options that it will have after loading.

    Its rule under these options decides which state there is.
    """
    places: Group = {name: own[name] for name in ("params", "param_names") if name in own}
    return {**{name: value for name, value in fitted.items() if name != "param_names"}, **places}


def _owners(groups: Iterable[Group], saved: Iterable[Group]) -> dict[Any, tuple[Tensor, Group]]:
    """Return our parameter and its group for each saved id.

    torch itself reports groups or parameters that differ in number.
    """
    ids = [i for group in saved for i in group["params"]]
    return dict(zip(ids, _places(groups), strict=False))


def _reshaped(cls: Any, state: Mapping[Any, Any], owners: Mapping[Any, tuple[Tensor, Group]]) -> list[str]:
    """Describe each saved state whose shape is not the one that its parameter needs."""
    return [
        f"{_name(p, group)} has shape {tuple(p.shape)}, its {declared.name} {tuple(held[declared.name].shape)}"
        for i, (p, group) in owners.items()
        if isinstance(held := state.get(i), dict)
        for rule in [cls.rule_for(group, p)]
        for declared in declared_by(rule)
        if isinstance(x := held.get(declared.name), Tensor) and _is_reshaped(declared, x, p, group, rule)
    ]


def _is_reshaped(declared: State, x: Tensor, p: Tensor, group: Group, rule: Rule) -> bool:
    """Return whether the shape of saved state differs from the shape that its kind has for the parameter."""
    kind = KINDS[declared.kind]
    if kind.shape is None or kind.is_number:
        return False
    seen = p if rule.view is None or declared.kind == "like" else rule.view(outline(p))
    return tuple(x.shape) != kind.shape_for(seen, group)


def _refuse_incomplete(cls: Any, state: Mapping[Any, Any], own: list[Group], saved: list[Group]) -> None:
    """Raise `ValueError` where a parameter has only a part of the state that it was saved with."""
    places = [
        (i, p, mine, theirs)
        for mine, theirs in zip(own, saved, strict=False)
        for p, i in zip(mine["params"], theirs["params"], strict=False)
    ]
    defaults = {name: field.default for name, field in cls.fields.items()}
    incomplete = [
        f"{_name(p, mine)} has {_listed(sorted(map(str, held)))} and no {declared.name}"
        for i, p, mine, theirs in places
        if isinstance(held := state.get(i), dict) and held
        for declared in cls.rule_for({**defaults, **theirs}, p).state
        if declared.kind != "shared" and declared.where(p) and _was_kept(declared, theirs)
        if storage.is_absent(declared, held)
    ]
    if incomplete:
        raise ValueError(f"the state dict has lost state: {_listed(incomplete)}; load one that is whole")


def _refuse_without_numbers(cls: Any, state: Mapping[Any, Any], own: list[Group], saved: list[Group]) -> None:
    """Raise `ValueError` where groups have state and lack numbers that their parameters share."""
    for mine, theirs in zip(own, saved, strict=False):
        kept = kept_by(dict.fromkeys(rules_of(cls, mine, mine["params"])))
        lacking = [name for name in kept if name not in theirs]
        if lacking and any(state.get(i) for i in theirs["params"]):
            raise ValueError(
                f"the state dict has lost {', '.join(lacking)}, which its groups keep, and {cls.__name__} would start "
                "its search again; load a state dict that has them"
            )


def _was_kept(declared: State, saved: Group) -> bool:
    """Return whether state existed under the options that a group was saved with.

    Older files of torch lack some options. State that depends on a missing option counts as absent.
    """
    try:
        return declared.when(saved)
    except KeyError:
        return False


def _copied(value: Any) -> Any:
    """Return a copy of saved state.

    As in torch, parameters in the state and keys of dictionaries are not copied.
    """
    if isinstance(value, Mapping):
        return {key: _copied(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    return value.detach().clone() if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _refuse(differences: Mapping[str, list[str]]) -> None:
    told = [f"{what}: {_listed(found)}" for what, found in differences.items() if found]
    if told:
        raise ValueError(f"the state dict is of another model than this optimizer's; {'; '.join(told)}")


def _name(p: Tensor, group: Group) -> str:
    index = next(i for i, q in enumerate(group["params"]) if q is p)
    return repr(group["param_names"][index]) if "param_names" in group else f"parameter {index}"


# -- matching by name --------------------------------------------------------------------------------------------------


def arranged(own: list[Group], saved: list[Group]) -> list[Group]:
    """Return the saved groups in the order of our names, if both sides have the same names; else as they are."""
    names = [name for group in own for name in _names(group)]
    places = _named(saved)
    sizes = {sum(len(group["params"]) for group in groups) for groups in (own, saved)}
    if set(names) != places.keys() or {len(names), len(places)} != sizes:
        return saved
    return [_gathered(group, [places[name] for name in group["param_names"]]) for group in own]


def _named(groups: list[Group]) -> dict[str, tuple[Group, Any]]:
    """Return the group and the id, or the parameter, of each name."""
    return {name: (group, i) for group in groups for name, i in zip(_names(group), group["params"], strict=False)}


def _names(group: Group) -> list[str]:
    return list(group.get("param_names", ()))


def _gathered(own: Group, places: list[tuple[Group, Any]]) -> Group:
    """Return one saved group for the names of ``own``, which several saved groups may hold."""
    groups = [group for group, _ in places]
    options = [{k: v for k, v in group.items() if k not in ("params", "param_names")} for group in groups]
    differing = sorted({key for other in options for key in other if other[key] != options[0].get(key, other[key])})
    if differing:
        raise ValueError(
            f"the parameters {_listed(own['param_names'])} are one group here and in groups with other values of "
            f"{', '.join(differing)} in the state dict; construct the optimizer with the groups it was saved with"
        )
    return {**(options[0] if options else {}), "params": [i for _, i in places], "param_names": _names(own)}


def _check_names(cls: Any, own_groups: list[Group], saved: list[Group], state: Mapping[Any, Any]) -> None:
    """Raise `ValueError` with all differences, unless both sides have the same names."""
    for side, groups in (("this optimizer", own_groups), ("the state dict", saved)):
        if any("param_names" not in group for group in groups):
            raise ValueError(
                f"strict_names=True compares parameter names, and {side} has none; construct optimizers with "
                "model.named_parameters(), or load with strict_names=False"
            )
    own, there = _named(own_groups), _named(saved)
    shared = {there[name][1]: (p, group) for name, (group, p) in own.items() if name in there}
    _refuse(
        {
            "missing": [repr(name) for name in own if name not in there],
            "unexpected": [repr(name) for name in there if name not in own],
            "reshaped": _reshaped(cls, state, shared),
        }
    )


def _listed(entries: list[str]) -> str:
    more = len(entries) - SHOWN
    return ", ".join(entries[:SHOWN]) + (f" and {more} more" if more > 0 else "")
