"""State finds its parameter by name; what a checkpoint lacks or has in another form harms nobody."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch

import steepest
from cases import PLANNED_TWINS, Options, Twins, every_planned_class, every_separate_class, give, parameters
from oracles import problem
from steepest import Optimizer

SHAPES = [(3, 4), (1, 4), (2, 4), (2, 1)]
NAMES = ["first.weight", "first.bias", "second.weight", "second.bias"]
THETA, GRADS = problem(5, SHAPES, 6)


def named(order: list[int]) -> list[tuple[str, torch.nn.Parameter]]:
    """The four parameters, in another order."""
    params = parameters(THETA)
    return [(NAMES[i], params[i]) for i in order]


def groups(*orders: list[int], **options: Any) -> list[Options]:
    return [{"params": named(order), **options} for order in orders]


def run(optimizer: torch.optim.Optimizer, steps: list[list[Any]]) -> None:
    for of_step in steps:
        for group in optimizer.param_groups:
            names = group.get("param_names", NAMES)
            give(group["params"], [of_step[NAMES.index(name)] for name in names])
        optimizer.step()


def values(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        name: p.detach()
        for group in optimizer.param_groups
        for name, p in zip(group.get("param_names", NAMES), group["params"], strict=True)
    }


def continued(source: torch.optim.Optimizer, target: torch.optim.Optimizer, **how: Any) -> None:
    """``target`` goes on from the values and the checkpoint of ``source``, and both end in the same place."""
    target.load_state_dict(source.state_dict(), **how)
    with torch.no_grad():
        for name, p in values(target).items():
            p.copy_(values(source)[name])
    run(source, GRADS[3:])
    run(target, GRADS[3:])
    for name, p in values(target).items():
        torch.testing.assert_close(p, values(source)[name], rtol=0, atol=0)


ORDERS = [pytest.param(orders, id=str(orders)) for orders in ([[2, 0, 3, 1]], [[3, 1], [0, 2]], [[0], [1], [2], [3]])]


@pytest.mark.parametrize("orders", ORDERS)
@every_separate_class
def test_state_finds_its_parameter_by_name(cls: type[Optimizer], orders: list[list[int]]) -> None:
    source = cls(named([0, 1, 2, 3]), lr=0.03)
    run(source, GRADS[:3])
    target = cls(groups(*orders), lr=0.5)
    continued(source, target)
    assert [group["param_names"] for group in target.param_groups] == [[NAMES[i] for i in order] for order in orders]
    assert {group["lr"] for group in target.param_groups} == {0.03}


def test_several_groups_become_one_only_if_their_options_agree() -> None:
    source = steepest.Adam(groups([1, 0], [2, 3]), lr=0.01)
    run(source, GRADS[:3])
    continued(source, steepest.Adam(named([0, 1, 2, 3])))
    source.param_groups[1]["lr"] = 0.02
    with pytest.raises(ValueError, match=r"first\.weight.* in groups with other values of lr"):
        steepest.Adam(named([0, 1, 2, 3])).load_state_dict(source.state_dict())


@pytest.mark.parametrize("twins", PLANNED_TWINS.values(), ids=list(PLANNED_TWINS))
def test_torchs_checkpoints_are_matched_by_name_too(twins: Twins) -> None:
    ours, theirs = twins
    source = theirs(named([0, 1, 2, 3]))
    run(source, GRADS[:3])
    target = ours(named([3, 2, 1, 0]), foreach=False)
    target.load_state_dict(source.state_dict())
    for p, q in zip(target.param_groups[0]["params"], reversed(source.param_groups[0]["params"]), strict=True):
        held, other = target.state.get(p, {}), source.state.get(q, {})
        assert list(held) == list(other)
        for key, value in other.items():
            torch.testing.assert_close(held[key], torch.as_tensor(value), rtol=1e-6, atol=0, check_dtype=False)


@pytest.mark.parametrize("names", [[None] * 4, ["a", "b", "c", "d"]], ids=["none", "others"])
def test_without_the_same_names_position_decides(names: list[str | None]) -> None:
    source = steepest.Adam(named([0, 1, 2, 3]))
    run(source, GRADS[:3])
    params = parameters(THETA)
    target = steepest.Adam([p if name is None else (name, p) for name, p in zip(names, params, strict=True)])
    target.load_state_dict(source.state_dict())
    for p, q in zip(params, source.param_groups[0]["params"], strict=True):
        assert torch.equal(target.state[p]["exp_avg"], source.state[q]["exp_avg"])


# -- strict names ------------------------------------------------------------------------------------------------------


def test_strict_names_tell_everything_that_differs() -> None:
    source = steepest.Adam(named([0, 1, 2, 3]))
    run(source, GRADS[:1])
    other = [
        ("first.weight", torch.nn.Parameter(torch.zeros(4, 3))),
        ("third.weight", torch.nn.Parameter(torch.zeros(2))),
    ]
    told = (
        r"missing: 'third\.weight'; unexpected: 'first\.bias', 'second\.weight', 'second\.bias'; "
        r"reshaped: 'first\.weight' has shape \(4, 3\), its exp_avg \(3, 4\)"
    )
    with pytest.raises(ValueError, match=told):
        steepest.Adam(other).load_state_dict(source.state_dict(), strict_names=True)
    continued(source, steepest.Adam(named([1, 0, 3, 2])), strict_names=True)


def test_strict_names_need_names() -> None:
    source, plain = steepest.Adam(named([0, 1, 2, 3])), steepest.Adam(parameters(THETA))
    with pytest.raises(ValueError, match=r"this optimizer has none.*named_parameters"):
        plain.load_state_dict(source.state_dict(), strict_names=True)
    with pytest.raises(ValueError, match=r"the state dict has none"):
        source.load_state_dict(plain.state_dict(), strict_names=True)


def test_long_lists_are_shortened() -> None:
    many = steepest.Adam([(f"p{i}", torch.nn.Parameter(torch.zeros(1))) for i in range(20)])
    with pytest.raises(ValueError, match=r"'p7' and 12 more; unexpected: 'first\.weight'"):
        many.load_state_dict(steepest.Adam(named([0])).state_dict(), strict_names=True)


# -- dtypes, options, hooks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_the_saved_dtype_can_be_kept(executor: Options) -> None:
    """float32 moments beside bfloat16 parameters: torch rounds them on load, we need not."""
    p = torch.nn.Parameter(torch.linspace(-1, 1, 64).bfloat16())
    source = steepest.Adam([p], **executor)
    p.grad = torch.linspace(1, 2, 64).bfloat16()
    source.step()
    saved = copy.deepcopy(source.state_dict())
    saved["state"][0]["exp_avg"] = saved["state"][0]["exp_avg"].float() + 1e-4
    kept, cast = (steepest.Adam([p], **executor) for _ in range(2))
    kept.load_state_dict(saved, keep_dtype=True)
    cast.load_state_dict(saved)
    assert cast.state[p]["exp_avg"].dtype == torch.bfloat16
    assert torch.equal(kept.state[p]["exp_avg"], saved["state"][0]["exp_avg"])
    kept.step()
    assert kept.state[p]["exp_avg"].dtype == torch.float32
    expected = torch.lerp(saved["state"][0]["exp_avg"], p.grad.float(), 1 - 0.9)
    torch.testing.assert_close(kept.state[p]["exp_avg"], expected)


def test_options_that_a_checkpoint_lacks_stay_as_they_are() -> None:
    params = parameters(THETA)
    saved = torch.optim.AdamW(params, lr=0.02).state_dict()
    optimizer = steepest.AdamW(params, max_norm=0.5, ema_decay=0.9)
    optimizer.load_state_dict(saved)
    assert [optimizer.param_groups[0][name] for name in ("max_norm", "ema_decay", "lr")] == [0.5, 0.9, 0.02]


def test_a_hooks_changes_are_loaded_and_saved() -> None:
    """Our own part runs after the users' loading hooks and before their saving hooks."""
    params = [torch.nn.Parameter(torch.ones(5000))]
    optimizer = steepest.Adam(params, state_dtype="int8")
    params[0].grad = torch.ones(5000)
    optimizer.step()

    def number_step(_: Any, state_dict: dict[str, Any]) -> None:
        state_dict["state"] = {i: {**held, "step": 7} for i, held in state_dict["state"].items()}

    def seen(_: Any, state_dict: dict[str, Any]) -> None:
        marks.append(state_dict["state"][0]["exp_avg"])

    marks: list[float] = []
    optimizer.register_load_state_dict_pre_hook(number_step)
    optimizer.register_state_dict_post_hook(seen)
    optimizer.load_state_dict(optimizer.state_dict())
    assert len(marks) == 1
    assert marks[0] != marks[0]
    assert torch.equal(optimizer.state[params[0]]["step"], torch.tensor(7.0))


