"""torch.compile(optimizer.step): one graph, as exact as the eager step, recompiled no more often than torch's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

import steepest
from cases import Options, closure_for, every_recorded_structure
from steepest import Optimizer

SHAPES = [(4, 3), (2, 2)]

# torch's own, on importing what its compiler needs
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def drawn(seed: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source, dtype=dtype) for shape in SHAPES]


def made(cls: type[Optimizer], options: Options, dtype: torch.dtype = torch.float32) -> Any:
    return cls([torch.nn.Parameter(x) for x in drawn(0, dtype)], **copy.deepcopy(options))


def compiled(optimizer: torch.optim.Optimizer) -> tuple[Callable[[], Any], CompileCounter]:
    """The compiled step, and what counts the graphs that were made of it."""
    counter = CompileCounter()
    return torch.compile(lambda: optimizer.step(), backend=counter), counter


def run(optimizer: Any, step: Callable[[], Any], seeds: range, decay: float = 1.0) -> None:
    """Steps on the gradients of ``seeds``; after each the rate is multiplied by ``decay``."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for seed in seeds:
        for p, g in zip(params, drawn(seed, params[0].dtype), strict=True):
            p.grad = g
        step()
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].mul_(decay)
            else:
                group["lr"] *= decay


def assert_close(ours: Any, theirs: Any, factor: float = 64) -> None:
    params = zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], strict=True)
    for p, q in params:
        eps = torch.finfo(p.dtype).eps
        torch.testing.assert_close(p, q, rtol=factor * eps, atol=factor * eps)
        assert list(ours.state.get(p, {})) == list(theirs.state.get(q, {}))
        for name, value in theirs.state.get(q, {}).items():
            held = ours.state[p][name]
            torch.testing.assert_close(held, value, rtol=factor * eps, atol=factor * eps * value.abs().max().item())


def compare(cls: type[Optimizer], options: Options, most_graphs: int, dtype: torch.dtype = torch.float32) -> None:
    """Six steps, the rate changing after each from the third on."""
    optimizer, plain = (
        made(cls, options, dtype),
        made(cls, {**options, "capturable": False} if "capturable" in options else options, dtype),
    )
    step, counter = compiled(optimizer)
    for each, way in ((optimizer, step), (plain, plain.step)):
        run(each, way, range(1, 4))
        run(each, way, range(4, 7), decay=0.8)
    assert optimizer.executor == "compiled"
    assert 1 <= counter.frame_count <= most_graphs
    assert_close(optimizer, plain)


@pytest.mark.every(8)
@every_recorded_structure
def test_a_float_rate_costs_one_more_graph(cls: type[Optimizer]) -> None:
    compare(cls, {}, most_graphs=2)


WITH_FIRST = [(steepest.SGD, {"momentum": 0.9, "dampening": 0.3}), (steepest.NovoGrad, {})]
SURROUNDED: list[Options] = [
    {"max_value": 0.1, "agc": 0.1},
    {"centralize": True, "cautious": True},
    {"update_rms": 0.1, "lookahead": (2, 0.5)},
    {"gpa": (0.9, 0.7)},
    {"schedule_free": 0.9},
    {"hyperball": True, "weight_decay": 0.0},
    {"zclip": 2.0, "cautious_weight_decay": True},
]
"""What surrounds a rule."""
ROWS: list[tuple[type[Optimizer], Options]] = [
    (steepest.AdamW, {"amsgrad": True}),
    (steepest.RAdam, {"weight_decay": 0.1}),
    (steepest.AdamW, {"capturable": True}),
    (steepest.Adam, {"maximize": True, "weight_decay": 0.1, "max_norm": 0.5, "ema_decay": 0.9}),
    (steepest.AdEMAMix, {"total_steps": 4}),
    (steepest.AdamAtan2, {}),
    (steepest.LaProp, {}),
    (steepest.ADOPT, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    (steepest.Adan, {"weight_decay": 0.1}),
    *((steepest.AdamW, options) for options in SURROUNDED),
    *WITH_FIRST,
]
every_row = pytest.mark.parametrize(("cls", "options"), ROWS, ids=lambda x: getattr(x, "__name__", str(x)))


@pytest.mark.every(5)
@every_row
def test_a_tensor_rate_costs_none(cls: type[Optimizer], options: Options) -> None:
    compare(cls, {**options, "lr": torch.tensor(0.01)}, most_graphs=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64], ids=str)
def test_dtypes(dtype: torch.dtype) -> None:
    compare(steepest.NAdam, {"lr": torch.tensor([0.01])}, most_graphs=1, dtype=dtype)


@pytest.mark.parametrize(("cls", "options"), WITH_FIRST, ids=["SGD", "NovoGrad"])
def test_a_parameter_that_joins_late_has_its_own_first_step(cls: type[Optimizer], options: Options) -> None:
    pairs = [made(cls, options) for _ in range(2)]
    step, _ = compiled(pairs[0])
    for optimizer, way in zip(pairs, (step, pairs[1].step), strict=True):
        params = optimizer.param_groups[0]["params"]
        for seed in range(5):
            for p, g in zip(params, drawn(seed), strict=True):
                p.grad = g
            if seed < 2:
                params[1].grad = None
            way()
    assert_close(*pairs)


