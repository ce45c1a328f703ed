"""The shell: a real torch.optim.Optimizer whatever one does to it between two steps."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import steepest
from cases import (
    CLASSES,
    PLANNED,
    PLANNED_TWINS,
    SWITCHES,
    TWINS,
    Options,
    Twins,
    alternatives,
    assert_same,
    backward,
    decaying,
    defaults,
    every_class,
    every_executor,
    every_native_class,
    every_planned_class,
    every_pointwise_executor,
    hyperparameters,
    is_valid,
    loss_of,
    same,
    snapshot,
    through_file,
    train,
)
from steepest import Optimizer, fields

every_twin = pytest.mark.parametrize("twins", TWINS.values(), ids=list(TWINS))
every_planned_twin = pytest.mark.parametrize("twins", PLANNED_TWINS.values(), ids=list(PLANNED_TWINS))
DRIVERS = {name: cls for name, cls in CLASSES.items() if cls.needs_closure(defaults(cls))}


SHAPES = [(3, 4), (5,), ()]


def tensors(dtype: torch.dtype = torch.float32, seed: int = 1) -> list[torch.nn.Parameter]:
    """Three parameters; the same values for the same seed."""
    source = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=source, dtype=dtype)) for shape in SHAPES]


def shown(executor: str, cls: type[Optimizer]) -> Options:
    """The switch for an executor, where the class has one."""
    return SWITCHES[executor] if "foreach" in cls.fields else {}


def moved(optimizer: torch.optim.Optimizer, steps: int = 1) -> list[Tensor]:
    """The parameters after some steps."""
    train(optimizer, steps)
    return [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]


def assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert all(same(a, b) for a, b in zip(ours, theirs, strict=True)), (ours, theirs)


def assert_near(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer, tolerance: float = 2e-5) -> None:
    """float32 against torch over tens of steps: 2e-5 of the largest element, some 200 eps."""
    for (p, _), (q, _) in zip(snapshot(ours), snapshot(theirs), strict=True):
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)


# -- groups and parameters -------------------------------------------------------------------------------------------


@every_planned_class
@every_executor
def test_groups_have_their_own_options(cls: type[Optimizer], executor: str) -> None:
    """Two groups are two optimizers."""
    for name, field in hyperparameters(cls).items():
        value = alternatives(field)[0]
        if not is_valid(cls, {name: value}):
            continue
        params, alone, other = tensors(), tensors(), tensors()
        switch = SWITCHES[executor]
        together = cls([{"params": params[:1]}, {"params": params[1:], name: value}], **switch)
        first, second = cls(alone[:1], **switch), cls(other[1:], **{name: value}, **switch)
        for _ in range(3):
            give_all([params, alone, other])
            for optimizer in (together, first, second):
                optimizer.step()
        assert_equal(params, [*alone[:1], *other[1:]])


def give_all(columns: list[list[torch.nn.Parameter]], seed: int = 5) -> None:
    """The same gradients for the same places."""
    for column in columns:
        for p, g in zip(column, tensors(column[0].dtype, seed), strict=True):
            p.grad = g.detach().clone()


@every_planned_class
@every_executor
def test_a_group_added_late_starts_at_its_first_step(cls: type[Optimizer], executor: str) -> None:
    params, alone = tensors(), tensors()
    optimizer = cls(params[:1], **SWITCHES[executor])
    give_all([params, alone])
    optimizer.step()
    optimizer.step()
    optimizer.add_param_group({"params": params[1:]})
    optimizer.step()
    fresh = cls(alone[1:], **SWITCHES[executor])
    fresh.step()
    assert_equal(params[1:], alone[1:])


@every_planned_class
@every_executor
def test_frozen_parameters_rest_and_count_their_own_steps(cls: type[Optimizer], executor: str) -> None:
    """Each parameter ends where an optimizer of its own would have taken it."""
    together, alone = tensors(), tensors()
    optimizer = cls(together, ema_decay=0.5, **SWITCHES[executor])
    singles = [cls([p], ema_decay=0.5, **SWITCHES[executor]) for p in alone]
    awake = [(0, 1, 2), (0,), (0, 2), (1, 2), (), (0, 1, 2), (0, 1, 2), (2,), (0, 1, 2)]
    for seed, active in enumerate(awake):
        give_all([together, alone], seed)
        for index in range(3):
            if index not in active:
                together[index].grad = alone[index].grad = None
        optimizer.step()
        for single in singles:
            single.step()
    assert_equal(together, alone)
    for (_, held), single in zip(snapshot(optimizer), singles, strict=True):
        ((_, other),) = snapshot(single)
        assert list(held) == list(other)
        assert all(same(held[name], other[name]) for name in held)


@every_planned_class
def test_a_parameter_without_gradient_is_untouched(cls: type[Optimizer]) -> None:
    params = tensors()
    optimizer = cls(params, **decaying(cls))
    give_all([params])
    params[1].grad = None
    before = params[1].detach().clone()
    optimizer.step()
    assert same(params[1], before)
    assert not {k for k in optimizer.state.get(params[1], {}) if k != "ema"} - at_construction(cls)


def at_construction(cls: type[Optimizer]) -> set[str]:
    return {s.name for s in cls.rule.state if s.at_construction}


@every_planned_class
@every_executor
def test_two_optimizers_may_share_a_gradient(cls: type[Optimizer], executor: str) -> None:
    """Nobody writes to `.grad`, so the second optimizer sees what the first saw."""
    params, others = tensors(), tensors(seed=9)
    give_all([params])
    before = [p.grad.clone() for p in params]
    for p, q in zip(params, others, strict=True):
        q.grad = p.grad
    cls(params, **decaying(cls), **SWITCHES[executor]).step()
    cls(others, **decaying(cls), maximize=True, **SWITCHES[executor]).step()
    assert_equal([p.grad for p in params], before)


# -- numbers that change between steps -------------------------------------------------------------------------------


@every_planned_class
@every_executor
def test_every_number_edited_in_the_group_acts_on_the_next_step(cls: type[Optimizer], executor: str) -> None:
    """After the edit the step is the one of an optimizer that has that value and the same state."""
    for name, field in hyperparameters(cls).items():
        for value in alternatives(field):
            if is_valid(cls, {name: value}) and not makes_state(cls, name, value):
                check_edit(cls, name, value, executor)


def makes_state(cls: type[Optimizer], name: str, value: Any) -> bool:
    """Whether the edit asks for other state than there is."""
    plain, edited = defaults(cls), {**defaults(cls), name: value}
    return any(s.when(plain) != s.when(edited) for s in cls.rule.state)


def check_edit(cls: type[Optimizer], name: str, value: Any, executor: str) -> None:
    optimizer = cls(tensors(), **SWITCHES[executor])
    train(optimizer, 3)
    other = cls([torch.nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]], **{name: value})
    other.param_groups[0].update(SWITCHES[executor])
    for p, q in zip(optimizer.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        if p in optimizer.state:
            other.state[q] = copy.deepcopy(optimizer.state[p])
    optimizer.param_groups[0][name] = value
    assert_equal(moved(optimizer, 3), moved(other, 3))


def switchable() -> list[Any]:
    """Options that bring state of their own, and can be turned on after training has begun."""
    return [
        pytest.param(cls, name, value, id=f"{cls.__name__}-{name}")
        for cls in PLANNED.values()
        for name, field in hyperparameters(cls).items()
        for value in alternatives(field)
        if is_valid(cls, {name: value}) and makes_state(cls, name, value)
    ]


@every_executor
@pytest.mark.parametrize(("cls", "name", "value"), switchable())
def test_options_turned_on_later_make_their_state_then(
    cls: type[Optimizer], name: str, value: Any, executor: str
) -> None:
    """torch raises a KeyError for most of them. What was there before goes on as it was."""
    optimizer, plain = (cls(tensors(), **SWITCHES[executor]) for _ in range(2))
    train(optimizer, 2)
    train(plain, 2)
    optimizer.param_groups[0][name] = value
    train(optimizer, 1)
    train(plain, 1)
    wanted = [s.name for s in cls.rule.state if s.when(optimizer.param_groups[0])]
    for (_, held), (_, before) in zip(snapshot(optimizer), snapshot(plain), strict=True):
        assert set(wanted) == set(wanted) & set(held)
        assert all(same(held[k], before[k]) for k in before if k in wanted)
    optimizer.param_groups[0][name] = cls.fields[name].default
    train(optimizer, 1)


@pytest.mark.thin("cls", "executor")
@every_planned_class
@every_executor
@pytest.mark.parametrize("options", ["defaults", "everything"])
def test_averaging_turned_on_later_leaves_the_rule_alone(cls: type[Optimizer], executor: str, options: str) -> None:
    given: Options = {}
    for name, field in hyperparameters(cls).items():
        if options == "everything" and name != "ema_decay" and is_valid(cls, {**given, name: alternatives(field)[0]}):
            given[name] = alternatives(field)[0]
    averaging, plain = (cls(tensors(), **given, **SWITCHES[executor]) for _ in range(2))
    for optimizer in (averaging, plain):
        train(optimizer, 2)
    averaging.param_groups[0]["ema_decay"] = 0.5
    assert_equal(moved(averaging, 3), moved(plain, 3))
    for (_, held), (_, other) in zip(snapshot(averaging), snapshot(plain), strict=True):
        assert held.pop("ema") is not None
        assert all(same(held[k], other[k]) for k in other)


@every_planned_class
@every_executor
def test_a_tensor_learning_rate(cls: type[Optimizer], executor: str) -> None:
    """It acts as its number does, also after it was filled with another; where torch's class refuses it, so do we."""
    rate = torch.tensor(0.05, dtype=torch.float64)
    switch = SWITCHES[executor]
    if (message := torchs_refusal(cls, lr=rate, **{k: v for k, v in switch.items() if k != "fused"})) is not None:
        with pytest.raises(ValueError, match=re.escape(message)):
            cls(tensors(), lr=rate, **switch)
        return
    optimizer, plain = cls(tensors(), lr=rate, **switch), cls(tensors(), lr=0.05, **switch)
    assert_equal(moved(optimizer, 2), moved(plain, 2))
    rate.fill_(0.125)
    plain.param_groups[0]["lr"] = 0.125
    assert_equal(moved(optimizer, 2), moved(plain, 2))
    assert rate.item() == 0.125


