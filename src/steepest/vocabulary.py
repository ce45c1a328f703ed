"""Words that a rule may use in addition to ``+ - * / **`` and comparisons.

A word has one meaning for every kind of value. On floats it computes in double (a rule's *host part*). On tensors it is
torch's function. On a `torch.fx.Proxy` it records itself, so that every executor can spell it in its own way.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.fx import Proxy

from . import norms

Reduced = Literal["nothing", "tensor", "rows", "columns", "units", "other axes"]
"""Dimensions that a word reduces to one number: a whole tensor, all rows (per column), or all columns (per row).

A unit is all that one index of the first dimension holds; a vector is a unit. A word that reduces all other axes is
told, by its second argument, which dimension it keeps."""


@dataclass(frozen=True)
class Sum:
    """A reduction that is made of a sum, which can be taken over parts of a tensor.

    Attributes:
        of_squares: whether squares are summed, and the root is taken in the end; else the values themselves.
        is_mean: whether the sum is divided by the number of its terms.
    """

    of_squares: bool = False
    is_mean: bool = False


@dataclass(frozen=True)
class Word:
    """One word: its meaning on floats and on tensors, and its printed form.

    ``plain`` and ``latex`` are templates with ``{0}``, ``{1}``, ... for the arguments.

    Attributes:
        reduces: the dimensions that the word reduces.
        made_of: the sum that a reduction is made of; None for one that is not, and for a word that reduces nothing.
        on_lists: the word's meaning on a list of tensors, where that is more than one call for each.
    """

    name: str
    on_floats: Callable[..., Any]
    on_tensors: Callable[..., Any]
    plain: str
    latex: str
    reduces: Reduced = "nothing"
    made_of: Sum | None = None
    on_lists: Callable[[list[Tensor]], list[Tensor]] | None = None

    def __call__(self, *args: Any, like: Any = None) -> Any:
        """Apply the word to floats or tensors, or record it in a trace.

        Numbers that `where` picks get the dtype of ``like``.
        """
        args = args if like is None else (*args, like)
        for arg in args:
            if isinstance(arg, Proxy):
                return arg.tracer.create_proxy("call_function", self, args, {}, name=self.name)
        if any(isinstance(arg, Tensor) for arg in args):
            return self.on_tensors(*args)
        return self.on_floats(*args)

    @property
    def __name__(self) -> str:
        return self.name

    def of_each(self, tensors: list[Tensor], *numbers: Any) -> list[Tensor]:
        """Apply the word to each tensor of a list, with the same numbers."""
        return self.on_lists(tensors) if self.on_lists else [self(x, *numbers) for x in tensors]

    def reduced(self, ndim: int, *numbers: Any) -> tuple[int, ...]:
        """Return the dimensions that the word reduces, of a tensor with ``ndim`` of them."""
        every = range(ndim)
        if self.reduces == "rows":
            return (ndim - 2,)
        if self.reduces == "columns":
            return (ndim - 1,)
        if self.reduces == "other axes":
            return tuple(dim for dim in every if dim != int(numbers[0]))
        return tuple(every[1:]) if self.reduces == "units" and ndim > 1 else tuple(every)


def _float_sqrt(x: float) -> float:
    return math.sqrt(x) if x >= 0 else math.nan


def _float_max(a: float, b: float) -> float:
    return a if a > b or a != a else b


def _float_min(a: float, b: float) -> float:
    return a if a < b or a != a else b


def _float_sign(x: float) -> float:
    return float((x > 0) - (x < 0))


def _float_log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


def _float_exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _float_sigmoid(x: float) -> float:
    small = math.exp(-abs(x))
    return (small if x < 0 else 1.0) / (1.0 + small)


def _tensor_max(a: Any, b: Any) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.maximum(a, b)
    return _clamped(a, b) if isinstance(a, Tensor) else _clamped(b, a)


def _clamped(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Clamp as torch.clamp does, but return NaN for a NaN bound, as `torch.maximum` does: torch 2.11 drops it."""
    bound = low if high is None else high
    return torch.clamp(x, low, high) if bound == bound else torch.full_like(x, math.nan)


def _tensor_min(a: Any, b: Any) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.minimum(a, b)
    return _clamped(a, high=b) if isinstance(a, Tensor) else _clamped(b, high=a)


def _tensor_atan2(y: Any, x: Any) -> Tensor:
    """Return the angle of (x, y) by element; one of the two may be a number."""
    if not isinstance(y, Tensor):
        return torch.atan2(torch.full_like(x, y), x)
    return torch.atan2(y, x if isinstance(x, Tensor) else torch.full_like(y, x))


