"""A rule on a surface, step by step: where it stands, and the value of every symbol of its equations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path as File
from typing import Any, Final

import numpy as np
import torch
from markupsafe import Markup
from torch import Tensor

from steepest.landscapes.declaration import Draw, Surface
from steepest.landscapes.files import kind_of, writing
from steepest.landscapes.rates import Choice
from steepest.landscapes.sources import find
from steepest.landscapes.traced import Traced
from steepest.landscapes.tracing import BUDGET, RATES, check_counts, read_optimizers, trace
from steepest.optimizer import Optimizer
from steepest.study.errors import UsageError
from steepest.study.optimizers import settings
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.seeds import GlobalStream
from steepest.walkthrough import Step, Walkthrough, in_numbers, is_several
from steepest.wrappers import Wrapper

SURFACE: Final = "ravine"
OF_MATRICES: Final = "least-squares"
"""The surface for rules that multiply matrices: its parameter is one."""
OTHER_WEIGHTS: Final = "The path and its values are those of the weights to be evaluated; θ are those that are trained."
STEPS: Final = 20
KINDS: Final = ("html", "txt")
WIDTH: Final = 110
"""Columns of text that matrices may take next to each other."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """The first steps of an optimizer on a surface, with the value of every symbol.

    Attributes:
        traced: the path, of which the steps are the first ones.
        steps: the steps.
        helpers: the functions that the equations name, with their meanings.
        remark: a sentence about what is shown; empty without one.
    """

    traced: Traced
    steps: tuple[Step, ...]
    helpers: Mapping[str, str]
    remark: str

    @property
    def label(self) -> str:
        """The optimizer's label."""
        return self.traced.labels[0]

    @property
    def choice(self) -> Choice:
        """The rate, and where it comes from."""
        return self.traced.paths[0].choice

    @property
    def numbers(self) -> dict[str, str]:
        """The symbols that are numbers, as at the first step."""
        return {name: in_numbers(value) for name, value in self.steps[0].given.items() if not is_several(value)}

    def text(self, steps: int | None = None) -> str:
        """Return the equations, then the values of so many steps; None: of all."""
        title = self.traced.surface.title.partition(":")[0]
        lines = [f"{self.label} on {title} ({self.traced.surface.label}), {self.choice.words}"]
        lines += dict.fromkeys(f"    {each.symbol} ← {each.expression}" for each in self.steps[-1].equations)
        lines += [f"with {', '.join(f'{name} = {value}' for name, value in self.numbers.items())}"]
        lines += [f"where {name}(...): {meaning}" for name, meaning in self.helpers.items()]
        lines += [self.remark] if self.remark else []
        for step in self.steps[:steps]:
            lines += ["", *self._lines(step)]
        return "\n".join(lines)

    def _lines(self, step: Step) -> list[str]:
        values = self.traced.paths[0].values
        before, after = values[step.number - 1 : step.number + 1]
        tensors = {name: in_numbers(value) for name, value in step.given.items() if is_several(value)}
        numbers = {name: in_numbers(value) for name, value in step.given.items() if not is_several(value)}
        changed = {name: value for name, value in numbers.items() if value != self.numbers.get(name)}
        lines = [f"step {step.number}: the value {_moved(before, after)}"]
        lines += _side_by_side([f"{name} = {value}" for name, value in {**tensors, **changed}.items()])
        for each in step.equations:
            lines += _indented(f"{each.symbol} ← {each.expression} = {in_numbers(each.value)}")
        return lines

    def __repr__(self) -> str:
        """The equations, and the values of the first three steps."""
        return self.text(3)

    def save(self, path: str | File) -> File:
        """Write the explanation into a file: .html, a page with a slider, complete in itself; or .txt.

        Raises:
            UsageError: another suffix, or a file that cannot be written.
        """
        file = File(path)
        kind = kind_of(file, KINDS)
        from steepest.landscapes.page import explanation  # drawing needs a large package

        text = explanation.page(self.traced, self) if kind == "html" else self.text() + "\n"
        with writing(file, "explanation"):
            file.write_text(text, encoding="utf-8")
        return file

    def _repr_html_(self) -> str:
        """Return the first steps for a notebook."""
        return Markup("<pre>{}</pre>").format(self.text(3))


