"""A rule on a surface, step by step: where it stands, and the value of every symbol of its equations."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any, Final

import torch
from markupsafe import Markup

from steepest.landscapes.declaration import Draw
from steepest.landscapes.files import kind_of, writing
from steepest.landscapes.rates import Choice
from steepest.landscapes.sources import find
from steepest.landscapes.traced import Traced
from steepest.landscapes.tracing import BUDGET, RATES, check_counts, trace
from steepest.optimizer import Optimizer
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import OptimizerConfig
from steepest.walkthrough import Step, Walkthrough, in_numbers

SURFACE: Final = "ravine"
STEPS: Final = 20
KINDS: Final = ("html", "txt")


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """The first steps of an optimizer on a surface, with the value of every symbol.

    Attributes:
        traced: the path, of which the steps are the first ones.
        steps: the steps.
    """

    traced: Traced
    steps: tuple[Step, ...]

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
        return {name: in_numbers(value) for name, value in self.steps[0].given.items() if not _is_tensor(value)}

    def text(self, steps: int | None = None) -> str:
        """Return the equations, then the values of so many steps; None: of all."""
        title = self.traced.surface.title.partition(":")[0]
        lines = [f"{self.label} on {title} ({self.traced.surface.label}), {self.choice.words}"]
        lines += [f"    {each.symbol} ← {each.expression}" for each in self.steps[-1].equations]
        lines += [f"with {', '.join(f'{name} = {value}' for name, value in self.numbers.items())}"]
        for step in self.steps[:steps]:
            lines += ["", *self._lines(step)]
        return "\n".join(lines)

    def _lines(self, step: Step) -> list[str]:
        values = self.traced.paths[0].values
        given = [f"{name} = {in_numbers(value)}" for name, value in step.given.items() if _is_tensor(value)]
        changed = [
            f"{name} = {in_numbers(value)}"
            for name, value in step.given.items()
            if not _is_tensor(value) and in_numbers(value) != self.numbers.get(name)
        ]
        before, after = values[step.number - 1 : step.number + 1]
        moved = "falls" if after < before else "rises"
        made = [f"    {each.symbol} ← {each.expression} = {in_numbers(each.value)}" for each in step.equations]
        return [
            f"step {step.number}: the value {moved} from {before:.4g} to {after:.4g}",
            f"    {', '.join([*given, *changed])}",
            *made,
        ]

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

        text = explanation.page(self.traced, self.steps, self.text()) if kind == "html" else self.text() + "\n"
        with writing(file, "explanation"):
            file.write_text(text, encoding="utf-8")
        return file

    def _repr_html_(self) -> str:
        """Return the first steps for a notebook."""
        return Markup("<pre>{}</pre>").format(self.text(3))


def explain(
    optimizer: str | Callable[..., Any],
    surface: Any = SURFACE,
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
        surface: see `trace`. It has one parameter.
        steps: the number of steps.
        start: a point; None is the surface's first start.
        lr: a rate, instead of a search.
        rates, seed: see `trace`.

    Raises:
        UsageError: as for `trace`; or the rule has no equations to walk through, or the surface several parameters.
    """
    check_counts(steps=steps)
    found = find(surface)
    if len(found.shapes) > 1:
        raise UsageError(
            f"{found.label} has {len(found.shapes)} parameters; choose a surface of one, such as {SURFACE}"
        )
    starts = 1 if start is None else [start]
    traced = trace(found, optimizer, budget=max(BUDGET, steps), starts=starts, lr=lr, rates=rates, seed=seed)
    if not traced.paths:
        ((label, reason), *_) = traced.skipped
        raise UsageError(f"{label} cannot walk on {found.label}: {reason}")
    (path, *_) = traced.paths
    config = OptimizerConfig.read(dict(path.config))
    parameter = found.split(torch.tensor(traced.starts[0], dtype=torch.float64))[0]
    walk = _walkthrough(config, parameter)
    taken = min(steps, len(path.values) - 1)
    return Explanation(traced, tuple(walk.step(_gradient(found, walk.p, Draw(k, seed))) for k in range(taken)))


def _walkthrough(config: OptimizerConfig, parameter: torch.Tensor) -> Walkthrough:
    made = config.build([parameter.clone().requires_grad_()])
    if not isinstance(made, Optimizer):
        raise UsageError(f"{config.label} is not a rule of this library, so it has no equations to walk through")
    try:
        return Walkthrough(type(made), parameter, **config.options)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _gradient(surface: Any, position: torch.Tensor, draw: Draw) -> torch.Tensor:
    parameter = position.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surface.loss(draw, [parameter]), [parameter])
    return gradient


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0
