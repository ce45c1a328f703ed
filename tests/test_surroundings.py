"""Steps under modes, transforms and defaults that somebody else has set: what torch's loop does, or an error."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from cases import (
    BRANCHING,
    CLASSES,
    PLANNED,
    PLANNED_TWINS,
    SWITCHES,
    Twins,
    every_native_class,
    every_planned_class,
    every_separate_class,
    executors_of,
)
from steepest import SGD, AdamW, Optimizer

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


def made(cls: type[Any], **options: Any) -> tuple[Any, list[torch.nn.Parameter]]:
    source = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=source)) for shape in ((4, 3), (2, 2))]
    return cls(params, **options), params


def give(params: list[torch.nn.Parameter], seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=source)


def trained(cls: type[Any], context: Any = None, steps: int = 3, **options: Any) -> tuple[Any, list[Tensor]]:
    """Steps whose last is inside ``context``."""
    optimizer, params = made(cls, **options)
    for seed in range(steps):
        give(params, seed)
        if context is not None and seed == steps - 1:
            with context:
                optimizer.step()
        else:
            optimizer.step()
    return optimizer, [p.detach() for p in params]


class Seen(TorchDispatchMode):
    """Records the names of the operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Called(TorchFunctionMode):
    """Records the functions."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@every_native_class
@pytest.mark.parametrize("mode", [Seen, Called])
def test_a_mode_sees_the_step_and_changes_nothing(cls: type[Optimizer], mode: type[Any]) -> None:
    seen = mode()
    optimizer, params = trained(cls, seen)
    assert any("mul" in name or "add" in name or "lerp" in name for name in seen.names)
    assert "native" not in str(optimizer.executor)
    assert mode.__name__ in optimizer.executor.reason
    _, others = trained(cls)
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-6, atol=2e-6)
    give(optimizer.param_groups[0]["params"], 9)
    optimizer.step()
    assert optimizer.executor == "native", "the mode is gone"


@pytest.mark.parametrize("mode", [Seen, Called])
def test_fused_true_raises_under_a_mode(mode: type[Any]) -> None:
    with pytest.raises(RuntimeError, match=f"`fused=True` runs a kernel that {mode.__name__} cannot intercept"):
        trained(AdamW, mode(), fused=True)


@pytest.mark.every(3)
@every_separate_class
def test_make_fx_records_a_step_that_can_be_replayed(cls: type[Optimizer]) -> None:
    if cls in BRANCHING.values():
        pytest.skip("its rule branches on the step count")
    optimizer, params = made(cls)
    plain, others = made(cls)
    give(params, 0)
    give(others, 0)
    optimizer.step()
    plain.step()

    def step(x: Tensor) -> Tensor:
        params[0].grad, params[1].grad = x, x[:2, :2]
        optimizer.step()
        return params[0] + 0

    x = torch.ones(4, 3)
    graph = make_fx(step)(x)
    others[0].grad, others[1].grad = x, x[:2, :2]
    plain.step()
    torch.testing.assert_close(params[0], others[0], rtol=1e-5, atol=1e-6)
    assert any("copy_" in str(node.target) or "add_" in str(node.target) for node in graph.graph.nodes)


@every_planned_class
@pytest.mark.parametrize("executor", ["default", *SWITCHES])
def test_fake_tensors_step(cls: type[Optimizer], executor: str) -> None:
    if executor == "native" and executor in executors_of(cls):
        return  # refused, in the next test
    with FakeTensorMode():
        optimizer, params = made_fake(cls, SWITCHES.get(executor, {}) if executor in executors_of(cls) else {})
        for p in params:
            p.grad = torch.ones_like(p)
        if cls in BRANCHING.values():
            with pytest.raises(RuntimeError, match="branches on the step count, which FakeTensorMode hides"):
                optimizer.step()
            return
        optimizer.step()
        optimizer.step()
        assert params[0].shape == (4, 3)


def made_fake(cls: type[Optimizer], options: dict[str, Any]) -> tuple[Any, list[torch.nn.Parameter]]:
    params = [torch.nn.Parameter(torch.ones(4, 3)), torch.nn.Parameter(torch.ones(2, 2))]
    return cls(params, **options), params


def test_fused_true_refuses_fake_tensors() -> None:
    with FakeTensorMode():
        params = [torch.nn.Parameter(torch.ones(3))]
        with pytest.raises(RuntimeError, match="not FakeTensor"):
            AdamW(params, fused=True)


@pytest.mark.parametrize("twins", PLANNED_TWINS.values(), ids=list(PLANNED_TWINS))
def test_parameters_on_meta_step_where_torchs_do(twins: Twins) -> None:
    outcomes = []
    for cls in twins:
        p = torch.nn.Parameter(torch.empty(4, 3, device="meta"))
        optimizer = cls([p])
        p.grad = torch.empty_like(p)
        try:
            optimizer.step()
            optimizer.step()
            outcomes.append(True)
        except RuntimeError:
            outcomes.append(False)
    ours, theirs = outcomes
    assert ours or not theirs


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"foreach": False}], ids=str)
@pytest.mark.parametrize("name", ["sgd", "adamw", "nadam"])
def test_a_step_inside_functionalize(name: str, options: dict[str, Any]) -> None:
    """torch's own words and numbers: the parameters are real, so the step writes to them."""

    def run(cls: type[Any]) -> Tensor:
        p = torch.nn.Parameter(torch.ones(5))
        optimizer = cls([p], lr=0.1, **options)

        def loss(g: Tensor) -> Tensor:
            p.grad = g
            optimizer.step()
            return g.sum()

        try:
            torch.func.functionalize(loss)(torch.full((5,), 0.5))
        except RuntimeError:
            return torch.zeros(())
        return p.detach()

    ours, theirs = map(run, PLANNED_TWINS[name])
    assert ours.dim() == 0 or torch.allclose(ours, torch.as_tensor(theirs), rtol=1e-5)