@every_planned_class
def test_copies_keep_public_attributes(cls: type[Optimizer]) -> None:
    optimizer = cls(named([0, 1, 2, 3]))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)  # patches optimizer.step
    run(optimizer, GRADS[:2])
    scheduler.step()
    optimizer.note = {"run": 3}
    file = io.BytesIO()
    torch.save(optimizer, file)
    file.seek(0)
    for other in (
        copy.deepcopy(optimizer),
        pickle.loads(pickle.dumps(optimizer)),
        torch.load(file, weights_only=False),
    ):
        assert {n for n in vars(other) if n[0] != "_"} == {n for n in vars(optimizer) if n[0] != "_"} - {"step"}
        assert other.note == {"run": 3}
        assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        run(other, GRADS[2:])
        twin = copy.deepcopy(optimizer)
        run(twin, GRADS[2:])
        for name, p in values(other).items():
            assert torch.equal(p, values(twin)[name])


def test_distributed_checkpoint_makes_state_and_changes_nothing() -> None:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    def trained(cls: type[Optimizer], steps: int) -> tuple[torch.nn.Module, Any]:
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        optimizer = cls(model.parameters(), lr=0.01)
        descend(model, optimizer, steps)
        return model, optimizer

    def descend(model: torch.nn.Module, optimizer: Any, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(5, 4)).square().sum().backward()
            optimizer.step()
        optimizer.zero_grad()

    for cls in (steepest.AdamW, steepest.SGD, steepest.Adagrad, steepest.NovoGrad):
        model, optimizer = trained(cls, 3)
        saved = get_optimizer_state_dict(model, optimizer)
        other, fresh = trained(cls, 0)
        before = copy.deepcopy(other.state_dict())
        set_optimizer_state_dict(other, fresh, saved)
        assert all(torch.equal(x, before[name]) for name, x in other.state_dict().items())
        other.load_state_dict(model.state_dict())
        descend(model, optimizer, 2)
        descend(other, fresh, 2)
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(p, q)


