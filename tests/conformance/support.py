"""torch's own optimizer test data base (``optim_db``) with our class in the place of torch's of the same name.

The data base says what to try (configurations, errors, schedulers, what a class supports); the checks are ours. Nothing
is listed by hand: a class that is added to the library is found, and a class that torch adds is asked for.
"""

from __future__ import annotations

import copy
import inspect
import unittest
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing._internal import common_optimizers as data_base
from torch.utils._pytree import tree_flatten_with_path, tree_map_only

from cases import TWINS, Options
from steepest import Optimizer

Info = data_base.OptimizerInfo

IMPLEMENTATIONS = ("foreach", "fused", "differentiable")
"""torch's switches for how a step runs; the data base combines none of them with another."""

TORCHS: dict[str, Info] = {info.name: info for info in data_base.optim_db}
"""What torch says of its own classes, by the class's name."""


def adopted(info: Info, cls: type[Optimizer]) -> Info:
    """torch's description with our class, which may have more switches (``fused`` is everywhere on the CPU)."""
    ours = copy.copy(info)
    ours.optim_cls = cls
    ours.supported_impls = tuple(switch for switch in IMPLEMENTATIONS if switch in cls.fields)
    ours.supports_fused_on = ("cpu",) if "fused" in cls.fields else ()
    return ours


OURS: dict[str, Info] = {cls.__name__: adopted(TORCHS[cls.__name__], cls) for cls, _ in TWINS.values()}
"""The same of ours."""


def skipped_by_torch(info: Info, check: str) -> str:
    """Why torch's own suite skips its check of that name for the class on a CPU; empty if it does not."""

    def probe() -> None:
        """Stands for the test."""

    for decorator in info.get_decorators("TestOptimRenewed", check, "cpu", torch.float32, {}):
        marked = decorator(probe)
        if getattr(marked, "__unittest_skip__", False) and decorator is not unittest.expectedFailure:
            return str(marked.__unittest_skip_why__)
    return ""


@cache
def takes(cls: type[torch.optim.Optimizer], shape: tuple[int, ...]) -> bool:
    """Whether the class updates parameters of this shape at all (Muon takes matrices alone)."""
    try:
        cls([torch.nn.Parameter(torch.zeros(shape))])
    except ValueError:
        return False
    return True


