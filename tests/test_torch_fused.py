"""torch's own fused functions under our classes: the way to them is the same on a CPU, where they run too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from cases import PLANNED, TWINS, Twins, defaults, snapshot
from steepest import Optimizer
from steepest.executors import choose, torch_fused
from steepest.group import GroupSpec

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sgd": [{"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}, {}],
    "adam": [{"amsgrad": True, "weight_decay": 0.1}, {}],
    "adamw": [{"lr": 0.01, "maximize": True}],
    "adagrad": [{"lr_decay": 0.1, "initial_accumulator_value": 0.2}],
}


def let_torch_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put torch's functions where the native executor is."""
    ours = [replace(e, make_buckets=torch_fused.make_buckets) if e.name == "native" else e for e in choose.EXECUTORS]
    monkeypatch.setattr(choose, "EXECUTORS", tuple(ours))


def rows() -> Iterator[Any]:
    for name, twins in TWINS.items():
        if not torch_fused.refusal(GroupSpec.of(twins[0], defaults(twins[0]))):
            for options in OPTIONS[name]:
                yield pytest.param(twins, options, id=f"{name}-{len(options)}")


@pytest.mark.parametrize(("twins", "options"), list(rows()))
def test_bit_by_bit_what_torchs_class_does(
    twins: Twins, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [[torch.nn.Parameter(torch.randn(5, 3, generator=torch.Generator().manual_seed(i))) for i in range(4)]] * 2
    params, others = ([torch.nn.Parameter(p.detach().clone()) for p in each] for each in made)
    ours, theirs = twins[0](params, **options, fused=True), twins[1](others, **options, fused=True)
    let_torch_run(monkeypatch)
    # torch's own fused SGD cannot take a parameter that joins late; ours can, so it is left to the others.
    resting = {(3, 2)} if "momentum" in options else {(0, 1), (3, 2)}
    hooked: list[Any] = []
    ours.register_step_post_hook(lambda *_: hooked.append(1))
    for step in range(6):
        for index, (p, q) in enumerate(zip(params, others, strict=True)):
            g = torch.randn(5, 3, generator=torch.Generator().manual_seed(10 * step + index))
            p.grad, q.grad = (None, None) if (step, index) in resting else (g, g.clone())
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
            optimizer.step()
    for (p, held), (q, other) in zip(snapshot(ours), snapshot(theirs), strict=True):
        assert torch.equal(p, q)
        assert {n: v for n, v in held.items() if isinstance(v, torch.Tensor)}.keys() == other.keys()
        assert all(torch.equal(held[n], other[n]) for n in other)
    assert len(hooked) == 6


@pytest.mark.parametrize(("twins", "options"), list(rows()))
def test_the_scale_of_the_gradients_reaches_torchs_function(
    twins: Twins, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    p, q = (torch.nn.Parameter(torch.linspace(-1.0, 1.0, 15)) for _ in range(2))
    ours, plain = twins[0]([p], **options, fused=True), twins[1]([q], **options, fused=True)
    let_torch_run(monkeypatch)
    for step in range(4):
        q.grad = torch.randn(15, generator=torch.Generator().manual_seed(step))
        is_scaled = step != 2  # a step without a scale in between
        p.grad = q.grad * (1024.0 if is_scaled else 1.0)
        if is_scaled:
            ours.grad_scale, ours.found_inf = torch.tensor(1024.0), torch.tensor(0.0)
        ours.step()
        if is_scaled:
            del ours.grad_scale, ours.found_inf
        plain.step()
    torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_what_torch_has_no_kernel_for_is_refused() -> None:
    sgd, nadam, novograd = (PLANNED[name] for name in ("sgd", "nadam", "novograd"))

    def reason(cls: type[Optimizer], **options: Any) -> str:
        return torch_fused.refusal(GroupSpec.of(cls, {**defaults(cls), **options}))

    assert reason(sgd) == ""
    assert (
        reason(sgd, foreach=False, ema_decay=0.9, max_norm=1.0) == "torch's fused SGD does not know ema_decay, max_norm"
    )
    assert reason(nadam) == "torch has no fused NAdam"
    assert reason(novograd) == "torch has no fused NovoGrad"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fused_on_a_gpu_is_torchs() -> None:
    params = [torch.nn.Parameter(torch.ones(3, device="cuda"))]
    optimizer = PLANNED["adamw"](params, fused=True)
    assert optimizer.executor == "torch"
    params[0].grad = torch.ones(3, device="cuda")
    optimizer.step()
    assert torch.allclose(params[0], torch.full((3,), 0.99899, device="cuda"))
