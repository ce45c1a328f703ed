"""The steps of a walkthrough are the optimizer's own, and every symbol has the value that its equation gives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import steepest
from cases import CLASSES, Options, defaults
from steepest import Optimizer, Rule, State, fields
from steepest.describe import update_equations
from steepest.registry import Recipe
from steepest.rule import Shared
from steepest.vocabulary import lerp, total
from steepest.walkthrough import Step, Walkthrough, in_numbers, in_rows

F64 = torch.float64
START = torch.tensor([4.0, -2.0, 0.5], dtype=F64)
MATRIX = torch.tensor([[4.0, -2.0, 0.5], [1.0, 3.0, -1.0], [0.25, 2.0, 5.0], [-3.0, 1.0, 2.0]], dtype=F64)
LOSSES = (3.0, 2.5, 2.75, 2.0)


def gradient(step: int) -> torch.Tensor:
    return torch.tensor([1.0, -3.0, 0.25], dtype=F64) * (step + 1) ** 0.5


def gradient_of_matrix(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(MATRIX.shape, dtype=F64, generator=generator)


REFUSED = {"sparseadam": "SparseAdam takes only sparse gradients"}
DRIVERS = {name: cls for name, cls in CLASSES.items() if cls.needs_closure({**defaults(cls), "params": []})}
OF_MATRICES = {
    name: cls for name, cls in CLASSES.items() if cls.rule_for({**defaults(cls), "params": []}).kind == "matrix"
}
WALKED = [
    *((cls, START) for name, cls in CLASSES.items() if name not in {*REFUSED, *DRIVERS, *OF_MATRICES}),
    *((cls, MATRIX) for cls in OF_MATRICES.values()),
    *((cls, START) for name, cls in OF_MATRICES.items() if "muon" not in name),
]


def walked(cls: type[Optimizer], start: torch.Tensor, **options: Any) -> tuple[list[Step], torch.Tensor]:
    """Return the steps of a walkthrough, and the weights of the optimizer itself after the same steps."""
    walk = Walkthrough(cls, start, **options)
    p = torch.nn.Parameter(start.clone())
    optimizer = cls([p], **options)
    optimizer.param_groups[0].update(foreach=False, fused=False)
    steps = []
    for k, loss in enumerate(LOSSES):
        p.grad = gradient(k) if start is START else gradient_of_matrix(k)
        steps.append(walk.step(p.grad, loss=loss))
        optimizer.step(loss=loss)
        assert torch.equal(steps[-1].after, p.detach())
    return steps, p.detach()


def symbols(step: Step) -> dict[str, Any]:
    """Return the last value of each symbol."""
    return {each.symbol: each.value for each in step.equations}


@pytest.mark.parametrize(("cls", "start"), WALKED, ids=lambda x: getattr(x, "__name__", f"{getattr(x, 'ndim', x)}d"))
def test_the_steps_are_the_optimizers_to_the_bit(cls: type[Optimizer], start: torch.Tensor) -> None:
    """The last equation of the weights has the value that the reference executor writes."""
    for k, step in enumerate(walked(cls, start)[0]):
        assert step.number == k + 1
        weights = [torch.as_tensor(each.value) for each in step.equations if each.symbol == "θ"]
        assert torch.equal(weights[-1].reshape(start.shape) if weights else step.before, step.after)
        assert weights or k == 0, "only the first step of ADOPT and of SOAP leaves the weights"
        for symbol, expected in (("θ", step.before), ("θ_old", step.before), ("g", step.gradient)):
            assert torch.equal(torch.as_tensor(step.given.get(symbol, expected)).reshape(start.shape), expected)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_the_others_are_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[name]):
        Walkthrough(CLASSES[name], START)


def test_every_symbol_of_adam_by_hand() -> None:
    walk = Walkthrough(steepest.Adam, torch.tensor([3.0], dtype=F64), lr=0.1, betas=(0.5, 0.75), eps=0.5)
    walk.step(torch.tensor([2.0], dtype=F64))
    step = walk.step(torch.tensor([4.0], dtype=F64))
    assert {name: float(value) for name, value in step.given.items() if name not in ("θ",)} == pytest.approx(
        {"g": 4.0, "m": 1.0, "v": 1.0, "η": 0.1, "β₁": 0.5, "β₂": 0.75, "ε": 0.5, "t": 2.0}
    )
    m, v = 0.5 * 1.0 + 0.5 * 4.0, 0.75 * 1.0 + 0.25 * 16.0
    mhat, vhat = m / (1 - 0.5**2), v / (1 - 0.75**2)
    assert [(e.symbol, float(e.value)) for e in step.equations[:4]] == [
        ("m", pytest.approx(m)),
        ("v", pytest.approx(v)),
        ("m̂", pytest.approx(mhat)),
        ("v̂", pytest.approx(vhat)),
    ]
    moved = float(step.before) - 0.1 * mhat / (math.sqrt(vhat) + 0.5)
    assert float(step.after) == pytest.approx(moved)


def test_every_symbol_of_prodigy_by_hand() -> None:
    """Algorithm 4 of the paper, in plain numbers."""
    steps, _ = walked(steepest.Prodigy, START, betas=(0.9, 0.99), d0=1e-2)
    x0, x = START.tolist(), START.tolist()
    s, m, v = [0.0] * 3, [0.0] * 3, [0.0] * 3
    d, r = 1e-2, 0.0
    for k, step in enumerate(steps):
        g = gradient(k).tolist()
        moved = sum(gi * (ai - xi) for gi, ai, xi in zip(g, x0, x, strict=True))
        r = math.sqrt(0.99) * r + (d / 1e-2) * d * moved
        s = [math.sqrt(0.99) * si + (d / 1e-2) * d * gi for si, gi in zip(s, g, strict=True)]
        length = sum(map(abs, s))
        new_d = max(d, r / length)
        m = [0.9 * mi + 0.1 * d * gi for mi, gi in zip(m, g, strict=True)]
        v = [0.99 * vi + 0.01 * d * d * gi * gi for vi, gi in zip(v, g, strict=True)]
        x = [xi - d * mi / (math.sqrt(vi) + new_d * 1e-8) for xi, mi, vi in zip(x, m, v, strict=True)]
        told = symbols(step)
        expected = {"moved": moved, "length": length, "d_numerator": r, "d_before": d, "d": new_d, "δ": d}
        assert {name: float(told[name]) for name in expected} == pytest.approx(expected)
        for name, values in {"s": s, "m": m, "v": v, "θ": x}.items():
            assert told[name].tolist() == pytest.approx(values)
        assert float(step.given["d"]) == pytest.approx(d), "the distance before the step"
        d = new_d
    assert d > 1e-2, "the estimate has grown"


def test_every_symbol_of_muon_by_hand() -> None:
    """Newton and Schulz's iteration in bfloat16, as in Jordan's code."""
    steps, _ = walked(steepest.Muon, MATRIX, lr=0.1, weight_decay=0.5)
    a, b, c = 3.4445, -4.7750, 2.0315
    p, momentum = MATRIX, torch.zeros_like(MATRIX)
    for k, step in enumerate(steps):
        g = gradient_of_matrix(k)
        p = p * (1 - 0.1 * 0.5)
        assert torch.equal(torch.as_tensor(step.equations[0].value), p)
        momentum = torch.lerp(momentum, g, 1 - 0.95)
        ahead = torch.lerp(g, momentum, 0.95)
        x = ahead.bfloat16().T
        x = x / x.norm().clamp(min=1e-7)
        for _ in range(5):
            square = x @ x.T
            x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
        told = symbols(step)
        assert torch.equal(told["B"], momentum)
        assert torch.equal(told["u"], ahead)
        torch.testing.assert_close(told["O"], x.T.double(), rtol=0.02, atol=0.02)  # products of bfloat16 round
        p = p - 0.1 * math.sqrt(4 / 3) * told["O"]
        torch.testing.assert_close(told["θ"], p)
        p = step.after


def test_the_loss_is_a_part_of_some_steps() -> None:
    """MoMo's step size is Polyak's, below the rate."""
    walk = Walkthrough(steepest.MoMo, START, lr=100.0)
    with pytest.raises(ValueError, match=r"the step of MoMo depends on the loss; give it too: step\(gradient, loss="):
        walk.step(gradient(0))
    step = walk.step(gradient(0), loss=torch.tensor(2.0))
    assert float(symbols(step)["τ"]) == pytest.approx(2.0 / float(gradient(0).square().sum()))
    assert step.number == 1


def valley(x: torch.Tensor) -> torch.Tensor:
    return (x[0] - 3) ** 2 + 10 * (x[1] - x[0] ** 2 / 4) ** 2 + x[2] ** 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lbfgs", {"max_iter": 3}),
        ("lbfgs", {"line_search_fn": "strong_wolfe", "max_iter": 3}),
        *(("steepestdescent", {"line_search": search}) for search in ("strong_wolfe", "armijo")),
        ("steepestdescent", {"weight_decay": 0.1, "maximize": True}),
    ],
    ids=str,
)
def test_the_steps_of_a_search_are_the_optimizers_to_the_bit(name: str, options: Options) -> None:
    """Every point that is tried has the loss that the function has there, along the direction that is told."""
    sign, decay = (-1.0 if "maximize" in options else 1.0), options.get("weight_decay", 0.0)
    walk = Walkthrough(CLASSES[name], START, **options)
    p = torch.nn.Parameter(START.clone())
    optimizer = CLASSES[name]([p], **options)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return sign * valley(x)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        found = loss(p)
        found.backward()
        return found

    for number in range(1, 4):
        step = walk.search(loss)
        optimizer.step(closure)
        assert torch.equal(step.after, p.detach())
        assert step.number == number
        theta, direction, at, tried = step.before, None, None, 0
        for each in step.equations:
            if each.symbol == "θ":
                theta = torch.as_tensor(each.value)
            elif each.symbol == "d":
                direction = torch.as_tensor(each.value)
            elif each.symbol == "step":
                at = float(each.value)
            elif each.expression == "J(θ + step·d)":
                point, tried = torch.add(theta, direction, alpha=at), tried + 1
                assert float(each.value) == pytest.approx(float(valley(point)) + decay / 2 * float(point @ point))
        assert torch.equal(theta, step.after)
        assert tried > 0


def test_an_exact_search_by_hand() -> None:
    """On a quadratic the step is g·g / g·Ag."""
    scales = torch.tensor([1.0, 4.0, 9.0], dtype=F64)
    walk = Walkthrough(steepest.SteepestDescent, START, line_search="exact")
    step = walk.search(lambda x: (scales * x * x).sum() / 2)
    g = scales * START
    told = symbols(step)
    assert torch.equal(told["g"], g)
    torch.testing.assert_close(told["h"], scales * (START - g))
    torch.testing.assert_close(step.after, START - (g @ g) / (g @ (scales * g)) * g)
    assert torch.equal(torch.as_tensor(step.given["g"]), g)


def test_steps_and_searches_are_not_mistaken_for_each_other() -> None:
    with pytest.raises(ValueError, match=r"LBFGS asks for new gradients on its way; take its steps by search\("):
        Walkthrough(steepest.LBFGS, START).step(gradient(0))
    with pytest.raises(ValueError, match=r"Adam takes one gradient for a step; take its steps by step\(gradient\)"):
        Walkthrough(steepest.Adam, START).search(valley)


def test_a_step_that_is_left_out_has_no_update() -> None:
    walk = Walkthrough(steepest.Prodigy, START)
    step = walk.step(torch.zeros(3, dtype=F64))
    assert torch.equal(step.after, START)
    assert [each.symbol for each in step.equations] == ["moved", "length"]


@pytest.mark.parametrize(
    "options", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"maximize": True}], ids=str
)
def test_the_equations_are_those_that_show_prints(options: Options) -> None:
    walk = Walkthrough(steepest.SGD, START, **options)
    walk.step(gradient(0))
    printed = [f"{each.symbol} ← {each.expression}" for each in walk.step(gradient(1)).equations]
    assert printed == update_equations(steepest.SGD, Recipe("sgd", options).resolved())


@pytest.mark.parametrize(
    ("cls", "options", "expected"),
    [
        (steepest.Muon, {"weight_decay": 0}, None),
        (steepest.Muon, {"maximize": True, "max_norm": 1.0}, "g ← clip·-g"),
        (steepest.Muon, {"ema_decay": 0.9}, "ema ← "),
        (steepest.Muon, {"cautious_weight_decay": True}, "sign(θ_old - θ)·sign(θ_old)"),
        (steepest.Muon, {"heads": 2}, "θ ← θ·(1 - η·λ)"),
        (steepest.Scion, {"gpa": (0.9, 0.7)}, "gpa_z ← gpa_z + θ - θ_old"),
        (steepest.SOAP, {"kl": True, "precondition_frequency": 1}, "EL ← "),
        (steepest.Shampoo, {"graft": "adam", "spread": True}, "θ ← θ - η·u"),
    ],
    ids=str,
)
def test_what_surrounds_a_matrix_rule_has_equations_too(
    cls: type[Optimizer], options: Options, expected: str | None
) -> None:
    steps, after = walked(cls, MATRIX, **options)
    printed = "\n".join(f"{each.symbol} ← {each.expression}" for each in steps[-1].equations)
    assert expected is None or expected in printed
    assert torch.equal(torch.as_tensor(symbols(steps[-1])["θ"]).reshape(MATRIX.shape), after)


def test_a_step_that_is_skipped_has_no_equations() -> None:
    walk = Walkthrough(steepest.Adam, START, skip_nonfinite=True)
    step = walk.step(torch.full((3,), math.nan, dtype=F64))
    assert step.equations == ()
    assert torch.equal(step.after, START)
    assert symbols(walk.step(gradient(0)))["m"].tolist() == pytest.approx((0.1 * gradient(0)).tolist())


@pytest.mark.parametrize(
    "options",
    [
        {"zclip": 2.0},
        {"max_value": 0.1},
        {"ema_decay": "polynomial"},
        {"lookahead": (2, 0.5)},
        {"cautious": True, "update_rms": 1.0},
        {"agc": 0.1, "centralize": True},
        {"schedule_free": 0.9},
    ],
    ids=str,
)
def test_what_surrounds_a_traced_rule_is_in_its_equations(options: Options) -> None:
    steps, after = walked(steepest.AdamW, MATRIX, **options)
    assert torch.equal(torch.as_tensor(symbols(steps[-1])["θ"]), after)


def test_clipping_by_the_norm_is_a_part_of_a_step() -> None:
    steps, _ = walked(steepest.Adam, START, max_norm=0.5)
    assert steps[0].equations[0].expression == "clip·g"
    assert float(torch.as_tensor(steps[0].equations[0].value).norm()) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (steepest.Muon, {"hyperball": True, "weight_decay": 0}, "hyperball=True of Muon works on the matrices"),
        (steepest.Adam, {"fused": True}, "fused=True says how a step runs"),
        (steepest.Adam, {"state_dtype": "int8"}, "state_dtype='int8' says how a step runs or keeps its results"),
        (steepest.Adam, {"lr": -1.0}, "Invalid learning rate"),
    ],
    ids=str,
)
def test_options_without_equations_are_refused(cls: type[Optimizer], options: Options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Walkthrough(cls, MATRIX, **options).step(gradient_of_matrix(0))


def test_vectors_are_refused_where_a_rule_takes_matrices() -> None:
    with pytest.raises(ValueError, match="Muon only supports 2D parameters"):
        Walkthrough(steepest.Muon, START)


# -- rules of one's own ------------------------------------------------------------------------------------------------


def whitened(w, grad, C, *, t, lr, beta):
    C = lerp(C, grad @ grad.mT, 1 - beta)
    C = C / (1 - beta**t) if t > 2 else C
    step = scaled_down(grad, C)
    for _ in range(2):
        step *= 0.5
    return w - lr * step, C


def scaled_down(x, C):
    size = C.diagonal().sum()
    return x / size


class Whitened(Optimizer):
    """A rule of matrices that is written here."""

    lr: fields.Rate = fields.lr(0.1, 1e-3, 1.0)
    beta: float = fields.hyper(0.9, "decay", low=0.0, high=1.0)
    rule = Rule(whitened, "matrix", (State("step", "step"), State("cov", "left")))


def test_a_rule_of_ones_own() -> None:
    steps, _ = walked(Whitened, MATRIX)
    g = steps[2].gradient
    told = [f"{each.symbol} ← {each.expression}" for each in steps[2].equations]
    assert told == [
        "C ← β·C + (1 - β)·(g @ gᵀ)",
        "C ← C / (1 - β^t)",
        "size ← C.diagonal().sum()",
        "step ← g / size",
        "step ← step·0.5",
        "step ← step·0.5",
        "θ ← θ - η·step",
    ]
    size = float(steps[2].equations[2].value)
    assert torch.equal(torch.as_tensor(steps[2].equations[3].value), g / size), "halved in place, later"
    assert not any("β^t" in each.expression for each in steps[1].equations), "the side that the condition took"


class OfLambda(Optimizer):
    """A rule without lines."""

    lr: fields.Rate = fields.lr(0.1, 1e-3, 1.0)
    rule = Rule(lambda p, g, *, lr: p - lr * g, "matrix")


def halved(p, g, *, lr, mass, scale):
    return p - lr * scale * g


class OfSums(Optimizer):
    """A rule whose sum is taken over the tensor, and whose numbers a lambda renews."""

    lr: fields.Rate = fields.lr(0.1, 1e-3, 1.0)
    rule = Rule(
        halved,
        "pointwise",
        shared=Shared(
            lambda *, weight, mass: {"mass": mass + weight, "scale": 1 / (mass + weight)},
            {"mass": 0.0},
            made=("scale",),
            sums=("weight",),
            measure=lambda p, g: total(g * g),
        ),
    )


@pytest.mark.parametrize("cls", [OfLambda, OfSums])
def test_functions_without_lines_are_refused(cls: type[Optimizer]) -> None:
    with pytest.raises(ValueError, match=r"the source of <lambda> cannot be read; define it with def, in a file"):
        Walkthrough(cls, MATRIX)


# -- other dtypes, and text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_values_are_in_the_dtype_of_the_computation(dtype: torch.dtype) -> None:
    start = START.to(dtype)
    walk = Walkthrough(steepest.Adam, start)
    step = walk.step(gradient(0).to(dtype))
    value = torch.as_tensor(symbols(step)["θ"])
    assert value.dtype == torch.float32
    final = torch.view_as_complex(value) if dtype.is_complex else value.to(dtype)
    assert torch.equal(final, step.after)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (torch.tensor(2.0), "2"),
        (torch.tensor([[2.0]]), "2"),
        (torch.tensor([1.0, -1 / 3]), "(1, -0.3333)"),
        (1e-8, "1e-08"),
        (torch.tensor([[1.0, -0.25], [10.0, 3.0]]), "[  1  -0.25 ]\n[ 10      3 ]"),
        (torch.ones(3, 9), "3×9 numbers of norm 5.196"),
        (torch.ones(2, 2, 2), "2×2×2 numbers of norm 2.828"),
        (torch.ones(16), "16 numbers of norm 4"),
    ],
    ids=str,
)
def test_values_as_text(value: Any, text: str) -> None:
    assert in_numbers(value) == text
    assert (in_rows(value) is not None) == text.startswith("[")