def _tensor_rms(x: Tensor) -> Tensor:
    """Return the root of the mean of the squares of a whole tensor, 0-dim; NaN for an empty one.

    It is computed in the tensor's own dtype, as torch's Adafactor does: beyond 1e19 a float32 square is infinite.
    """
    root: Tensor = torch.linalg.vector_norm(x) / x.numel() ** 0.5
    return root


def _tensor_mean(x: Tensor) -> Tensor:
    """Return the mean of a whole tensor, 0-dim, summed in double; NaN for an empty one."""
    return x.mean(dtype=torch.float64).to(x.dtype)


def _along(reduction: Callable[..., Tensor], x: Tensor, axis: Any) -> Tensor:
    """Reduce all dimensions but one, and keep them, with size 1."""
    others = [d for d in range(x.dim()) if d != int(axis)]
    return reduction(x, others, keepdim=True) if others else x


def _axis_max(x: Tensor, axis: Any) -> Tensor:
    """Return the maximum of each index of a dimension; 0 for a maximum of nothing."""
    return _along(torch.amax if x.numel() else torch.sum, x, axis)


def _unit_norm(x: Tensor) -> Tensor:
    """Return the norm of what each index of the first dimension holds, kept as size 1; of a vector its whole norm."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())), keepdim=True) if x.dim() > 1 else norms.norm(x)


def _unit_mean(x: Tensor) -> Tensor:
    """Return the mean of what each index of the first dimension holds, kept as size 1; 0 for a vector."""
    return (
        x.mean(tuple(range(1, x.dim())), keepdim=True)
        if x.dim() > 1
        else torch.zeros((), dtype=x.dtype, device=x.device)
    )


def _head_mean(x: Tensor, heads: Any) -> Tensor:
    """Return the mean of each head, a run of rows, in all of its rows; see `row_mean`."""
    n, count = int(heads), x.shape[-2]
    rows = x.mean(-1, keepdim=True).reshape(*x.shape[:-2], n, count // n, 1)
    return rows.mean(-2, keepdim=True).expand_as(rows).reshape(*x.shape[:-1], 1)


def _tensor_lerp(a: Tensor, b: Tensor, weight: Any) -> Tensor:
    """Interpolate as torch.lerp does, but in double where only one of two numbers in tensors is in double.

    Sums and products of such numbers are in double too.
    """
    if a.dtype != b.dtype:
        dtype = (a + b).dtype
        a, b = a.to(dtype), b.to(dtype)
    return torch.lerp(a, b, weight)


def _select(condition: Any, a: Any, b: Any, like: Any = None) -> Any:
    """Pick one whole side by a condition on numbers, or each element by a condition in a tensor.

    A NaN on the other side of a condition on numbers never leaks.
    """
    if isinstance(condition, Tensor):
        return torch.where(condition, *_sides(condition, a, b, like))
    picked, other = (a, b) if condition else (b, a)
    return torch.full_like(other, picked) if isinstance(other, Tensor) and not isinstance(picked, Tensor) else picked


def _sides(condition: Tensor, a: Any, b: Any, like: Any) -> tuple[Any, Any]:
    """Return both sides with a dtype: two numbers get that of ``like``, or double on a condition of one element."""
    tensors = [x for x in (a, b) if isinstance(x, Tensor)]
    if any(x.dim() for x in tensors) or (tensors and not (condition.dim() and like is not None)):
        return a, b
    if condition.dim() and like is None:
        raise TypeError(MISSING_LIKE.format(a, b))
    dtype, device = like.dtype if condition.dim() else torch.float64, condition.device
    return torch.as_tensor(a, dtype=dtype, device=device), torch.as_tensor(b, dtype=dtype, device=device)


MISSING_LIKE = (
    "where picks between two numbers, {} and {}, by the elements of a tensor; say of which dtype the result is: "
    "where(condition, a, b, like=g)"
)
"""Message for a ``where`` whose result would have no dtype."""


sqrt = Word("sqrt", _float_sqrt, torch.sqrt, "√({0})", r"\sqrt{{{0}}}")
maximum = Word("maximum", _float_max, _tensor_max, "max({0}, {1})", r"\max({0},\, {1})")
minimum = Word("minimum", _float_min, _tensor_min, "min({0}, {1})", r"\min({0},\, {1})")
absolute = Word("absolute", abs, torch.abs, "|{0}|", r"\lvert {0} \rvert")
sign = Word("sign", _float_sign, torch.sign, "sign({0})", r"\operatorname{{sign}}({0})")
log = Word("log", _float_log, torch.log, "log({0})", r"\log({0})")
exp = Word("exp", _float_exp, torch.exp, "exp({0})", r"\exp({0})")
atan2 = Word("atan2", math.atan2, _tensor_atan2, "atan2({0}, {1})", r"\operatorname{{atan2}}({0},\, {1})")
sigmoid = Word("sigmoid", _float_sigmoid, torch.sigmoid, "σ({0})", r"\sigma({0})")
lerp = Word(
    "lerp",
    lambda a, b, w: a + w * (b - a),
    _tensor_lerp,
    "lerp({0}, {1}, {2})",
    r"\operatorname{{lerp}}({0}, {1}, {2})",
)
where = Word(
    "where",
    _select,
    _select,
    "({1} if {0} else {2})",
    r"\begin{{cases}} {1} & \text{{if }} {0} \\ {2} & \text{{otherwise}} \end{{cases}}",
)
rescaled = Word("rescaled", operator.mul, operator.mul, "{1}·{0}", r"{1} \cdot {0}")
"""Product that is made before anything else.

