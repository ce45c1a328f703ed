"""Declarations of an optimizer's hyperparameters and state, made once in its class.

Signature, bounds, command line, documentation, search and report all read these declarations.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Real
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from .kinds import KINDS
from .sharding import outline, split_as
from .views import compute_dtype

View = Callable[[Tensor], Tensor]
"""Function that shows a tensor in another shape, as a matrix or as a stack of matrices."""

Options = Mapping[str, Any]
"""Options of one parameter group: every field's value by its name."""


Rate = float | Tensor
"""A learning rate: a number, or a 0-dim tensor."""


class UnknownWordError(ValueError, RuntimeError):
    """Error for a word that an option does not know.

    Depending on the class, torch raises `ValueError` or `RuntimeError` for such a word; this error is both.
    """


@dataclass(frozen=True)
class Search:
    """Range to draw a hyperparameter from: from ``low`` to ``high``, on a logarithmic or linear scale.

    ``complement`` draws ``1 - value`` instead (betas: 0.9 and 0.999 are far apart, 0.1 and 0.001 show it).
    """

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"
    complement: bool = False


@dataclass(frozen=True)
class Field:
    """One constructor argument.

    Attributes:
        name: the argument's name; torch's where torch has one.
        default: the default value.
        doc: one sentence.
        low, high: bounds of the value (of each entry, for a tuple). ``low`` itself is allowed unless ``exclusive_low``,
            ``high`` only if ``inclusive_high``.
        names: names that a rule has for the entries of a tuple, such as ``("beta1", "beta2")``; ``(name,)`` otherwise.
            A switch may have another name for the rule.
        choices: the allowed words, for an option that is a word.
        search: the range that a study searches, if the hyperparameter is worth tuning.
        candidates: other values that are worth trying, where a range would not do. With None among them the
            hyperparameter may be None.
        invalid: torch's message for a value out of bounds, or for a word that is not allowed. ``{value}``, ``{index}``
            (in a tuple, from 0) and ``{number}`` (from 1) are filled in.
        keyword_only: whether the argument must be passed by name.
        fixed: whether the class settles the value. It is then in every parameter group, but is not an argument.
        integer: whether the value must be an int.
        is_decay: whether the value, or each entry of it, is the decay rate of a moving average (betas, momentum,
            ema_decay). State in low precision must check such rates.
        aliases: other ways to write a value, each with the value that it stands for.
        default_from: the argument whose value in the group None stands for, from when the group is made.
        convert: function for a value that is not a number, switch or word. It returns the value that a group keeps, or
            raises `TypeError`.
        words: the allowed values in words, for a ``convert`` that takes other things than numbers.
        optional: whether the value may be None, where neither the default nor a candidate is.
        is_around: whether a transform declares it, which surrounds the rule of every class.
    """

    name: str
    default: Any
    doc: str
    low: float | None = None
    high: float | None = None
    exclusive_low: bool = False
    inclusive_high: bool = False
    names: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    search: Search | None = None
    candidates: tuple[Any, ...] = ()
    invalid: str = ""
    keyword_only: bool = False
    fixed: bool = False
    integer: bool = False
    is_decay: bool = False
    aliases: tuple[tuple[Any, Any], ...] = ()
    default_from: str = ""
    convert: Callable[[Any], Any] | None = None
    words: str = ""
    optional: bool = False
    is_around: bool = False

    def named(self, name: str, keyword_only: bool) -> Field:
        """Return the declaration under the name that a class gives it."""
        return replace(self, name=name, names=self.names or (name,), keyword_only=keyword_only)

    @property
    def is_flag(self) -> bool:
        """True for a switch (``True``, ``False`` or ``None``), which is neither a number nor a word."""
        is_other = self.choices or self.convert is not None or self.low is not None
        return isinstance(self.default, bool) or (self.default is None and not is_other)

    @property
    def is_number(self) -> bool:
        """True for a number, or several, which may change from step to step."""
        return not (self.is_flag or self.choices or self.convert)

    @property
    def takes_none(self) -> bool:
        """True where the value may be None."""
        return self.optional or self.default is None or None in self.candidates

    @property
    def section(self) -> str:
        """The heading under which the argument is explained, one of `SECTIONS`."""
        if self.name in EXECUTION_SWITCHES:
            return EXECUTION
        if self.name in STORAGE_OPTIONS:
            return STORAGE
        return AROUND if self.is_around else RULE

    @property
    def is_hyperparameter(self) -> bool:
        """True for a value that changes the mathematics.

        Options for how a step runs, and for what rounds its results, do not change the mathematics.
        """
        return self.name not in EXECUTION_SWITCHES | STORAGE_OPTIONS

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.words:
            return self.words
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices)) + (" or None" if self.default is None else "")
        if self.is_flag:
            return "True or False" + (" or None" if self.default is None else "")
        low = "" if self.low in (None, -math.inf) else f" {'>' if self.exclusive_low else '>='} {self.low:g}"
        high = "" if self.high is None else f" {'<=' if self.inclusive_high else '<'} {self.high:g}"
        numbers = f"{len(self.names)} numbers" if len(self.names) > 1 else "an int" if self.integer else "a number"
        return numbers + (" or None" if self.takes_none else "") + low + (" and" if low and high else "") + high

    def settle(self, value: Any) -> Any:
        """Return the value as a group keeps it: an alias's meaning, a plain Python number, a tuple or a switch.

        As in torch, such values may be NumPy's scalars, fractions, 0 and 1 for switches, and any sequence of numbers.
        Any other value is returned as it is, for `validate` to refuse.
        """
        known = [meaning for alias, meaning in self.aliases if type(value) is type(alias) and value == alias]
        if known:
            return known[0]
        if value is None or self.choices:
            return value
        if self.convert is not None:
            return self.convert(value)
        if self.is_flag:
            return _plain_switch(value)
        return self._plain_tuple(value) if len(self.names) > 1 else _plain_number(value, self.integer)

    def _plain_tuple(self, value: Any) -> Any:
        if type(value) not in (tuple, list) and not _is_sequence(value):
            return value
        entries = [_plain_number(entry, self.integer) for entry in value]
        return entries if isinstance(value, list) else tuple(entries)

    def validate(self, value: Any) -> None:
        """Raise an error for a value that is not allowed.

        Raises:
            ValueError: the value is out of bounds, or an unknown word. torch's message comes first.
            TypeError: the value is not a number, or not a switch, at all.
        """
        value = self.settle(value)
        if self.choices:
            if not (value is None or isinstance(value, str)) or value not in (*self.choices, self.default):
                message = (self.invalid or f"Invalid {self.name} value: {{value!r}}").format(value=value)
                raise UnknownWordError(f"{message}; {self.name} must be {self.allowed}")
        elif self.is_flag:
            self._validate_flag(value)
        elif self.convert and value is None and not self.takes_none:
            raise TypeError(f"{self.name} must be {self.allowed}, not None")
        elif self.is_number and not (value is None and self.takes_none):
            self._validate_numbers(value)

    def _validate_flag(self, value: Any) -> None:
        if not (isinstance(value, bool) or (value is None and self.default is None)):
            raise TypeError(f"{self.name} must be {self.allowed}, not {value!r}")

    def _validate_numbers(self, value: Any) -> None:
        values = tuple(value) if len(self.names) > 1 and isinstance(value, (tuple, list)) else (value,)
        if len(values) != max(1, len(self.names)):
            raise ValueError(f"{self.name} must be {self.allowed}, not {value!r}")
        usual = self.default if isinstance(self.default, tuple) else (self.default,)
        for index, entry in enumerate(values):
            if not (entry is None and usual[index] is None):
                self._validate_number(index, entry)

    def _validate_number(self, index: int, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int if self.integer else (int, float, Tensor)):
            raise TypeError(f"{self.name} must be {self.allowed}, not {value!r}")
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(f"Tensor {self.name} must be 1-element")
            if value.device.type == "meta" or torch.compiler.is_compiling():
                return
        if not self._contains(float(value.detach() if isinstance(value, Tensor) else value)):
            message = (self.invalid or f"Invalid {self.name} value: {{value}}").format(
                value=value, index=index, number=index + 1
            )
            raise ValueError(f"{message} ({self.name} must be {self.allowed})")

    def _contains(self, value: float) -> bool:
        if value != value:
            return False
        below = self.high is None or value < self.high or (self.inclusive_high and value == self.high)
        return below and (self.low is None or value > self.low or (not self.exclusive_low and value == self.low))

    def unpack(self, value: Any) -> dict[str, Any]:
        """Return the value under the names that a rule uses: ``betas=(a, b)`` is ``beta1=a, beta2=b``."""
        return dict(zip(self.names, value, strict=True)) if len(self.names) > 1 else {self.name: value}