def test_changed_options_are_seen() -> None:
    pairs = [made(steepest.AdamW, {}) for _ in range(2)]
    step, _ = compiled(pairs[0])
    for optimizer, way in zip(pairs, (step, pairs[1].step), strict=True):
        run(optimizer, way, range(1, 3))
        optimizer.param_groups[0].update(betas=(0.8, 0.9), weight_decay=0.5, maximize=True)
        run(optimizer, way, range(3, 5))
    assert_close(*pairs)


def test_eager_and_compiled_steps_take_turns() -> None:
    optimizer, plain = made(steepest.Adam, {}), made(steepest.Adam, {})
    step, _ = compiled(optimizer)
    for seeds, way, ran in (
        (range(1, 3), optimizer.step, "native"),
        (range(3, 5), step, "compiled"),
        (range(5, 7), optimizer.step, "native"),
    ):
        run(optimizer, way, seeds)
        run(plain, plain.step, seeds)
        assert optimizer.executor == ran
    assert_close(optimizer, plain)


@pytest.mark.parametrize("options", [{"fused": True}, {"state_dtype": "int8"}, {"state_dtype": "bfloat16"}], ids=str)
def test_kernels_that_are_asked_for_and_coded_state_step_outside_of_the_graph(options: Options) -> None:
    pairs = [steepest.Adam([torch.nn.Parameter(torch.linspace(-1, 1, 5000))], **options) for _ in range(2)]
    step, counter = compiled(pairs[0])
    for optimizer, way in zip(pairs, (step, pairs[1].step), strict=True):
        (p,) = optimizer.param_groups[0]["params"]
        for k in range(3):
            p.grad = torch.linspace(-k, 1, 5000)
            way()
    (p,), (q,) = (optimizer.param_groups[0]["params"] for optimizer in pairs)
    assert counter.frame_count == 0
    assert pairs[0].executor == "native"
    assert torch.equal(p, q)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # of dynamo itself
def test_closures_and_drivers() -> None:
    """What evaluates closures itself is no graph; a closure of any other step may be one."""
    for cls in (steepest.SteepestDescent, steepest.SGD):
        pairs = [made(cls, {"lr": 0.1}) for _ in range(2)]
        losses = []
        for optimizer, wrap in zip(pairs, (torch.compile, lambda f, **_: f), strict=True):
            closure = closure_for(optimizer)
            step = wrap(lambda optimizer=optimizer, closure=closure: optimizer.step(closure), backend="eager")
            losses.append([step().item() for _ in range(3)])
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)
        assert losses[0][2] < losses[0][0]
        assert_close(*pairs)


def test_the_step_leaves_gradients_as_they_are() -> None:
    optimizer = made(steepest.AdamW, {"maximize": True, "weight_decay": 0.1})
    step, _ = compiled(optimizer)
    run(optimizer, step, range(1, 3))
    for p, g in zip(optimizer.param_groups[0]["params"], drawn(2), strict=True):
        assert torch.equal(p.grad, g)
    assert torch.is_grad_enabled()


# -- groups ------------------------------------------------------------------------------------------------------------


def grouped(cls: type[Optimizer]) -> tuple[Any, list[torch.nn.Parameter]]:
    """An optimizer of two groups of one parameter each, and a third parameter for later."""
    shapes = [(4, 3), (2, 2), (3, 2)]
    source = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=source)) for shape in shapes]
    other = {"weight_decay": 0.05} if "weight_decay" in cls.fields else {}
    return cls([{"params": params[:1]}, {"params": params[1:2], **other}]), params


def run_grouped(optimizer: Any, params: list[torch.nn.Parameter], step: Callable[[], Any]) -> None:
    """Six steps: the second group's first gradient comes late, and a third group is added later still."""
    for index in range(6):
        if index == 4:
            optimizer.add_param_group({"params": params[2:]})
        for k, p in enumerate(params):
            source = torch.Generator().manual_seed(3 * index + k)
            p.grad = None if k == 1 and index < 2 else torch.randn(p.shape, generator=source)
        step()


@pytest.mark.every(17)
@every_recorded_structure
@pytest.mark.parametrize("as_method", [True, False], ids=["step", "lambda"])
def test_groups_late_gradients_and_groups_added_later_stay_compiled(cls: type[Optimizer], as_method: bool) -> None:
    (optimizer, params), (plain, others) = grouped(cls), grouped(cls)
    way = optimizer.step if as_method else lambda: optimizer.step()
    counter = CompileCounter()
    run_grouped(optimizer, params, torch.compile(way, backend=counter))
    run_grouped(plain, others, plain.step)
    assert optimizer.executor == "compiled"
    assert counter.frame_count >= 1
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
        for name, value in plain.state[q].items():
            torch.testing.assert_close(optimizer.state[p][name], value, rtol=1e-5, atol=1e-6)


def test_an_optimizer_made_inside_a_compiled_function_steps() -> None:
    def fresh(cls: Any) -> Tensor:
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.full((3,), 0.5)
        optimizer = cls([p], lr=0.1)
        optimizer.step()
        return p.detach()

    for name in ("SGD", "AdamW"):
        theirs = fresh(getattr(torch.optim, name))
        ours = torch.compile(fresh, backend="eager")(getattr(steepest, name))
        torch.testing.assert_close(ours, theirs)