def torchs_refusal(cls: type[Optimizer], **options: Any) -> str | None:
    """The words in which torch's class of the same name refuses the options at construction."""
    twin = getattr(torch.optim, cls.__name__, None)
    if twin is None:
        return None
    known = inspect.signature(twin).parameters
    try:
        twin([torch.ones(2, 2)], **{name: value for name, value in options.items() if name in known})
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("cls", [steepest.Adam, steepest.AdamW], ids=["Adam", "AdamW"])
@pytest.mark.parametrize("second", [0.99, torch.tensor(0.99)], ids=["one", "both"])
def test_tensor_betas_are_refused_as_torch_refuses_them(cls: type[Optimizer], second: Any) -> None:
    betas = torch.tensor(0.9), second
    message = torchs_refusal(cls, betas=betas, foreach=True)
    assert message is not None
    with pytest.raises(ValueError, match=re.escape(message)):
        cls(tensors(), betas=betas, foreach=True)


@every_pointwise_executor
def test_tensor_betas_act_as_numbers(executor: str) -> None:
    tensor_betas = torch.tensor(0.8, dtype=torch.float64), torch.tensor([0.9], dtype=torch.float64)
    switch = {} if executor == "foreach" else SWITCHES[executor]
    optimizer, plain = (steepest.Adam(tensors(), betas=betas, **switch) for betas in (tensor_betas, (0.8, 0.9)))
    assert_equal(moved(optimizer, 2), moved(plain, 2))