def _is_sequence(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dim() == 1
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def _plain_number(value: Any, whole: bool) -> Any:
    if isinstance(value, Tensor) or (type(value) is float and not whole):
        return value
    if getattr(value, "size", None) == 1 and hasattr(value, "item"):  # NumPy's scalars, and arrays of one number
        value = value.item()
    if isinstance(value, int):
        return value if whole else int(value)
    number = float(value) if isinstance(value, Real) else value
    return int(number) if whole and isinstance(number, float) and number.is_integer() else number


def _plain_switch(value: Any) -> Any:
    if hasattr(value, "item") and not isinstance(value, Tensor):
        value = value.item()
    return bool(value) if isinstance(value, int) and value in (0, 1) else value


class Fields(dict[str, Field]):
    """Fields of a class by name, in the constructor's order. The repr has only the names."""

    numbers: frozenset[str]
    """Names of the fields whose values are numbers of the rule, and so may change from step to step."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        super().__init__(fields)
        self.numbers = frozenset(name for name, f in fields.items() if f.is_number) - STORAGE_OPTIONS

    def __repr__(self) -> str:
        return f"Fields({', '.join(self)})"


def complete(fields: Mapping[str, Field], options: dict[str, Any]) -> None:
    """Replace None by the value that it stands for in a group with all its options; see `Field.default_from`."""
    for name, field in fields.items():
        if field.default_from and options[name] is None:
            options[name] = options[field.default_from]


def settle(fields: Mapping[str, Field], options: dict[str, Any]) -> None:
    """Replace values by the plain Python values that they stand for; see `Field.settle`."""
    options.update({name: field.settle(options[name]) for name, field in fields.items() if name in options})


EXECUTION_SWITCHES = frozenset({"foreach", "fused", "capturable", "differentiable", "norm_group"})
"""Options that choose how and where a step runs, and never what it computes."""

STORAGE_OPTIONS = frozenset({"state_dtype", "state_rounding", "parameter_rounding", "seed"})
"""Options for how results are kept; see storage.py."""

RULE, AROUND, STORAGE, EXECUTION = "The rule", "Around the rule", "How state is kept", "How a step runs"
SECTIONS = (RULE, AROUND, STORAGE, EXECUTION)
"""Headings of arguments, in the order of signatures and of `help`."""


def hyper(default: Any, doc: str, **declared: Any) -> Any:
    """Declare a hyperparameter or option of an optimizer's class. See `Field` for the keywords."""
    return Field("", default, doc, **declared)


def fixed(*, default: Any, doc: str, init: Literal[False] = False) -> Any:
    """Declare an option that the class settles: it is in every parameter group, but is not an argument.

    ``init`` is for type checkers, which read its default.
    """
    return Field("", default, doc, fixed=not init)


def aliases(**options: Options) -> Mapping[str, Options]:
    """Declare other names of a class, in lower case without ``_``, each with the options that it stands for."""
    return MappingProxyType(options)


def lr(
    default: float,
    low: float = 1e-5,
    high: float = 1.0,
    *,
    exclusive_low: bool = False,
    invalid: str = "Invalid learning rate: {value}",
) -> Any:
    """Declare torch's ``lr``, searched from ``low`` to ``high``; 0 is not allowed if ``exclusive_low``."""
    return hyper(
        default, "learning rate η", low=0.0, exclusive_low=exclusive_low, search=Search(low, high), invalid=invalid
    )


def rate_factor(doc: str = "factor η of the steps, for schedules; keep 1") -> Any:
    """Declare ``lr`` of a class that finds the size of its steps: a factor, which is not searched."""
    return hyper(1.0, doc, low=0.0, invalid="Invalid learning rate: {value}")


def growth_rate() -> Any:
    """Declare the bound on the growth of an estimate; infinity, as other packages write it, is None."""
    doc = "largest growth of the estimate in one step; None: any"
    return hyper(None, doc, low=1.0, candidates=(1.02,), aliases=((math.inf, None),))


BETAS = Search(1e-3, 0.3, complement=True)
"""Range of the decay rates of averages of g and g²."""


def betas(
    default: tuple[float, ...],
    doc: str = "decay rates of the averages of g and of g²",
    *,
    search: Search | None = BETAS,
) -> Any:
    """Declare ``betas``, a tuple as long as ``default``, which a rule reads as ``beta1``, ``beta2``, and so on.

    Raises:
        ValueError: the default has fewer than two rates.
    """
    if len(default) < 2:
        raise ValueError(f"betas has two rates or more, not {default!r}; declare a single rate with fields.momentum")
    message = "Invalid beta parameter at index {index}: {value}"
    names = tuple(f"beta{number}" for number in range(1, len(default) + 1))
    return hyper(default, doc, low=0.0, high=1.0, names=names, search=search, invalid=message, is_decay=True)


def check_tensor_numbers(options: Options, names: Iterable[str]) -> None:
    """Raise `ValueError` for tensors under ``names`` that torch's classes refuse, in torch's words."""
    for name in names:
        value = options[name]
        entries = (
            {name: value}
            if not isinstance(value, (tuple, list))
            else {f"{name}[{i}]": entry for i, entry in enumerate(value)}
        )
        if len({isinstance(entry, Tensor) for entry in entries.values()}) > 1:
            raise ValueError(f"{name} must be either both floats or both Tensors")
        for entry, number in entries.items():
            if isinstance(number, Tensor) and options["foreach"] and not options["capturable"]:
                raise ValueError(f"{entry} as a Tensor is not supported for capturable=False and foreach=True")


def eps(default: float, low: float = 1e-10, high: float = 1e-3, *, exclusive_low: bool = False) -> Any:
    """Declare torch's ``eps``, searched from ``low`` to ``high``; 0 is not allowed if ``exclusive_low``."""
    doc = "small constant ε that keeps the denominator away from zero"
    invalid = "Invalid epsilon value: {value}"
    return hyper(default, doc, low=0.0, exclusive_low=exclusive_low, search=Search(low, high), invalid=invalid)


def eps_in_sqrt() -> Any:
    """Declare the switch that puts ``eps`` where the papers have it: under the square root."""
    return hyper(False, "add ε under the square root, as the paper does, and not to the root, as torch does")


def eps_hat(default: bool) -> Any:
    """Declare the switch for Kingma and Ba's ε̂, the ε that is added before the correction of v."""
    return hyper(default, "add ε to the root of v itself (the paper's ε̂), and not to the root of the corrected v")


def momentum(default: float, *, invalid: str = "") -> Any:
    """Declare ``momentum``."""
    search = Search(0.01, 1.0, complement=True)
    return hyper(default, "momentum factor μ", low=0.0, search=search, is_decay=True, invalid=invalid)


def averaging_momentum(default: float, low: float, high: float) -> Any:
    """Declare ``momentum`` as the decay rate of an average of g; 1 - momentum is searched from ``low`` to ``high``."""
    search = Search(low, high, complement=True)
    return hyper(default, "decay rate μ of the average of g", low=0.0, high=1.0, search=search, is_decay=True)


def weight_decay(
    default: float = 0,
    doc: str = "L2 penalty λ, added to the gradient as λθ",
    low: float = 1e-6,
    high: float = 1e-1,
    *,
    invalid: str = "",
) -> Any:
    """Declare torch's ``weight_decay``, searched from ``low`` to ``high``."""
    return hyper(default, doc, low=0.0, search=Search(low, high), invalid=invalid)


OF_WEIGHTS = "decay λ of the weights themselves, θ ← θ - ηλθ before the step"
"""Meaning of ``weight_decay`` in a class that decouples it by default."""


def decoupled_weight_decay(default: bool = False) -> Any:
    """Declare torch's ``decoupled_weight_decay``."""
    return hyper(default, "decay the weights themselves, as AdamW does")


def lr_in_decay() -> Any:
    """Declare whether ``lr`` scales the decoupled decay."""
    return hyper(True, "scale the decoupled decay by η, θ ← θ - ηλθ; False: θ ← θ - λθ whatever η is")


def maximize() -> Any:
    """Declare torch's ``maximize``."""
    return hyper(False, "ascend instead of descend: the gradient's sign is flipped")


def foreach() -> Any:
    """Declare torch's ``foreach``."""
    return hyper(None, "True: multi-tensor executor; False: reference executor; None: the best that is exact")


def fused() -> Any:
    """Declare torch's ``fused``."""
    return hyper(None, "True asks for one fused kernel and raises where there is none; None may choose it")


def capturable() -> Any:
    """Declare torch's ``capturable``."""
    return hyper(False, "keep step counts on the device so that a CUDA graph can capture the step")


def differentiable() -> Any:
    """Declare torch's ``differentiable``."""
    return hyper(False, "let autograd differentiate through the step (reference executor)")


PLACE = "place among the parameters that have state"
"""Key under which a function in `State.init` finds its first argument among the options."""


@dataclass(frozen=True, eq=False)
class State:
    """One entry of a parameter's state.

    Attributes:
        name: torch's name for the entry, its key in ``optimizer.state[p]``.
        kind: one of `kinds.KINDS`. ``like`` has the parameter's shape and dtype. ``tensor_scalar`` is one number per
            tensor, computed from it (a norm), 0-dim on its device. ``step`` counts the parameter's own steps.
            ``scalar`` is a number that does not depend on tensors; it is kept 0-dim as torch keeps it, and computed in
            double. ``row`` and ``column`` are the factored moments of matrices, with a last, or last but one, dimension
            of size 1. ``shared`` is one value for all parameters of a driver, kept with the first parameter. Such a
            value is a number, a vector of all elements, or a list of them.
        init: the first value: a number, the field that holds it, ``"param"`` for a copy of the parameter, or
            ``"identity"`` for an identity matrix. Shared state may have None: it does not exist until the rule returns
            it. A function gets the number of parameters that have had their first step before, and the group's options.
        when: whether the state exists under a group's options; the rule gets None where it does not.
        where: whether the state exists for a parameter (factored state exists only for matrices).
        at_construction: whether torch makes the state in the constructor and not at the first step.
        nonnegative: whether the state has no negative value at any time.
        sparse: whether the state is made sparse, without any element, where the parameter's gradient is sparse. An
            element of the state that is 0 must then stay 0 while the gradient there is 0.
        integer: whether state dicts have this count as a plain int, as torch keeps it in its class of the same name.
        exact: whether ``state_dtype`` leaves the state as it is, because small differences from it matter.
    """

    name: str
    kind: str = "like"
    _: KW_ONLY
    init: float | str | Callable[[int, Options], float] | None = 0.0
    when: Callable[[Options], bool] = lambda options: True
    where: Callable[[Tensor], bool] = lambda p: True
    at_construction: bool = False
    nonnegative: bool = False
    sparse: bool = False
    saved_as_int: bool = False
    exact: bool = False

    @property
    def is_codable(self) -> bool:
        """True for state that ``state_dtype`` may keep in another form."""
        return self.kind == "like" and not self.exact

    def __post_init__(self) -> None:
        """Check that the kind exists."""
        if self.kind not in KINDS:
            raise TypeError(f"state {self.name!r} is of unknown kind {self.kind!r}; there are {', '.join(KINDS)}")

    def create(self, p: Tensor, options: Options, view: View | None = None) -> Any:
        """Create the state's first value for parameter ``p`` under its group's options.

        Args:
            p: the parameter.
            options: the group's options.
            view: the matrices that the rule sees in the parameter; see `Rule.view`.
        """
        kind = KINDS[self.kind]
        if kind.shape is None:
            return self.init
        if self.sparse and p.grad is not None and p.grad.is_sparse:
            return torch.zeros_like(p.grad, dtype=p.dtype)
        if self.init == "param":
            start = p if options.get("differentiable") else p.detach()
            return start.clone(memory_format=torch.preserve_format)
        value: Any = self.init
        if callable(self.init):
            value = self.init(options.get(PLACE, 0), options)
        elif isinstance(self.init, str) and self.init != "identity":
            value = options[self.init]
        if isinstance(value, Tensor) and not options.get("differentiable"):
            value = value.detach()
        if kind.is_number:
            dtype = self.counter_dtype(bool(options.get("fused")))
            on_device = options.get("capturable") or options.get("fused")
            return _filled(torch.zeros((), dtype=dtype, device=p.device if on_device else "cpu"), value)
        if self.kind == "like":
            return _filled(torch.zeros_like(p.detach(), memory_format=torch.preserve_format), value)
        shape = kind.shape_for(p if view is None else view(outline(p)), options)
        dtype = compute_dtype(_real_dtype(p)) if kind.is_wide else _real_dtype(p)
        if value == "identity":
            return split_as(p, torch.eye(*shape[-2:], dtype=dtype, device=p.device).expand(shape).clone())
        return split_as(p, _filled(torch.zeros(shape, dtype=dtype, device=p.device), value))

    def counter_dtype(self, is_fused: bool) -> torch.dtype:
        """Return the dtype of a step count or scalar, as in torch.

        It is float64 only where that is the default dtype, and never for the step count of ``fused=True``.
        """
        is_double = torch.get_default_dtype() == torch.float64 and not (is_fused and self.kind == "step")
        return torch.float64 if is_double else torch.float32

    def refuse_other_shape(self, held: Mapping[str, Any], p: Tensor, options: Options, view: View | None) -> None:
        """Raise `ValueError` if a parameter has this state in another shape than its group's options ask for."""
        kind = KINDS[self.kind]
        if self.name not in held or not (kind.takes_options or self.kind == "like"):
            return
        wanted = (
            tuple(p.shape) if self.kind == "like" else kind.shape_for(p if view is None else view(outline(p)), options)
        )
        if wanted != (found := tuple(held[self.name].shape)):
            raise ValueError(
                f"state {self.name!r} of a parameter of shape {tuple(p.shape)} has shape {found}, and its group's "
                f"options ask for {wanted}; put them back as they were, or give the parameter to a new optimizer"
            )

    def nbytes(self, p: Tensor, options: Options = MappingProxyType({})) -> int:
        """Return the bytes that the first value takes in addition to ``p``, under its group's options.

        Shared state counts as 0, since the rule makes it as it runs.
        """
        value = self.create(p, {self.init: 0.0, **options} if isinstance(self.init, str) else options)
        return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def _filled(zeros: Tensor, value: Any) -> Tensor:
    """Fill ``zeros`` with a value, in both parts of a complex tensor. A value in a tensor keeps its derivative."""
    both = 1 + 1j if zeros.is_complex() else 1
    if isinstance(value, Tensor):
        return zeros + (value.reshape(()) * both).to(zeros)
    return zeros.fill_(value * both)


def _real_dtype(p: Tensor) -> torch.dtype:
    return torch.view_as_real(p.detach()).dtype if p.is_complex() else p.dtype


def signature(fields: Mapping[str, Field], torchs: Collection[str] = ()) -> inspect.Signature:
    """Return the constructor's signature: ``params``, the positional fields in order, then the keyword-only ones.

    Of these, torch's (those named in ``torchs``) come first, as declared, then the others by `Field.section`.
    """
    free = [f for f in fields.values() if not f.fixed]
    positional = [f for f in free if not f.keyword_only]
    named = [f for f in free if f.keyword_only]
    named.sort(key=lambda f: -1 if f.name in torchs else SECTIONS.index(f.section))
    make = inspect.Parameter
    return inspect.Signature(
        [make("self", make.POSITIONAL_OR_KEYWORD), make("params", make.POSITIONAL_OR_KEYWORD)]
        + [make(f.name, make.POSITIONAL_OR_KEYWORD, default=f.default) for f in positional]
        + [make(f.name, make.KEYWORD_ONLY, default=f.default) for f in named]
    )


def arguments_in_words(fields: Mapping[str, Field]) -> str:
    """Return a docstring's text on the arguments: each with its default and its sentence, under its section's heading.

    >>> print(arguments_in_words({"lr": lr(0.1).named("lr", False)}))
    Args:
        params: parameters, named parameters or groups, as in torch.
    <BLANKLINE>
    The rule:
        lr=0.1: learning rate η
    """
    parts = ["Args:\n    params: parameters, named parameters or groups, as in torch."]
    free = [f for f in fields.values() if not f.fixed]
    for section in SECTIONS:
        lines = [f"    {f.name}={f.default!r}: {f.doc}" for f in free if f.section == section]
        parts += ["\n".join([f"{section}:", *lines])] if lines else []
    return "\n\n".join(parts)