# -- incomplete and foreign state ------------------------------------------------------------------------------------


def saved_after(cls: Any, steps: int = 3, **options: Any) -> Any:
    params = [torch.nn.Parameter(torch.ones(4, 3)), torch.nn.Parameter(torch.ones(2, 2))]
    optimizer = cls([("weight", params[0]), ("bias", params[1])], **options)
    for _ in range(steps):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
    return optimizer.state_dict()


def fresh(cls: Any, **options: Any) -> Any:
    return cls(
        [("weight", torch.nn.Parameter(torch.ones(4, 3))), ("bias", torch.nn.Parameter(torch.ones(2, 2)))], **options
    )


LOSABLE = [
    (cls, state.name)
    for cls in (ours for ours, _ in PLANNED_TWINS.values())
    for state in cls.rule.state
    if state.when({name: field.default for name, field in cls.fields.items()}) and len(cls.rule.state) > 1
]


@pytest.mark.parametrize(("cls", "name"), LOSABLE, ids=[f"{cls.__name__}-{name}" for cls, name in LOSABLE])
def test_a_lost_entry_is_named(cls: type[Optimizer], name: str) -> None:
    saved = saved_after(cls)
    if name not in saved["state"][1]:
        pytest.skip("kept for other shapes")
    del saved["state"][1][name]
    with pytest.raises(ValueError, match=rf"the state dict has lost state: 'bias' has .* and no {name}; load"):
        fresh(cls).load_state_dict(saved)


def test_a_lost_entry_of_an_option_is_named_and_one_that_the_option_never_made_is_not() -> None:
    saved = saved_after(steepest.AdamW, amsgrad=True)
    del saved["state"][0]["max_exp_avg_sq"]
    with pytest.raises(ValueError, match="'weight' has exp_avg, exp_avg_sq, step and no max_exp_avg_sq"):
        fresh(steepest.AdamW).load_state_dict(saved)
    older = saved_after(steepest.AdamW)
    del older["param_groups"][0]["amsgrad"]
    optimizer = fresh(steepest.AdamW, amsgrad=True)
    optimizer.load_state_dict(older)
    assert optimizer.param_groups[0]["amsgrad"] is True
    never = saved_after(steepest.AdamW)
    del never["state"][1]
    fresh(steepest.AdamW).load_state_dict(never)


def test_a_lost_scale_of_coded_state_is_named() -> None:
    p = torch.nn.Parameter(torch.ones(128, 64))
    optimizer = steepest.AdamW([p], state_dtype="int8")
    p.grad = torch.ones_like(p)
    optimizer.step()
    saved = optimizer.state_dict()
    keys = [key for key in saved["state"][0] if key.startswith("exp_avg_sq")]
    for key in keys:
        del saved["state"][0][key]
    with pytest.raises(ValueError, match=r"parameter 0 has .* and no exp_avg_sq"):
        steepest.AdamW([torch.nn.Parameter(torch.ones(128, 64))], state_dtype="int8").load_state_dict(saved)


def test_parameters_inside_foreign_state_stay_the_same_objects() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = steepest.AdamW([p])
    p.grad = torch.ones(3)
    optimizer.step()
    saved = optimizer.state_dict()
    slow = torch.zeros(3)
    saved["state"]["true_lookahead"] = {p: slow, "owners": [p]}
    optimizer.load_state_dict(saved)
    held = optimizer.state["true_lookahead"]
    assert next(iter(held)) is p
    assert held["owners"][0] is p
    assert torch.equal(held[p], slow)
    assert held[p] is not slow


def test_fused_in_a_group_wins_over_foreach_in_the_constructor_as_in_torch() -> None:
    for cls in (steepest.AdamW, torch.optim.AdamW):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = cls([{"params": [p], "fused": True}], foreach=True)
        p.grad = torch.ones(3)
        optimizer.step()
        with pytest.raises(RuntimeError, match="`fused` and `foreach` cannot be `True` together"):
            cls([p], foreach=True, fused=True)
    assert fresh(steepest.AdamW, fused=True).executor == "native"