def explain(
    optimizer: str | Callable[..., Any],
    surface: Any = None,
    *,
    steps: int = STEPS,
    start: Any = None,
    lr: float | None = None,
    rates: int = RATES,
    seed: int = 0,
) -> Explanation:
    """Walk through the first steps of an optimizer on a surface.

    The path is that of `trace`, computed by the reference executor. The rate is the best of some on the whole budget of
    `trace`, not on the steps that are shown.

    Args:
        optimizer: a name such as `"adam[beta1=0.5]"`, a class, or a function of the parameters.
        surface: see `trace`. It has one parameter. None is `SURFACE`; for rules that multiply matrices, `OF_MATRICES`.
        steps: the number of steps.
        start: a point; None is the surface's first start.
        lr: a rate, instead of a search.
        rates, seed: see `trace`.

    Raises:
        UsageError: as for `trace`; or the rule has no equations to walk through, or the surface several parameters.
    """
    check_counts(steps=steps)
    usual = _usual_surface(optimizer)
    found = find(usual if surface is None else surface)
    if len(found.shapes) > 1:
        raise UsageError(f"{found.label} has {len(found.shapes)} parameters; choose a surface of one, such as {usual}")
    starts = 1 if start is None else [start]
    traced = trace(found, optimizer, budget=max(BUDGET, steps), starts=starts, lr=lr, rates=rates, seed=seed)
    if not traced.paths:
        ((label, reason), *_) = traced.skipped
        hint = f"; walk on {usual}" if usual == OF_MATRICES and found.name != usual else ""
        raise UsageError(f"{label} cannot walk on {found.label}: {reason}{hint}")
    (path, *_) = traced.paths
    config = OptimizerConfig.read(dict(path.config))
    parameter = found.split(torch.tensor(traced.starts[0], dtype=torch.float64))[0]
    walk, taken = _walkthrough(config, parameter), min(steps, len(path.values) - 1)
    try:
        walked = tuple(_step(walk, found, Draw(number, seed)) for number in range(taken))
    except ValueError as error:
        raise UsageError(str(error)) from error
    at = np.array([step.after.flatten().tolist() for step in walked])
    remark = "" if np.allclose(at, path.positions[1 : taken + 1]) else OTHER_WEIGHTS
    return Explanation(traced, walked, walk.helpers, remark)


def _usual_surface(optimizer: str | Callable[..., Any]) -> str:
    """Return the surface for an optimizer: that of matrices for a rule that multiplies them."""
    configs, _ = read_optimizers(optimizer)
    return OF_MATRICES if any(map(_multiplies, configs)) else SURFACE


def _multiplies(config: OptimizerConfig) -> bool:
    """Return whether an optimizer has a rule that multiplies matrices."""
    try:
        with settings.kept(), GlobalStream("init", 0).active():
            made = config.build([torch.ones(2, 2, requires_grad=True)])
    except Exception:  # whatever another library raises; the trace says so
        return False
    return isinstance(made, Optimizer) and made.rule_for(made.param_groups[0]).kind == "matrix"


def _walkthrough(config: OptimizerConfig, parameter: Tensor) -> Walkthrough:
    made = config.build([parameter.clone().requires_grad_()])
    if isinstance(made, Wrapper):
        raise UsageError(
            f"{config.label} is around another optimizer, and has no equations of its own; explain that one"
        )
    if not isinstance(made, Optimizer):
        raise UsageError(f"{config.label} is not a rule of this library, so it has no equations to walk through")
    try:
        return Walkthrough(type(made), parameter, **config.options)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _step(walk: Walkthrough, surface: Surface, draw: Draw) -> Step:
    """Take a step on a surface, with the noise of a draw."""
    if walk.searches:
        step = walk.search(lambda p: surface.loss(draw, [p]))
    else:
        parameter = walk.p.requires_grad_()
        loss = surface.loss(draw, [parameter])
        (gradient,) = torch.autograd.grad(loss, [parameter])
        step = walk.step(gradient, loss.detach())
    if surface.box:
        walk.p = walk.p.clamp(*surface.box)
    return step


def _moved(before: float, after: float) -> str:
    """Return in words how a value changes."""
    if before == after:
        return f"stays {after:.4g}"
    way, old, new = "falls" if after < before else "rises", f"{before:.4g}", f"{after:.4g}"
    return f"{way} by {abs(after - before):.4g}, to {new}" if old == new else f"{way} from {old} to {new}"


def _indented(text: str) -> list[str]:
    """Return an equation as lines; the rows of a matrix are below it."""
    head, *rows = text.split("\n")
    if not rows:
        return [f"    {head}"]
    expression, _, first = head.rpartition(" = ")
    return [f"    {expression}", f"      = {first}", *(f"        {row}" for row in rows)]


def _side_by_side(texts: Sequence[str]) -> list[str]:
    """Return values as lines: numbers and vectors in one, matrices next to each other as far as they fit."""
    flat = ", ".join(text for text in texts if "\n" not in text)
    blocks = [_block(text) for text in texts if "\n" in text]
    lines: list[str] = []
    while blocks:
        fitting = max(1, sum(width <= WIDTH for width in accumulate(len(block[0]) + 3 for block in blocks)))
        row, blocks = blocks[:fitting], blocks[fitting:]
        padded = ([line.ljust(len(block[0])) for line in block] for block in row)
        blank = [" " * len(block[0]) for block in row]
        height = max(map(len, row))
        filled = ([*lines, *[gap] * (height - len(lines))] for lines, gap in zip(padded, blank, strict=True))
        lines += [f"    {'   '.join(parts)}".rstrip() for parts in zip(*filled, strict=True)]
    return [*lines, *([f"    {flat}"] if flat else [])]


def _block(text: str) -> list[str]:
    """Return a matrix with its name as lines of one width."""
    first, *rows = text.split("\n")
    name = first.partition("[")[0]
    return [first, *(" " * len(name) + row for row in rows)]