# -- configurations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Configuration:
    """One way to construct an optimizer that torch's data base names.

    Attributes:
        info: what is known of the class.
        description: the data base's words for it, and the switch that is on.
        given: the constructor's arguments; take `options`, since schedulers write into a tensor lr.
    """

    info: Info
    description: str
    given: Options

    @property
    def cls(self) -> type[Optimizer]:
        """Our class."""
        return self.info.optim_cls  # type: ignore[no-any-return]

    @property
    def torchs(self) -> type[torch.optim.Optimizer]:
        """torch's class of the same name."""
        return TORCHS[self.info.name].optim_cls  # type: ignore[no-any-return]

    @property
    def options(self) -> Options:
        """A copy of the constructor's arguments."""
        return copy.deepcopy(self.given)

    @property
    def columns(self) -> dict[str, Any]:
        """What an everyday run combines (see `cases.thin`): the class and the way to run it."""
        switches = frozenset(name for name in IMPLEMENTATIONS if self.given.get(name))
        return {"info": self.info.name, "way": switches}

    @property
    def is_differentiable(self) -> bool:
        """Whether autograd follows the step."""
        return bool(self.given.get("differentiable"))

    @property
    def maximizes(self) -> bool:
        """Whether the loss should grow."""
        return bool(self.given.get("maximize"))

    def build(self, params: Any, **more: Any) -> Optimizer:
        """Ours over ``params``."""
        return self.cls(params, **{**self.options, **more})

    def build_torchs(self, params: Any, **more: Any) -> torch.optim.Optimizer:
        """torch's over ``params``, without the switches that it lacks."""
        known = inspect.signature(self.torchs).parameters
        return self.torchs(params, **{k: v for k, v in {**self.options, **more}.items() if k in known})

    def leaves(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Parameters; plain tensors for a differentiable step, which may not write to a leaf that autograd follows."""
        return list(tensors) if self.is_differentiable else [torch.nn.Parameter(x) for x in tensors]


def inputs(info: Info) -> Iterator[Configuration]:
    """The data base's inputs as they are: the executor is free."""
    for each in info.optim_inputs_func("cpu"):
        given = tree_map_only(Tensor, Tensor.double, each.kwargs)  # torch multiplies a tensor rate in its own type
        yield Configuration(info, each.desc.replace(" ", "_"), given)


def configurations(info: Info) -> Iterator[Configuration]:
    """Every input with every way to run it: the plain loop, and each switch of the class.

    The data base's own list leaves ``foreach`` out on a CPU, where torch does not choose it by itself.
    """
    off = dict.fromkeys(info.supported_impls, False)
    ways: dict[str, Options] = {"loop": off}
    ways |= {switch: {**off, switch: True} for switch in info.supported_impls}
    for each in inputs(info):
        for way, switches in ways.items():
            yield Configuration(info, f"{each.description}-{way}", {**each.given, **switches})


Which = Callable[[Configuration], bool]


def every_input(which: Which = lambda configuration: True) -> pytest.MarkDecorator:
    """The test runs for every input of every class, the executor free; ``which`` says for which of them."""
    return _parametrized(filter(which, chain.from_iterable(map(inputs, OURS.values()))))


def every_configuration(which: Which = lambda configuration: True) -> pytest.MarkDecorator:
    """The same for every way to run them."""
    return _parametrized(filter(which, chain.from_iterable(map(configurations, OURS.values()))))


def every_way(which: Which = lambda configuration: True) -> pytest.MarkDecorator:
    """The test runs for the last input of every class, with most options on, in every way to run it."""
    last = [c for info in OURS.values() for c in [*configurations(info)][-1 - len(info.supported_impls) :]]
    return _parametrized(filter(which, last))


def _parametrized(found: Iterable[Configuration]) -> pytest.MarkDecorator:
    every = list(found)
    return pytest.mark.parametrize("configuration", every, ids=[f"{c.info.name}-{c.description}" for c in every])


def every_info(which: Callable[[Info], bool] = lambda info: True) -> pytest.MarkDecorator:
    """The test runs for every class for which ``which`` says so."""
    found = [info for info in OURS.values() if which(info)]
    return pytest.mark.parametrize("info", found, ids=[info.name for info in found])


def has(switch: str) -> Which:
    """Whether the class has this argument."""
    return lambda configuration: switch in configuration.cls.fields


def is_torchs(configuration: Configuration) -> bool:
    """Whether torch's class can run in this way, too."""
    on = {switch for switch in IMPLEMENTATIONS if configuration.given.get(switch)}
    return on <= set(TORCHS[configuration.info.name].supported_impls)


def grouped(configuration: Configuration) -> bool:
    """Whether the class takes several parameter groups."""
    return bool(configuration.info.supports_param_groups)


# -- what is minimised -----------------------------------------------------------------------------------------------


def empty_step(optimizer: torch.optim.Optimizer, info: Info) -> None:
    """A step that evaluates nothing new; a closure is given only where one is needed."""
    optimizer.step(*([lambda: torch.ones(())] if info.step_requires_closure else []))


def source(seed: int) -> torch.Generator:
    """Random numbers of their own; the global stream is left alone."""
    return torch.Generator().manual_seed(seed)


class Problem:
    """Least squares of a small linear layer: |Wx + b|², by W and b (by W alone where the class wants matrices).

    Its closure writes the gradients down, in the form that the class takes, instead of asking autograd for them: so it
    serves parameters, and the plain tensors of a differentiable step, alike; and most of a test's time is the step's.
    """

    def __init__(
        self,
        configuration: Configuration,
        dtype: torch.dtype = torch.float64,
        *,
        contiguous: bool = True,
        starts: Sequence[Tensor] = (),
    ) -> None:
        """``starts`` are the parameters' values; drawn if there are none."""
        self.info = configuration.info
        shapes = [shape for shape in ((6, 4), (6,)) if takes(configuration.cls, shape)]
        draw = source(11)
        strided = [torch.randn((*shape, 2), generator=draw).to(dtype)[..., 0] for shape in shapes]
        starts = [x.clone() for x in starts] or [x.contiguous() if contiguous else x for x in strided]
        self.x = torch.linspace(-1.0, 1.5, 4).to(dtype)
        self.params = configuration.leaves(starts)

    def residual(self) -> Tensor:
        """Wx + b; autograd may follow it."""
        weight, *bias = self.params
        return weight.mv(self.x) + sum(bias)

    @torch.no_grad()
    def closure(self) -> Tensor:
        """Set the gradients and return the loss."""
        residual = self.residual()
        grads = (2 * torch.outer(residual, self.x), 2 * residual)
        for p, g in zip(self.params, grads, strict=False):
            p.grad = g.to_sparse() if self.info.only_supports_sparse_grads else g
        return residual.dot(residual)

    def advance(self, optimizer: torch.optim.Optimizer, steps: int = 1) -> Tensor:
        """Some steps; returns the loss at the last one's start. A closure is given only where one is needed."""
        for _ in range(steps):
            if self.info.step_requires_closure:
                loss = optimizer.step(self.closure)
            else:
                loss = self.closure()
                optimizer.step()
        return loss


def values(params: Sequence[Tensor]) -> list[Tensor]:
    """Copies that nothing follows."""
    return [p.detach().clone() for p in params]


# -- comparing -------------------------------------------------------------------------------------------------------


def assert_close(ours: Any, theirs: Any, factor: float = 0.0) -> None:
    """Equal trees (lists, dicts, parameters, state); tensors within ``factor`` eps of the largest element.

    With ``factor`` 0 every bit is equal. What is no tensor is equal; a NaN equals a NaN.
    """
    (mine, my_shape), (others, other_shape) = tree_flatten_with_path(ours), tree_flatten_with_path(theirs)
    assert my_shape == other_shape, (my_shape, other_shape)
    for (path, a), (_, b) in zip(mine, others, strict=True):
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            _assert_tensors_close("".join(map(str, path)), a.detach(), b.detach(), factor)
        else:
            assert type(a) is type(b), (path, a, b)
            assert a == b, (path, a, b)


def _assert_tensors_close(path: str, a: Tensor, b: Tensor, factor: float) -> None:
    a, b = (x.to_dense() if x.is_sparse else x for x in (a, b))
    if a.dtype == b.dtype and torch.equal(a, b):
        return
    tolerance = factor * torch.finfo(b.dtype).eps if b.is_floating_point() or b.is_complex() else 0.0
    largest = b.abs().nan_to_num(0.0, 0.0, 0.0).max().item() if b.numel() else 0.0
    said = f"{path}: {{}}".format
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * largest, equal_nan=True, msg=said)