@every_planned_class
def test_keys_that_are_no_fields_do_nothing(cls: type[Optimizer]) -> None:
    """A recipe that puts weight_decay into every group may meet a class that has none; torch's ignores it."""
    foreign = {name: 0.5 for name in ("weight_decay", "maximize") if name not in cls.fields}
    optimizer, plain = (cls([{"params": tensors(), **extra}]) for extra in (foreign, {}))
    assert_equal(moved(optimizer, 2), moved(plain, 2))
    assert foreign.items() <= optimizer.param_groups[0].items()


# -- schedulers ------------------------------------------------------------------------------------------------------

SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "LambdaLR": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 0.9**k),
    "MultiplicativeLR": lambda o: torch.optim.lr_scheduler.MultiplicativeLR(o, lambda k: 0.9),
    "StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5], 0.5),
    "ConstantLR": lambda o: torch.optim.lr_scheduler.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.2, total_iters=4),
    "ExponentialLR": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=has_momentum(o)),
    "OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20, cycle_momentum=has_momentum(o)),
    "SequentialLR": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [torch.optim.lr_scheduler.ConstantLR(o, 0.5, 3), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)],
        milestones=[4],
    ),
    "ChainedScheduler": lambda o: torch.optim.lr_scheduler.ChainedScheduler(
        [torch.optim.lr_scheduler.ConstantLR(o, 0.5, 3), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=0),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.02, anneal_epochs=3),
}


def has_momentum(optimizer: torch.optim.Optimizer) -> bool:
    return "betas" in optimizer.defaults or "momentum" in optimizer.defaults


def test_every_scheduler_of_torchs_is_tried() -> None:
    own = {
        name
        for name, cls in vars(torch.optim.lr_scheduler).items()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.lr_scheduler.LRScheduler) and not name.startswith("_")
    }
    assert own - {"LRScheduler"} <= set(SCHEDULERS)


def scheduled(optimizer: torch.optim.Optimizer, name: str) -> list[tuple[float, Any]]:
    """The curve of rates, and of what stands for momentum, over ten steps."""
    scheduler = SCHEDULERS[name](optimizer)
    curve = []
    for k in range(10):
        train(optimizer, 1)
        metric = {"metrics": 1.0 + (k % 3)} if "metrics" in inspect.signature(scheduler.step).parameters else {}
        scheduler.step(**metric)
        group = optimizer.param_groups[0]
        curve.append((float(group["lr"]), group.get("betas", group.get("momentum"))))
    return curve