def test_functional_wrappers_never_reach_the_kernel() -> None:
    """Outside of any transform: their memory cannot be read, and reading it ended the process."""
    p = torch.nn.Parameter(torch.ones(5))
    optimizer = AdamW([p])
    p.grad = torch._to_functional_tensor(torch.ones(5))
    with pytest.raises(RuntimeError):  # torch's operations refuse the mixture too
        optimizer.step()
    assert optimizer.executor != "native"


@every_planned_class
@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"foreach": False}], ids=str)
def test_a_gradient_without_storage_is_zeros(cls: type[Optimizer], options: dict[str, Any]) -> None:
    results = []
    for zeros in (torch._efficientzerotensor((4, 3)), torch.zeros(4, 3)):
        optimizer, params = made(cls, **options)
        give(params, 0)
        optimizer.step()
        params[0].grad = zeros
        optimizer.step()
        results.append(params[0].detach())
    torch.testing.assert_close(*results, rtol=2e-6, atol=2e-6)


@every_planned_class
@pytest.mark.parametrize("executor", list(SWITCHES))
def test_steps_in_inference_mode(cls: type[Optimizer], executor: str) -> None:
    options = SWITCHES[executor] if executor in executors_of(cls) else {}
    results = []
    for mode in (True, False):
        with torch.inference_mode(mode):
            _, params = trained(cls, **options)
            results.append([p.detach().clone() for p in params])
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("twins", PLANNED_TWINS.values(), ids=list(PLANNED_TWINS))
def test_a_parameter_that_is_a_negated_view_steps_as_torchs_does(twins: Twins) -> None:
    source = torch.Generator().manual_seed(0)
    z = torch.randn(6, 2, dtype=torch.complex64, generator=source)
    results = []
    for cls, options in zip(twins, ({}, {"foreach": False} if "foreach" in twins[0].fields else {}), strict=True):
        p = torch.nn.Parameter(z.clone().conj().imag)
        assert p.is_neg()
        try:
            optimizer = cls([p], **options)
        except TypeError:  # torch's Muon has no foreach
            optimizer = cls([p])
        for seed in (1, 2):
            give([p], seed)
            optimizer.step()
        results.append(p.detach().resolve_neg())
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