No executor combines its factor with others, so that a value too large to be squared is made small first."""
norm = Word("norm", abs, norms.norm, "‖{0}‖", r"\lVert {0} \rVert", "tensor", Sum(of_squares=True), norms.norms)
rms = Word("rms", abs, _tensor_rms, "RMS({0})", r"\operatorname{{RMS}}({0})", "tensor", Sum(True, is_mean=True))
total = Word("total", float, torch.sum, "Σ({0})", r"\sum({0})", "tensor", Sum())
mean = Word("mean", float, _tensor_mean, "mean({0})", r"\operatorname{{mean}}({0})", "tensor", Sum(is_mean=True))
row_mean = Word(
    "row_mean",
    float,
    lambda x: x.mean(-1, keepdim=True),
    "rowmean({0})",
    r"\operatorname{{rowmean}}({0})",
    reduces="columns",
    made_of=Sum(is_mean=True),
)
column_mean = Word(
    "column_mean",
    float,
    lambda x: x.mean(-2, keepdim=True),
    "colmean({0})",
    r"\operatorname{{colmean}}({0})",
    reduces="rows",
    made_of=Sum(is_mean=True),
)
head_mean = Word(
    "head_mean",
    lambda x, heads: float(x),
    _head_mean,
    "headmean({0}, {1})",
    r"\operatorname{{headmean}}({0}, {1})",
    reduces="columns",
)
unit_norm = Word(
    "unit_norm", abs, _unit_norm, "‖{0}‖_unit", r"\lVert {0} \rVert_{{\mathrm{{unit}}}}", "units", Sum(of_squares=True)
)
unit_mean = Word("unit_mean", float, _unit_mean, "unitmean({0})", r"\operatorname{{unitmean}}({0})", reduces="units")
axis_max = Word(
    "axis_max",
    lambda x, axis: float(x),
    _axis_max,
    "max_axis{1}({0})",
    r"\max_{{\mathrm{{axis}}\,{1}}}({0})",
    reduces="other axes",
)
axis_total = Word(
    "axis_total",
    lambda x, axis: float(x),
    lambda x, axis: _along(torch.sum, x, axis),
    "Σ_axis{1}({0})",
    r"\sum_{{\mathrm{{axis}}\,{1}}}({0})",
    reduces="other axes",
    made_of=Sum(),
)
axis_mean = Word(
    "axis_mean",
    lambda x, axis: float(x),
    lambda x, axis: _along(torch.mean, x, axis),
    "mean_axis{1}({0})",
    r"\operatorname{{mean}}_{{\mathrm{{axis}}\,{1}}}({0})",
    reduces="other axes",
    made_of=Sum(is_mean=True),
)

WORDS = {
    w.name: w
    for w in (
        *(sqrt, maximum, minimum, absolute, sign, log, exp, atan2, sigmoid, lerp, where, rescaled),
        *(
            norm,
            rms,
            mean,
            total,
            row_mean,
            column_mean,
            head_mean,
            unit_norm,
            unit_mean,
            axis_max,
            axis_total,
            axis_mean,
        ),
    )
}
"""All words by name."""

OPERATORS: dict[Callable[..., Any], str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.pow: "**",
    operator.neg: "neg",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
}
"""Operators that a rule may use, and their symbols."""