def assert_states_close(ours: Optimizer, theirs: torch.optim.Optimizer, factor: float) -> None:
    """Equal state of our class and torch's, where ours declares it (torch's LBFGS keeps scratch there, too).

    A number may be a 0-dim tensor on the other side.
    """
    declared = {s.name for group in ours.param_groups for s in ours.rule_for(group).state}
    mine, others = (as_tensors(state_of(optimizer)) for optimizer in (ours, theirs))
    for held in (*mine.values(), *others.values()):
        for name in held.keys() - declared:
            del held[name]
    assert_close(*({i: dict(sorted(held.items())) for i, held in state.items()} for state in (mine, others)), factor)


def as_tensors(tree: Any) -> Any:
    """Every number as a 0-dim tensor in float64, every 0-dim tensor too."""
    numbers = tree_map_only((int, float), lambda x: torch.tensor(x, dtype=torch.float64), tree)
    return tree_map_only(Tensor, lambda x: x if x.dim() else x.double(), numbers)


def rounding(cls: type[Optimizer]) -> float:
    """How far our class may be from torch's in float64 after some ten steps, in eps.

    2^14, since torch's foreach path rounds its factors once more than its loop; 2^33 with scalar state, which torch
    keeps and multiplies in float32 (NAdam's mu_product); 2^46 for a matrix rule, which iterates in bfloat16.
    """
    rule = cls.rule_for({name: field.default for name, field in cls.fields.items()})
    if rule.kind == "matrix":
        return 2.0**46
    return 2.0**33 if any(s.kind == "scalar" for s in rule.state) else 2.0**14


def state_of(optimizer: torch.optim.Optimizer) -> dict[Any, Any]:
    """The state by the parameters' places; no tensor is followed or shared."""
    return copy_of(optimizer.state_dict()["state"])


def copy_of(tree: Any) -> Any:
    """A deep copy of nested dicts and lists, tensors detached."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, Mapping):
        return {key: copy_of(value) for key, value in tree.items()}
    return [copy_of(x) for x in tree] if isinstance(tree, list) else copy.deepcopy(tree)
