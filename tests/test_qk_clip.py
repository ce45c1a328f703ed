"""QK-clip: logits of attention come down to τ after a step, head by head, and nothing else moves."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steepest import AdamW, AdamWScheduleFree, Muon

D, HEADS, WIDTH = 4, 6, 10
F64 = torch.float64


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Attention(nn.Module):
    """Logits of attention, in which ``shared`` key heads serve all query heads."""

    def __init__(self, shared: int = HEADS, bias: bool = False) -> None:
        super().__init__()
        self.q = nn.Linear(WIDTH, HEADS * D, bias=bias, dtype=F64)
        self.k = nn.Linear(WIDTH, shared * D, bias=bias, dtype=F64)
        for seed, p in enumerate(self.parameters()):
            p.data.copy_(
                drawn(tuple(p.shape), seed) * (1 + torch.arange(p.shape[0]).view(-1, *[1] * (p.dim() - 1)) // D)
            )

    def largest(self, x: Tensor) -> Tensor:
        """The largest logit of each query head."""
        q, k = (layer(x).unflatten(-1, (-1, D)).transpose(-2, -3) for layer in (self.q, self.k))
        k = k.repeat_interleave(HEADS // k.shape[-3], -3)
        return (q @ k.mT / math.sqrt(D)).amax((0, -1, -2)).detach()


X = drawn((3, 7, WIDTH), 9)


def clipped(shared: int, bias: bool = False, **options: Any) -> tuple[Attention, Tensor, dict[str, Tensor]]:
    """A module after the clip, its logits before it, and its parameters before it."""
    module = Attention(shared, bias)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = AdamW(module.named_parameters())
    largest = module.largest(X)
    entries = {("q.weight", "k.weight"): largest, **({("q.bias", "k.bias"): largest} if bias else {})}
    optimizer.clip_qk(entries, **options)
    return module, largest, before


@pytest.mark.parametrize("shared", [HEADS, 3, 2, 1])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_at_most_tau_afterwards(shared: int, alpha: float, bias: bool) -> None:
    """Where every key head has a query head of its own, or alpha is 1, they are τ where they were more."""
    module, largest, _ = clipped(shared, bias, tau=120.0, alpha=alpha)
    after = module.largest(X)
    assert 0 < int((largest > 120.0).sum()) < HEADS
    assert after.max() <= 120.0 * (1 + 1e-12)
    if shared == HEADS or alpha == 1.0:
        torch.testing.assert_close(after, largest.clamp(max=120.0))


def test_queries_and_keys_take_their_shares() -> None:
    module, largest, before = clipped(HEADS, tau=120.0, alpha=0.25)
    gamma = (120.0 / largest).clamp(max=1.0).repeat_interleave(D)[:, None]
    torch.testing.assert_close(module.q.weight.detach(), before["q.weight"] * gamma**0.25)
    torch.testing.assert_close(module.k.weight.detach(), before["k.weight"] * gamma**0.75)


@pytest.mark.parametrize("shared", [HEADS, 2])
def test_other_heads_keep_every_bit(shared: int) -> None:
    module, largest, before = clipped(shared, tau=120.0)
    served = HEADS // shared
    for head in range(HEADS):
        rows = slice(head * D, (head + 1) * D)
        assert torch.equal(module.q.weight[rows], before["q.weight"][rows]) == (largest[head] <= 120.0)
    for head in range(shared):
        rows = slice(head * D, (head + 1) * D)
        are_small = bool((largest[head * served : (head + 1) * served] <= 120.0).all())
        assert torch.equal(module.k.weight[rows], before["k.weight"][rows]) == are_small


def test_a_shared_key_may_be_left_alone() -> None:
    module, _, before = clipped(2, tau=120.0, alpha=1.0)
    assert torch.equal(module.k.weight, before["k.weight"])


@pytest.mark.parametrize("largest", [torch.full((HEADS,), 100.0), torch.full((HEADS,), -1e9), torch.zeros(HEADS)])
def test_nothing_happens_up_to_tau(largest: Tensor) -> None:
    """100, unless another one is given; negative logits are small."""
    module = Attention()
    before = [p.detach().clone() for p in module.parameters()]
    AdamW(module.parameters()).clip_qk({(module.q.weight, module.k.weight): largest})
    assert all(map(torch.equal, before, module.parameters()))


@pytest.mark.parametrize("cls", [Muon, AdamW])
def test_torchs_attention_in_one_parameter(cls: Any) -> None:
    """Values stay; names and parameters both find it; biases are entries of their own."""
    module = nn.MultiheadAttention(8, 2, dtype=F64)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    assert module.in_proj_weight is not None
    largest = torch.tensor([50.0, 400.0])
    optimizer = cls(module.named_parameters())
    optimizer.clip_qk({"in_proj_weight": largest, module.in_proj_bias: largest})
    for name in ("in_proj_weight", "in_proj_bias"):
        parts = zip(dict(module.named_parameters())[name].chunk(3), before[name].chunk(3), strict=True)
        for (now, then), factor in zip(parts, (0.5, 0.5, 1.0), strict=True):
            assert torch.equal(now[:4], then[:4])
            torch.testing.assert_close(now[4:].detach(), factor * then[4:], rtol=1e-14, atol=0)
    assert torch.equal(module.out_proj.weight, before["out_proj.weight"])


def test_it_leaves_state_and_gradients_and_half_dtypes() -> None:
    p, q = (nn.Parameter(torch.ones(8, 8, dtype=torch.bfloat16)) for _ in range(2))
    optimizer = Muon([p, q])
    for x in (p, q):
        x.grad = torch.ones_like(x)
    optimizer.step()
    held = [optimizer.state[x]["momentum_buffer"].clone() for x in (p, q)]
    start = p.detach().clone()
    optimizer.clip_qk({(p, q): torch.tensor([200.0, 1.0])}, alpha=1.0)
    assert torch.equal(p[:4], start[:4] / 2)
    assert p.dtype == torch.bfloat16
    assert p.requires_grad
    assert p.grad is not None
    assert p.grad.eq(1.0).all()
    assert all(torch.equal(a, optimizer.state[x]["momentum_buffer"]) for a, x in zip(held, (p, q), strict=True))


REFUSED: list[tuple[Any, Any, str]] = [
    (("q.weight", "k.weight"), torch.ones(5), r"are of 5 heads, which do not divide its 24 query rows"),
    (("q.weight", "k.weight"), torch.ones(HEADS, 2), r"shape \(6, 2\); give one number for each query head"),
    (("q.weight", "k.weight"), torch.ones(()), r"shape \(\); give one number for each query head"),
    (("q.weight", "k.weight"), torch.ones(4), r"4 heads of 6 rows, which do not fit its 8 key rows"),
    (("q.weight", "k.weight"), torch.ones(3), r"3 heads of 8 rows"),
    (("q.weight", "k.weight"), torch.full((HEADS,), math.nan), r"'q.weight' and 'k.weight' are not finite"),
    (("q.weight", "k.wight"), torch.ones(HEADS), r"no parameter 'k.wight'"),
    ("k.weight", torch.ones(2), r"'k.weight' has 8 rows, which are not equal parts of queries, keys and values"),
    (nn.Parameter(torch.ones(3, 3)), torch.ones(1), r"no parameter a parameter of shape \(3, 3\)"),
]


@pytest.mark.parametrize(("place", "largest", "message"), REFUSED, ids=[m for *_, m in REFUSED])
def test_what_does_not_fit_is_refused_before_anything_moves(place: Any, largest: Tensor, message: str) -> None:
    module = Attention(2)
    if "3 heads of 8" in message:
        module.k = nn.Linear(WIDTH, 16, bias=False, dtype=F64)
    before = [p.detach().clone() for p in module.parameters()]
    optimizer = AdamW(module.named_parameters())
    good = {(module.q.weight, module.k.weight): torch.full((HEADS,), 500.0)} if "3 heads" not in message else {}
    with pytest.raises(ValueError, match=message):
        optimizer.clip_qk({**good, place: largest})
    assert all(map(torch.equal, before, module.parameters()))


@pytest.mark.parametrize("options", [{"tau": 0.0}, {"tau": math.nan}, {"alpha": -0.1}, {"alpha": 1.1}])
def test_numbers_out_of_bounds(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"clip_qk takes tau > 0 and 0 <= alpha <= 1, not tau="):
        AdamW(Attention().parameters()).clip_qk({}, **options)


def test_weights_that_are_made_anew_are_refused() -> None:
    """Schedule-Free's y comes from z and x at each step."""
    module = Attention()
    with pytest.raises(RuntimeError, match="which AdamWScheduleFree makes anew from other weights"):
        AdamWScheduleFree(module.named_parameters()).clip_qk({("q.weight", "k.weight"): torch.ones(HEADS)})