# -- defaults --------------------------------------------------------------------------------------------------------


@every_planned_class
@pytest.mark.parametrize("executor", list(SWITCHES))
def test_a_default_device_changes_no_number(cls: type[Optimizer], executor: str) -> None:
    if executor not in executors_of(cls):
        executor = "reference"
    options = {**SWITCHES[executor], "max_norm": 0.5}
    optimizer, params = trained(cls, torch.device("meta"), **options)
    _, others = trained(cls, **options)
    for p, q in zip(params, others, strict=True):
        assert torch.equal(p, q)
    assert optimizer.executor == executor


@every_planned_class
def test_the_first_step_under_a_default_device(cls: type[Optimizer]) -> None:
    _, params = trained(cls, torch.device("meta"), steps=1)
    _, others = trained(cls, steps=1)
    assert all(map(torch.equal, params, others))


def test_an_import_under_a_default_device_and_dtype_changes_no_number() -> None:
    text = """
import torch
torch.set_default_device("meta"); torch.set_default_dtype(torch.float64)
import steepest
torch.set_default_device("cpu"); torch.set_default_dtype(torch.float32)
ours, theirs = steepest.AdamW, torch.optim.AdamW
for cls, options in ((theirs, {}), (ours, {}), (ours, {"foreach": True}), (ours, {"foreach": False})):
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = cls([w], lr=0.5, **options)
    for _ in range(3):
        w.grad = torch.tensor([1.0, -2.0, 3.0])
        optimizer.step()
    print([round(x, 4) for x in w.tolist()], optimizer.state[w]["step"].item(), optimizer.state[w]["step"].dtype)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert len(set(lines)) == 1


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_lazy_parameters_may_be_given_to_a_fused_optimizer() -> None:
    layer = torch.nn.LazyLinear(2)
    optimizer = AdamW(layer.parameters(), fused=True)
    layer(torch.ones(3, 4)).sum().backward()
    optimizer.step()
    assert optimizer.executor == "native"


def test_a_child_process_steps_after_its_parent_has_stepped_on_many_threads() -> None:
    """A DataLoader's worker is a fork: threads of the parent are missing there."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    text = """
import os, torch, steepest
p = torch.nn.Parameter(torch.ones(400_000)); p.grad = torch.ones_like(p)
optimizer = steepest.AdamW([p], max_norm=1.0); optimizer.step()
child = os.fork()
if child == 0:
    optimizer.step()
    os._exit(0 if optimizer.state[p]["step"].item() == 2 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "0", done.stderr


def test_a_program_knows_its_executor_again_after_pickling() -> None:
    optimizer, params = trained(SGD, Seen(), momentum=0.9)
    del params
    file = io.BytesIO()
    torch.save(optimizer, file)
    file.seek(0)
    assert torch.load(file, weights_only=False).executor == "native"


def is_recorded(cls: type[Optimizer]) -> bool:
    """Whether a class steps on fake tensors, and has no scalar state, which is read when it is loaded."""
    return cls not in BRANCHING.values() and all(s.kind != "scalar" for s in cls.rule.state)


@pytest.mark.parametrize("options", [{"max_norm": 1.0}, {"max_norm": 0.1, "ema_decay": 0.9}])
@pytest.mark.parametrize("name", [n for n, cls in PLANNED.items() if is_recorded(cls)])
def test_clipping_and_loading_on_fake_tensors(name: str, options: dict[str, Any]) -> None:
    """The norm is no number there, and a fake tensor is no storage that could be copied. Loading reads scalar state."""
    with FakeTensorMode():
        w = torch.nn.Parameter(torch.randn(4, 3))
        optimizer = CLASSES[name]([w], **options)
        for _ in range(2):
            w.grad = torch.randn(4, 3)
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())


def test_a_rate_that_is_a_fake_tensor() -> None:
    with FakeTensorMode():
        w = torch.nn.Parameter(torch.randn(4, 3))
        w.grad = torch.randn(4, 3)
        CLASSES["adamw"]([w], lr=torch.tensor(0.1)).step()