@pytest.mark.thin
@pytest.mark.parametrize("name", SCHEDULERS)
@every_twin
def test_schedulers_take_the_same_course_as_with_torch(twins: Twins, name: str) -> None:
    """With momentum on where it is an option, since CyclicLR and OneCycleLR move it."""
    options = {"lr": 0.05} | ({"momentum": 0.9} if "momentum" in twins[0].fields else {})
    ours, theirs = (cls(tensors(), **options) for cls in twins)
    assert scheduled(ours, name) == scheduled(theirs, name)
    assert_near(ours, theirs)


@pytest.mark.thin
@pytest.mark.parametrize("name", SCHEDULERS)
@every_planned_class
def test_schedulers_act_alike_on_both_executors(cls: type[Optimizer], name: str) -> None:
    fast, plain = (cls(tensors(torch.float64), lr=0.05, **SWITCHES[e]) for e in ("foreach", "reference"))
    assert scheduled(fast, name) == scheduled(plain, name)
    assert_near(fast, plain, 1e-12)


# -- hooks, closures and the like ------------------------------------------------------------------------------------


@every_class
def test_hooks_run(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    seen: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *args: seen.append(name)

    optimizer.register_step_pre_hook(note("before step"))
    optimizer.register_step_post_hook(note("after step"))
    optimizer.register_state_dict_pre_hook(note("before saving"))
    optimizer.register_state_dict_post_hook(note("after saving"))
    optimizer.register_load_state_dict_pre_hook(note("before loading"))
    optimizer.register_load_state_dict_post_hook(note("after loading"))
    train(optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    train(optimizer, 1)
    around = ["before step", "after step"]
    assert seen == [*around, "before saving", "after saving", "before loading", "after loading", *around]


@every_class
def test_a_loading_hook_may_replace_the_checkpoint(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    train(optimizer, 1)
    replaced = copy.deepcopy(optimizer.state_dict())
    replaced["param_groups"][0]["lr"] = 0.123
    optimizer.register_load_state_dict_pre_hook(lambda o, given: replaced)
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.123


@every_class
def test_a_closure_runs_with_gradients_on_and_its_loss_is_returned(cls: type[Optimizer]) -> None:
    optimizer = cls(params := tensors())
    losses: list[Tensor] = []

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        losses.append(loss_of(params))
        backward(losses[-1], optimizer)
        return losses[-1]

    with torch.no_grad():
        assert optimizer.step(closure) is losses[0]
    with torch.no_grad():
        wanted = loss_of(params)
    assert optimizer.step(closure) == wanted
    assert not torch.is_inference_mode_enabled()


@every_planned_class
def test_without_a_closure_step_returns_none(cls: type[Optimizer]) -> None:
    params = tensors()
    give_all([params])
    assert cls(params).step() is None


@every_class
def test_zero_grad(cls: type[Optimizer]) -> None:
    params = tensors()
    give_all([params])
    optimizer = cls(params)
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in params)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


@every_class
def test_a_step_without_any_gradient_does_nothing(cls: type[Optimizer]) -> None:
    optimizer = cls(params := tensors())
    before = [p.detach().clone() for p in params]
    optimizer.step(lambda: 0.0)
    assert_equal(params, before)


@every_class
def test_repr_lists_every_option(cls: type[Optimizer]) -> None:
    text = repr(cls(tensors()))
    assert text.startswith(f"{cls.__name__} (\nParameter Group 0\n")
    assert all(f"    {name}: " in text for name in cls.fields)


@every_class
def test_it_is_a_torch_optimizer(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.defaults.keys() == cls.fields.keys()


# -- state that others change ----------------------------------------------------------------------------------------

Attack = Callable[[torch.optim.Optimizer, list[torch.nn.Parameter]], None]


def clear(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    optimizer.state.clear()


def clear_one(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    if params[1] in optimizer.state:
        optimizer.state[params[1]].clear()


def delete_one(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    optimizer.state.pop(params[1], None)


def zero_tensors(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for held in optimizer.state.values():
        for value in filter(torch.is_tensor, held.values()):
            value.zero_()


def replace_tensors(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for held in optimizer.state.values():
        for name in held:
            held[name] = held[name] * 0.5 if held[name].ndim or name != "step" else held[name].clone()


def replace_dicts(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for p in list(optimizer.state):
        optimizer.state[p] = {
            name: value + 1 if torch.is_tensor(value) else value for name, value in optimizer.state[p].items()
        }


def set_steps(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for held in optimizer.state.values():
        if "step" in held:
            held["step"].fill_(40.0)


def set_one_step(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    if "step" in optimizer.state.get(params[1], {}):
        optimizer.state[params[1]]["step"] += 7


def change_scalars(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for held in optimizer.state.values():
        for value in held.values():
            if value.ndim == 0:
                value.mul_(0.5).round_(decimals=1).clamp_(min=1.0)


def swap_states(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    a, b = params[3], params[0]
    if a in optimizer.state:
        optimizer.state[a], optimizer.state[b] = optimizer.state[b], optimizer.state[a]


def new_values(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    params[0].data = params[0].data.clone() + 1


def to_double(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for p in params[:2]:
        p.grad = None
        p.data = p.data.double()


def new_layout(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    params[0].data = params[0].data.t().contiguous().t()


def new_parameter(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    params[1] = optimizer.param_groups[0]["params"][1] = torch.nn.Parameter(torch.ones(2, 1))


def reorder(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    optimizer.param_groups[0]["params"].reverse()


def drop_one(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    del optimizer.param_groups[0]["params"][0]


def new_group(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    optimizer.param_groups[0] = dict(optimizer.param_groups[0])


def split_group(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    group = optimizer.param_groups[0]
    optimizer.param_groups[:] = [{**group, "params": params[:2]}, {**group, "params": params[2:]}]


def reload(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


ATTACKS: list[Attack] = [
    clear,
    clear_one,
    delete_one,
    zero_tensors,
    replace_tensors,
    replace_dicts,
    set_steps,
    set_one_step,
    change_scalars,
    swap_states,
    new_values,
    to_double,
    new_layout,
    new_parameter,
    reorder,
    drop_one,
    new_group,
    split_group,
    reload,
]


def forgetful(optimizer: Any) -> Any:
    """The same optimizer, made to remember nothing from step to step."""
    step = optimizer.step

    def stepping(closure: Any = None) -> Any:
        optimizer._partitions.clear()
        return step(closure)

    optimizer.step = stepping
    return optimizer


@pytest.mark.thin("structure", "attack")
@every_planned_class
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda f: f.__name__)
def test_what_others_do_between_steps_acts_on_the_next(cls: type[Optimizer], attack: Attack) -> None:
    """An optimizer that remembers how its parameters go together steps as one that looks every time."""
    results = []
    for wrapped in (lambda o: o, forgetful):
        params = [*tensors(), torch.nn.Parameter(torch.full((3, 4), 0.5))]
        optimizer = wrapped(cls(params, **switched_on(cls)))
        train(optimizer, 3)
        attack(optimizer, params)
        train(optimizer, 3)
        results.append(snapshot(optimizer))
    assert_same(*results)


def switched_on(cls: type[Optimizer]) -> Options:
    """An option that brings state (momentum, amsgrad, ...), where there is one."""
    options: Options = {}
    for name, field in hyperparameters(cls).items():
        value = alternatives(field)[0]
        if is_valid(cls, {**options, name: value}) and makes_state(cls, name, value):
            options[name] = value
    return options


@pytest.mark.thin("structure", "attack")
@every_planned_twin
@pytest.mark.parametrize(
    "attack", [clear, delete_one, zero_tensors, replace_dicts, set_steps, set_one_step, new_values]
)
def test_what_others_do_acts_as_it_does_on_torchs(twins: Twins, attack: Attack) -> None:
    """All-zero state makes some rules divide 0 by 0 or 1 - beta^0; so does torch, and NaN equals NaN."""
    results = []
    for cls in twins:
        params = [*tensors(), torch.nn.Parameter(torch.full((3, 4), 0.5))]
        known = inspect.signature(twins[1]).parameters
        optimizer = cls(params, **{name: v for name, v in switched_on(twins[0]).items() if name in known})
        train(optimizer, 3)
        attack(optimizer, params)
        try:
            train(optimizer, 3)
        except KeyError as error:
            assert cls is twins[1]
            pytest.skip(f"torch {torch.__version__} itself fails: KeyError {error}")
        results.append(snapshot(optimizer))
    for (p, _), (q, _) in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-5, atol=2e-5, equal_nan=True)


@every_planned_class
def test_the_rest_is_not_remembered_across_a_removed_group(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    train(optimizer, 2)
    optimizer.add_param_group({"params": (late := tensors(seed=8))})
    train(optimizer, 2)
    optimizer.param_groups.pop()
    kept = [p.detach().clone() for p in late]
    train(optimizer, 2)
    assert_equal(late, kept)


# -- saving, loading, copying ----------------------------------------------------------------------------------------


def everything(cls: type[Optimizer]) -> Options:
    options: Options = {}
    for name, field in hyperparameters(cls).items():
        if is_valid(cls, {**options, name: alternatives(field)[0]}):
            options[name] = alternatives(field)[0]
    return options


def saved(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Through a file, as a user's checkpoint goes."""
    loaded: dict[str, Any] = through_file(optimizer.state_dict())
    return loaded


DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.thin("cls", "executor")
@every_class
@every_executor
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [lambda cls: {}, everything], ids=["defaults", "everything"])
def test_save_load_continue_is_bitwise(
    cls: type[Optimizer], executor: str, dtype: torch.dtype, options: Callable[[Any], Options]
) -> None:
    optimizer = cls(tensors(dtype), **options(cls), **shown(executor, cls))
    train(optimizer, 4)
    fresh = cls([torch.nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]])
    fresh.load_state_dict(saved(optimizer))
    assert_same(snapshot(fresh), snapshot(optimizer))
    train(optimizer, 4)
    train(fresh, 4)
    assert_same(snapshot(fresh), snapshot(optimizer))


@every_class
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("options", [lambda cls: {}, everything], ids=["defaults", "everything"])
def test_copies_continue_bitwise_and_share_nothing(
    cls: type[Optimizer], copied: Callable[[Any], Any], options: Callable[[Any], Options]
) -> None:
    optimizer = cls(tensors(), **options(cls))
    train(optimizer, 3)
    twin = copied(optimizer)
    kept = snapshot(twin)
    train(optimizer, 3)
    assert_same(snapshot(twin), kept)
    train(twin, 3)
    assert_same(snapshot(twin), snapshot(optimizer))
    assert repr(twin) == repr(optimizer)
    assert twin.executor == optimizer.executor


@every_class
def test_loading_shares_nothing_with_the_checkpoint(cls: type[Optimizer]) -> None:
    optimizer, other = cls(tensors(), **everything(cls)), cls(tensors(), **everything(cls))
    train(optimizer, 2)
    other.load_state_dict(optimizer.state_dict())
    kept = snapshot(optimizer)
    train(other, 2)
    assert_same(snapshot(optimizer), kept)


@every_class
def test_a_checkpoint_before_the_first_step_is_a_fresh_start(cls: type[Optimizer]) -> None:
    optimizer, fresh = cls(tensors()), cls(tensors())
    fresh.load_state_dict(saved(optimizer))
    assert_equal(moved(optimizer, 2), moved(fresh, 2))


@every_class
def test_named_parameters(cls: type[Optimizer]) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(2, 1, bias=False))
    optimizer = cls(module.named_parameters())
    train(optimizer, 2)
    assert optimizer.param_groups[0]["param_names"] == ["0.weight", "1.weight"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["0.weight", "1.weight"]


@every_class
def test_a_checkpoint_of_another_shape_is_refused_in_torchs_words(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    checkpoint = cls(tensors()[:2]).state_dict()
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        optimizer.load_state_dict(checkpoint)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.thin("structure", "params")
@every_class
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (list, ValueError, "optimizer got an empty parameter list"),
        (lambda: torch.ones(2), TypeError, "should be an iterable of Tensors or dicts"),
        (lambda: [torch.ones(2, requires_grad=True) * 2], ValueError, "can't optimize a non-leaf Tensor"),
        (lambda: [torch.ones(2, dtype=torch.int64)], ValueError, r"updates floating-point .* not torch.int64"),
        (lambda: [torch.ones(2, dtype=torch.bool)], ValueError, r"updates floating-point .* not torch.bool"),
        (lambda: [1.0], TypeError, "optimizer can only optimize Tensors"),
        (lambda: [{"params": {torch.ones(2)}}], TypeError, "organized in ordered collections"),
    ],
    ids=["empty", "tensor", "non-leaf", "integer", "bool", "float", "set"],
)
def test_bad_parameters_are_refused_as_torch_does(
    cls: type[Optimizer], params: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cls(params())


@every_class
def test_duplicates(cls: type[Optimizer]) -> None:
    p = torch.nn.Parameter(torch.ones(2, 2))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        cls([p, p])
    with pytest.raises(ValueError, match=r"some parameters appear in more than one parameter group|parameter groups"):
        cls([{"params": [p]}, {"params": [p]}])


@every_planned_class
def test_a_refused_group_leaves_the_optimizer_as_it_was(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    for bad in ({"params": [torch.ones(2, dtype=torch.int64)]}, {"params": tensors(), "lr": -1.0}):
        with pytest.raises(ValueError, match=r"."):
            optimizer.add_param_group(bad)
        assert len(optimizer.param_groups) == 1
    train(optimizer, 1)


@pytest.mark.parametrize("cls", [cls for cls in PLANNED.values() if cls.rule.sparse is None], ids=lambda c: c.__name__)
@every_executor
def test_sparse_gradients_are_refused(cls: type[Optimizer], executor: str) -> None:
    params = tensors()
    give_all([params])
    optimizer = cls(params, **SWITCHES[executor])
    optimizer.step()
    params[1].grad = params[1].grad.to_sparse()
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match=f"^{cls.__name__} does not support sparse gradients"):
        optimizer.step()
    assert_same(snapshot(optimizer), before)


@every_class
def test_unknown_arguments_get_the_close_match(cls: type[Optimizer]) -> None:
    for name in (n for n, f in cls.fields.items() if not f.fixed):
        slip = name[:-1] + name[-1] * 2
        with pytest.raises(TypeError, match=rf"{cls.__name__}.*{slip}.*did you mean '{name}'"):
            cls(tensors(), **{slip: 0})
    with pytest.raises(TypeError, match="unexpected keyword argument 'zzz'"):
        cls(tensors(), zzz=1)
    with pytest.raises(TypeError):
        cls(tensors(), *range(40))


@every_class
def test_unknown_group_options_get_the_close_match_and_foreign_ones_pass(cls: type[Optimizer]) -> None:
    with pytest.raises(ValueError, match=r"unknown option 'state_dtpe'; did you mean 'state_dtype'"):
        cls([{"params": tensors(), "state_dtpe": None}])
    optimizer = cls([{"params": tensors(), "name": "backbone"}])
    assert optimizer.param_groups[0]["name"] == "backbone"
    train(optimizer, 1)


@every_class
def test_values_out_of_bounds_are_refused_everywhere(cls: type[Optimizer]) -> None:
    """In the constructor, in a group and in a late group."""
    for name, field in hyperparameters(cls).items():
        if field.low in (None, -math.inf):
            continue
        bad = tuple(field.low - 1 for _ in field.names) if len(field.names) > 1 else field.low - 1
        with pytest.raises(ValueError, match=name):
            cls(tensors(), **{name: bad})
        with pytest.raises(ValueError, match=name):
            cls([{"params": tensors(), name: bad}])


@every_twin
def test_out_of_bounds_messages_start_with_torchs(twins: Twins) -> None:
    """And what torch allows is allowed, but for what is no number."""
    ours, theirs = twins
    known = inspect.signature(theirs).parameters
    refused = [options for options in bad_options(ours) if options.keys() <= known.keys() and message(theirs, options)]
    assert refused
    for options in bad_options(ours):
        if options.keys() <= known.keys():
            assert (message(ours, options) or "").startswith(wanted := message(theirs, options) or ""), options
            assert bool(wanted) == bool(message(ours, options)), options


def bad_options(cls: type[Optimizer]) -> list[Options]:
    """Values below and above usual bounds."""
    bad: list[Options] = []
    for name, field in hyperparameters(cls).items():
        if len(field.names) > 1:
            pairs = ((-0.5, 0.9), (0.9, 1.0), (0.9, 1.5))
            bad += [{name: (*pair, *pair)[: len(field.names)]} for pair in pairs]
        elif not (field.is_flag or field.choices or field.whole):
            bad += [{name: -0.5}, {name: 1.5}]
    return bad


def message(cls: type[torch.optim.Optimizer], options: Options) -> str | None:
    """What the constructor says against the options."""
    try:
        cls(tensors(), **options)
    except ValueError as error:
        return str(error)
    return None


@every_twin
def test_a_tensor_rate_has_one_element(twins: Twins) -> None:
    for cls in twins:
        with pytest.raises(ValueError, match=r"^Tensor lr must be 1-element"):
            cls(tensors(), lr=torch.ones(2))


def test_options_that_contradict_each_other_raise() -> None:
    for name, cls in CLASSES.items():
        for field in hyperparameters(cls).values():
            for value in alternatives(field):
                if is_valid(cls, {field.name: value}) or cls.needs_closure({**defaults(cls), field.name: value}):
                    continue
                with pytest.raises(ValueError, match=r"."):
                    cls(tensors(), **{field.name: value})
                with pytest.raises(ValueError, match=r"."):
                    cls([{"params": tensors(), field.name: value}])
                assert name


@every_class
def test_fused_runs_one_kernel_or_is_no_argument(cls: type[Optimizer]) -> None:
    if "fused" not in cls.fields:
        with pytest.raises(TypeError, match="fused"):
            cls(tensors(), fused=True)
        return
    assert cls(tensors(), fused=True).executor == "native"
    assert cls(tensors(), fused=False).executor == "foreach"


class Subclass(torch.Tensor):
    """A tensor of another type."""


@every_native_class
def test_fused_is_refused_where_no_kernel_can_run(cls: type[Optimizer]) -> None:
    odd = [torch.ones(2).as_subclass(Subclass)]
    with pytest.raises(RuntimeError, match=r"fused=True.*plain tensors.*Subclass"):
        cls(odd, fused=True)
    with pytest.raises(RuntimeError, match="fused=True"):
        cls([{"params": odd, "fused": True}])
    optimizer = cls(odd)
    assert optimizer.executor == "reference"
    optimizer.param_groups[0]["fused"] = True
    odd[0].grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="fused=True"):
        optimizer.step()


# -- differentiable --------------------------------------------------------------------------------------------------

DIFFERENTIABLE = {name: cls for name, cls in PLANNED.items() if "differentiable" in cls.fields}
every_differentiable_class = pytest.mark.parametrize("cls", DIFFERENTIABLE.values(), ids=list(DIFFERENTIABLE))


def differentiable_steps(cls: type[Optimizer], start: Tensor, lr: Any, grads: list[Tensor], **options: Any) -> Tensor:
    """The parameter after some steps, as a differentiable function of where it started and of lr."""
    p = start.clone()
    optimizer = cls([p], lr=lr, differentiable=True, **options)
    assert optimizer.executor == "reference"
    for g in grads:
        p.grad = g
        optimizer.step()
    return p


def smooth_point() -> tuple[Tensor, list[Tensor]]:
    source = torch.Generator().manual_seed(2)
    start, *grads = (torch.randn(3, generator=source, dtype=torch.float64) + 2 for _ in range(3))
    return start, grads


@pytest.mark.usefixtures("float64_default")
@every_differentiable_class
def test_steps_are_differentiable(cls: type[Optimizer]) -> None:
    """Two steps, with respect to lr, to where they start and to the gradients (numbers against autograd)."""
    start, grads = smooth_point()
    rate = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    inputs = [start.requires_grad_(), rate, *(g.requires_grad_() for g in grads)]

    def two_steps(p: Tensor, lr: Tensor, *g: Tensor) -> Tensor:
        return differentiable_steps(cls, p, lr, list(g), **decaying(cls))

    assert torch.autograd.gradcheck(two_steps, inputs)


@every_differentiable_class
def test_differentiable_steps_are_the_plain_ones(cls: type[Optimizer]) -> None:
    """Bias corrections in double here too: a float32 1 - beta2^t would be wrong by 1e-5."""
    start, grads = smooth_point()
    made = differentiable_steps(cls, start, 0.05, grads)
    p = torch.nn.Parameter(start.clone())
    plain = cls([p], lr=0.05, foreach=False)
    for g in grads:
        p.grad = g
        plain.step()
    torch.testing.assert_close(made.detach(), p.detach(), rtol=1e-9, atol=1e-9)


@every_differentiable_class
def test_outside_a_differentiable_step_gradients_are_off(cls: type[Optimizer]) -> None:
    optimizer = cls(params := tensors())
    train(optimizer, 2)
    assert all(p.requires_grad and p.is_leaf for p in params)
    assert all(not v.requires_grad for held in optimizer.state.values() for v in held.values())


def test_closures_of_a_driver_must_be_given() -> None:
    for name, cls in DRIVERS.items():
        with pytest.raises(TypeError, match=rf"{cls.__name__}.*needs a closure"):
            cls(tensors()).step()
        assert name in CLASSES


def test_parameters_of_several_types_in_one_group() -> None:
    """Each keeps its type and is stepped as if alone."""
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.float32]
    for cls in PLANNED.values():
        own = [d for d in dtypes if not (d.is_complex and cls.rule.is_real)]
        mixed, alone = ([torch.nn.Parameter(torch.full((2, 1), 0.5, dtype=d)) for d in own] for _ in range(2))
        optimizer, singles = cls(mixed), [cls([p]) for p in alone]
        for _ in range(2):
            for p in (*mixed, *alone):
                p.grad = torch.full_like(p, 0.25)
            optimizer.step()
            for single in singles:
                single.step()
        assert_equal(mixed, alone)


@every_planned_class
def test_writing_through_a_step_is_seen_by_autograd(cls: type[Optimizer]) -> None:
    """A backward through a graph that saved the old parameter must fail, not be silently wrong."""
    optimizer = cls(params := [torch.nn.Parameter(torch.ones(3, 1))])
    y = (params[0] ** 2).sum()
    params[0].grad = torch.ones(3, 1)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_a_class_with_its_own_constructor() -> None:
    class Warm(CLASSES["sgd"]):  # type: ignore[misc,name-defined]
        """A subclass may still say what its constructor takes."""

        warmth: float = fields.hyper(1.0, "unused", low=0.0)

    assert Warm([torch.nn.Parameter(torch.ones(1))], warmth=2.0).param_groups[0]["warmth"] == 2.0
