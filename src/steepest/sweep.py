"""Learning-rate range test: a few steps while the rate grows from small to large, to see where the loss falls.

Smith 2017, "Cyclical learning rates for training neural networks", arXiv:1506.01186, section 3.3; here on a logarithmic
axis.
"""

from __future__ import annotations

import copy
import math
import random
import statistics
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from . import registry
from .fields import Search
from .optimizer import Optimizer
from .text import html_table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Loss = Callable[[Any, Any], Tensor]
Batch = tuple[Any, Any]

BEYOND = 10.0
"""Highest rate that is tried, as a multiple of the highest rate that the optimizer's class declares."""
MARGIN = 10.0
"""Ratio between the rate at which training diverges and the largest rate that is recommended."""
SETTLING = 10
"""First steps, whose losses are the start: a loss is compared with their mean and their noise."""
MEMORY = 0.8
"""Decay of the running average of the loss that decides on divergence."""
SEEDED = frozenset({"cuda", "xpu"})
"""Kinds of accelerators whose generators are seeded, and put back, with the CPU's."""
CLEAR = 1.5
"""Smallest fall that counts, in standard deviations of the losses around their smoothed curve."""
WIDTH = 1 / 20
"""Standard deviation of the smoothing of the curve, as a share of the whole range."""


@dataclass(frozen=True)
class LrRange:
    """Result of a learning-rate range test.

    Attributes:
        optimizer: the optimizer with its options.
        rates: the rates that were tried, from low to high.
        losses: for each repeat the loss after the step at each rate, on the next batch, until training diverged.
        smoothed: the same curves, smoothed over neighbouring rates.
        mean: mean of the smoothed curves, as far as every repeat came.
        steepest: for each repeat the rate at which its smoothed curve falls fastest over log(rate), to values that it
            has not had before; None if it does not fall by more than its noise.
        lowest: for each repeat the rate at which its smoothed curve is lowest.
        diverges: for each repeat the rate at which training diverged; None if it did not.
        candidates: for each repeat with a steepest rate its recommendation: the geometric mean of the steepest and the
            lowest rate, but at most a tenth of the rate at which it diverged.
        recommended: median of the candidates; None without any.
    """

    optimizer: str
    rates: tuple[float, ...] = field(repr=False)
    losses: tuple[tuple[float, ...], ...] = field(repr=False)
    smoothed: tuple[tuple[float, ...], ...] = field(repr=False)
    mean: tuple[float, ...] = field(repr=False)
    steepest: tuple[float | None, ...]
    lowest: tuple[float, ...]
    diverges: tuple[float | None, ...]
    candidates: tuple[float, ...]
    recommended: float | None

    @property
    def spread(self) -> float:
        """The uncertainty of the recommendation: the largest candidate over the smallest; NaN without any."""
        return max(self.candidates) / min(self.candidates) if self.candidates else math.nan

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences to know before using the recommendation."""
        repeats, found = len(self.losses), len(self.candidates)
        remarks = []
        if found < repeats:
            remarks.append(
                f"in {repeats - found} of {repeats} repeats the loss fell by no more than its noise: "
                "try a wider range, more steps or larger batches"
            )
        if any(rate <= self.rates[0] * (self.rates[-1] / self.rates[0]) ** 0.1 for rate in self.steepest if rate):
            remarks.append("the loss falls fastest where the range begins: try a smaller low")
        if found and self.spread > 3:
            remarks.append(f"the repeats differ by a factor of {self.spread:.2g}: try more steps or repeats")
        if None in self.diverges:
            remarks.append(f"not every repeat diverged up to {self.rates[-1]:.2g}")
        return tuple(remarks)

    def __str__(self) -> str:
        """Return the recommendation, each repeat's rates, and remarks."""
        return "\n".join([self._headline(), "", *table(self._rows()), *self.remarks])

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        remarks = "".join(f"<li>{escape(remark)}</li>" for remark in self.remarks)
        return f"<p>{escape(self._headline())}</p>{html_table(self._rows())}<ul>{remarks}</ul>"

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("repeat", "steepest fall", "lowest loss", "diverges")]
        figures = zip(self.steepest, self.lowest, self.diverges, strict=True)
        return [*rows, *((str(number), *map(in_words, rates)) for number, rates in enumerate(figures, 1))]

    def _headline(self) -> str:
        if self.recommended is None:
            return f"{self.optimizer}: no rate to recommend"
        low, high = in_words(min(self.candidates)), in_words(max(self.candidates))
        how = f"{low} to {high} in {len(self.candidates)} repeats, a factor of {self.spread:.2g}"
        return f"{self.optimizer}: a learning rate of {in_words(self.recommended)} ({how})"

    def plot(self) -> Figure:
        """Draw the curves over the rates, with the recommendation and the rates at which training diverged.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "plot() needs matplotlib, which is not installed: pip install matplotlib", name=error.name
            ) from error
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for curve in self.smoothed:
            axes.plot(self.rates[: len(curve)], curve, color="tab:blue", alpha=0.35, linewidth=1)
        axes.plot(self.rates[: len(self.mean)], self.mean, color="tab:blue", linewidth=2, label="mean loss, smoothed")
        if self.recommended is not None:
            axes.axvspan(min(self.candidates), max(self.candidates), color="tab:green", alpha=0.2)
            label = f"recommended: {in_words(self.recommended)}"
            axes.axvline(self.recommended, color="tab:green", label=label)
        for number, rate in enumerate(rate for rate in self.diverges if rate is not None):
            label = "_" if number else "diverges"
            axes.axvline(rate, color="tab:red", linestyle=":", label=label)
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=self.optimizer)
        axes.legend()
        return figure


def in_words(rate: float | None) -> str:
    """Return a rate with two digits, ``-`` for none."""
    return "-" if rate is None else f"{rate:.2g}"


def lr_range(
    model: nn.Module,
    loss: Loss,
    data: Iterable[Batch],
    optimizer: str | torch.optim.Optimizer = "adamw",
    *,
    low: float | None = None,
    high: float | None = None,
    steps: int = 100,
    repeats: int = 3,
    seed: int = 0,
    label: str = "",
    **options: Any,
) -> LrRange:
    """Train while the learning rate grows from step to step, and return where the loss falls and where it diverges.

    A repeat ends when the loss is not finite, or when its running average has risen above the start by as much as it
    had fallen, and at least to twice the start. Afterwards everything is as it was: parameters, gradients, buffers,
    modes, the optimizer's state, the random generators of torch, NumPy and Python, and that of a `DataLoader`.

    Args:
        model: the model. Every repeat starts from the weights that it has.
        loss: function of (outputs, targets) that returns a scalar tensor.
        data: batches (inputs, targets). A list is read in an order of its own in every repeat; a `DataLoader` is
            started anew, its order drawn from the repeat's seed. Of an iterator, only as many batches are taken as the
            longest repeat needs, and the other repeats reorder them. Tensors are moved to the model's device.
        optimizer: a name, perhaps with options, such as ``"lion"`` or ``"adam[beta2=0.95]"``. Or an optimizer over the
            model's parameters; its groups keep the ratios of their rates, and ``low`` and ``high`` are for the largest.
        low, high: the range. By default from the lowest rate that the optimizer's class declares for searches, to ten
            times the highest.
        steps: number of rates.
        repeats: number of repeats, each with its own seed.
        seed: seed of the first repeat; the others have the next ones.
        label: name of the optimizer in the result, instead of its own.
        options: further options of the optimizer, for a name.

    Raises:
        ValueError: a bad range, no data, or an optimizer without a learning rate or a declared range.
        TypeError: data or options of another form.
    """
    _check_counts(steps, repeats)
    build, own_label, declared = _builder(model, optimizer, options)
    search = declared.fields["lr"].search if declared else None
    rates = _rates(bounds(own_label, search, low, high), steps)
    source = _Batches(data, steps + 1)
    curves = []
    with _kept(model, optimizer, data) as restore:
        for repeat in range(repeats):
            restore()
            _seed(seed + repeat, _devices(model))
            if not model.training:  # else some of its modules may be in eval mode on purpose
                model.train()
            run = _Run(model, loss, build(rates[0]))
            with closing(source.drawn()) as batches:
                curves.append(run.sweep(rates, batches))
    return _result(label or own_label, rates, curves)


def _check_counts(steps: int, repeats: int) -> None:
    if steps < 10 or repeats < 1:
        raise ValueError(f"lr_range takes 10 steps or more and 1 repeat or more, not {steps} and {repeats}")


# -- the optimizer and its range -------------------------------------------------------------------------------------

Build = Callable[[float], torch.optim.Optimizer]


def _builder(
    model: nn.Module, optimizer: str | torch.optim.Optimizer, options: dict[str, Any]
) -> tuple[Build, str, type[Optimizer] | None]:
    """Return the function that builds the optimizer at a rate, its label, and the class that declares its range."""
    if not isinstance(optimizer, str):
        return _given(optimizer, options)
    name, given = registry.read(optimizer)
    if "lr" in {**given, **options}:
        raise ValueError("lr_range sets lr itself; give the range as low and high")
    recipe = registry.recipe(name, {**given, **options})
    if "lr" not in recipe.optimizer.fields or not recipe.optimizer.takes_schedule:
        raise ValueError(f"{recipe.label} has no learning rate to search: it finds its step sizes itself")

    def build(rate: float) -> torch.optim.Optimizer:
        return recipe.with_defaults({"lr": rate}).build(list(model.named_parameters()))

    return build, recipe.label, recipe.optimizer


def _given(optimizer: Any, options: dict[str, Any]) -> tuple[Build, str, type[Optimizer] | None]:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a name such as 'adamw', or an optimizer, not {optimizer!r}")
    if options:
        raise TypeError(f"the optimizer is built already and takes no {', '.join(options)}; give a name with options")
    cls = type(optimizer)
    if not all(group.get("lr") for group in optimizer.param_groups):
        raise ValueError(f"every group of this {cls.__name__} needs an lr above 0; the rates grow from these")
    twin = registry.built_in().get(cls.__name__.lower()) if cls.__module__.startswith("torch.optim") else None
    return lambda rate: optimizer, cls.__name__, cls if issubclass(cls, Optimizer) else twin


def bounds(label: str, search: Search | None, low: float | None, high: float | None) -> tuple[float, float]:
    """Return the range that is tried: ``low`` and ``high``, or what a declared search range gives in their place.

    Raises:
        ValueError: no range is declared and none is given, or it is not one of positive rates.
    """
    if search is None and (low is None or high is None):
        raise ValueError(f"{label} declares no range of rates; give low and high")
    start = search.low if low is None and search else low
    end = BEYOND * search.high if high is None and search else high
    if start is None or end is None or not 0 < start < end < math.inf:
        raise ValueError(f"a range of rates is 0 < low < high, not low={start!r} and high={end!r}")
    return start, end


def _rates(bounds: tuple[float, float], steps: int) -> tuple[float, ...]:
    low, high = bounds
    return tuple(low * (high / low) ** (step / (steps - 1)) for step in range(steps))


# -- the data --------------------------------------------------------------------------------------------------------


class _Batches:
    """Batches of the caller's data, as many as are asked for, in an order of its own in every repeat."""

    def __init__(self, data: Iterable[Batch], most: int) -> None:
        is_examples = isinstance(data, torch.utils.data.Dataset) and not isinstance(
            data, torch.utils.data.IterableDataset
        )
        if is_examples or not isinstance(data, Iterable):
            kind = type(data).__name__
            raise TypeError(f"data must be batches (inputs, targets), such as a DataLoader or a list, not a {kind}")
        self._data = data
        self._most = most
        self._taken: list[Batch] = []

    def drawn(self) -> Generator[Batch]:
        """Yield batches for one repeat, again and again."""
        passes = self._replayed() if isinstance(self._data, Iterator) else self._passes()
        for batch in passes:
            if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
                raise TypeError(f"a batch must be a pair (inputs, targets), not {_form(batch)}")
            yield batch[0], batch[1]

    def _passes(self) -> Iterator[Any]:
        while True:
            is_empty = True
            for batch in _shuffled(self._data):
                is_empty = False
                yield batch
            if is_empty:
                raise ValueError("there are no data: the first pass gave no batch")

    def _replayed(self) -> Iterator[Any]:
        """Yield what an iterator gave before, reordered; then, if that is not enough, what it has left."""
        yield from _shuffled(list(self._taken))
        while len(self._taken) < self._most and (batch := next(self._data, None)) is not None:  # type: ignore[call-overload]
            self._taken.append(batch)
            yield batch
        self._data = self._taken
        yield from self._passes()


def _shuffled(data: Iterable[Any]) -> Iterable[Any]:
    if not isinstance(data, Sequence):
        return data
    return (data[place] for place in torch.randperm(len(data)).tolist())


def _form(batch: object) -> str:
    if isinstance(batch, Tensor):
        return f"a tensor of shape {tuple(batch.shape)}; for one batch of all data give [(inputs, targets)]"
    return f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")


# -- one repeat ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """Losses of one repeat: at the start, and after the step at each rate. `limit` is set if training diverged."""

    start: float
    losses: list[float]
    limit: float | None


@dataclass
class _Run:
    """One repeat's model, loss and optimizer."""

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer

    def sweep(self, rates: Sequence[float], batches: Iterator[Batch]) -> Curve:
        """Take a step at each rate until training diverges."""
        ratios = self._ratios()
        watch = Watch()
        for rate in rates:
            for group, ratio in zip(self.optimizer.param_groups, ratios, strict=True):
                group["lr"] = rate * ratio
            if watch.diverged(self._stepped(next(batches))):
                break
        else:
            with torch.no_grad():
                watch.diverged(float(self._value(next(batches))))
        start, *losses = watch.seen
        if not losses:
            raise ValueError(f"the loss is {start} before the first step; check the data, the model and the loss")
        return Curve(start, losses, watch.limit if watch.has_diverged else None)

    def _ratios(self) -> list[float]:
        given = [float(group["lr"]) for group in self.optimizer.param_groups]
        return [rate / max(given) for rate in given]

    def _stepped(self, batch: Batch) -> float:
        """Take a step and return the loss of its first evaluation, before the step."""
        seen: list[float] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            value = self._value(batch)
            value.backward()  # type: ignore[no-untyped-call]
            seen.append(float(value.detach()))
            return value

        with torch.enable_grad():
            self.optimizer.step(closure)  # type: ignore[arg-type]
        return seen[0]

    def _value(self, batch: Batch) -> Tensor:
        device = next(p.device for group in self.optimizer.param_groups for p in group["params"])
        inputs, targets = (x.to(device) if isinstance(x, Tensor) else x for x in batch)
        value = self.loss(self.model(inputs), targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            form = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ValueError(f"loss must return a scalar tensor, the mean over the batch; it returned {form}")
        return value


class Watch:
    """Watch over a loss, which says when it has diverged."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.has_diverged = False
        self.limit = math.inf
        self._average = self._weight = 0.0
        self._best = math.inf

    def diverged(self, value: float) -> bool:
        """Return whether training has diverged at this value, the next one."""
        self.seen.append(value)
        start = statistics.fmean(self.seen[:SETTLING])
        self._average = MEMORY * self._average + (1 - MEMORY) * value
        self._weight = MEMORY * self._weight + (1 - MEMORY)
        current = self._average / self._weight
        self._best = min(self._best, current)
        self.limit = start + max(start - self._best, abs(start), 3 * _spread(self.seen[:SETTLING]))
        self.has_diverged = not math.isfinite(value) or (len(self.seen) > SETTLING and current > self.limit)
        return self.has_diverged


def _spread(values: Sequence[float]) -> float:
    return statistics.pstdev(values) if all(map(math.isfinite, values)) else 0.0


# -- the result ------------------------------------------------------------------------------------------------------


def _result(label: str, rates: tuple[float, ...], curves: Sequence[Curve]) -> LrRange:
    capped = [_capped(curve) for curve in curves]
    smoothed = [smooth(curve, WIDTH * len(rates)) for curve in capped]
    steepest = [steepest_rate(rates, curve, even) for curve, even in zip(capped, smoothed, strict=True)]
    diverges = [None if curve.limit is None else rates[max(0, len(curve.losses) - 1)] for curve in curves]
    lowest = [rates[_place_of_lowest(curve)] for curve in smoothed]
    found = [_candidate(*each) for each in zip(steepest, lowest, diverges, strict=True)]
    candidates = [rate for rate in found if rate is not None]
    shortest = min(map(len, smoothed))
    return LrRange(
        optimizer=label,
        rates=rates,
        losses=tuple(tuple(curve.losses) for curve in curves),
        smoothed=tuple(map(tuple, smoothed)),
        mean=tuple(statistics.fmean(curve[i] for curve in smoothed) for i in range(shortest)),
        steepest=tuple(steepest),
        lowest=tuple(lowest),
        diverges=tuple(diverges),
        candidates=tuple(candidates),
        recommended=_median(candidates) if candidates else None,
    )


def _candidate(steepest: float | None, lowest: float, diverges: float | None) -> float | None:
    """Return what one repeat recommends, by the rule of `LrRange.candidates`."""
    if steepest is None:
        return None
    between = math.sqrt(steepest * lowest)
    return between if diverges is None else min(between, diverges / MARGIN)


def _place_of_lowest(curve: Sequence[float]) -> int:
    return min(range(len(curve)), key=curve.__getitem__)


def _median(rates: Sequence[float]) -> float:
    """Return the middle one; of the two in the middle, their geometric mean."""
    low, high = statistics.median_low(rates), statistics.median_high(rates)
    return low if low == high else math.sqrt(low * high)


def _capped(curve: Curve) -> list[float]:
    """Return the losses without the heights of divergence, which would be smeared over the rates before."""
    if curve.limit is None:
        return curve.losses
    limit = curve.limit if math.isfinite(curve.limit) else max(filter(math.isfinite, curve.losses), default=curve.start)
    return [min(value, limit) if math.isfinite(value) else limit for value in curve.losses]


def smooth(values: Sequence[float], width: float) -> list[float]:
    """Return averages of neighbours, weighted by a Gaussian of that standard deviation, in places."""
    reach = math.ceil(3 * width)
    weights = {offset: math.exp(-0.5 * (offset / width) ** 2) for offset in range(-reach, reach + 1)}
    averages = []
    for place in range(len(values)):
        near = {place + o: w for o, w in weights.items() if 0 <= place + o < len(values)}
        averages.append(sum(w * values[i] for i, w in near.items()) / sum(near.values()))
    return averages


def steepest_rate(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float]) -> float | None:
    """Return the rate at which a smoothed curve falls fastest over log(rate) to values that it has not had before.

    So a fall that only makes up for a bump does not count. It is None if the curve falls by less than `CLEAR` standard
    deviations of the losses around it.
    """
    lowest = _place_of_lowest(smoothed)
    falls = {i: min(smoothed[:i]) - smoothed[i + 1] for i in range(1, lowest)}
    noise = _spread([a - b for a, b in zip(losses, smoothed, strict=True)][: lowest + 1])
    if not falls or smoothed[0] - smoothed[lowest] <= CLEAR * noise:
        return None
    return rates[max(falls, key=falls.__getitem__)]


# -- everything as it was --------------------------------------------------------------------------------------------


@contextmanager
def _kept(model: nn.Module, optimizer: object, data: object) -> Iterator[Callable[[], None]]:
    """Put everything back at the end. The context's value does so for model and optimizer at once."""
    restores = [_model_kept(model, optimizer)]
    if isinstance(optimizer, torch.optim.Optimizer):
        restores.append(_optimizer_kept(optimizer))

    def restore() -> None:
        for each in restores:
            each()

    gradients = [(p, p.grad) for p in _parameters(model, optimizer)]
    modes = [(module, module.training) for module in model.modules()]
    with _generators_kept(_devices(model), data):
        try:
            yield restore
        finally:
            restore()
            for p, gradient in gradients:
                p.grad = gradient
            for module, mode in modes:
                module.training = mode


def _parameters(model: nn.Module, optimizer: object) -> list[Tensor]:
    groups = optimizer.param_groups if isinstance(optimizer, torch.optim.Optimizer) else []
    others = (p for group in groups for p in group["params"])
    return list({id(p): p for p in (*model.parameters(), *others)}.values())


def _model_kept(model: nn.Module, optimizer: object) -> Callable[[], None]:
    parameters = [(p, p.detach().clone()) for p in _parameters(model, optimizer)]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
    ]

    @torch.no_grad()
    def restore() -> None:
        for p, value in parameters:
            p.copy_(value)
            p.grad = None
        for module, name, buffer, value in buffers:
            if not torch.equal(buffer, value):  # an expanded one cannot be written
                buffer.copy_(value)
            setattr(module, name, buffer)  # a module may have put another tensor there

    return restore


def _optimizer_kept(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    saved = copy.deepcopy(optimizer.state_dict())
    rates = [group["lr"] for group in optimizer.param_groups]
    own: dict[str, Any] = {"keep_dtype": True} if isinstance(optimizer, Optimizer) else {}

    def restore() -> None:
        optimizer.load_state_dict(copy.deepcopy(saved), **own)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    return restore


def _devices(model: nn.Module) -> list[torch.device]:
    return sorted({p.device for p in model.parameters() if p.device.type in SEEDED}, key=str)


@contextmanager
def _generators_kept(devices: Sequence[torch.device], data: object) -> Iterator[None]:
    """Put the state of all random generators back at the end, those of the data's loader too."""
    numpy = sys.modules.get("numpy")  # the library imports torch only
    held = (getattr(part, "generator", None) for part in (data, getattr(data, "sampler", None)))
    own = [(generator, generator.get_state()) for generator in held if isinstance(generator, torch.Generator)]
    python, numbers = random.getstate(), numpy.random.get_state() if numpy else None
    kinds = {device.type for device in devices}
    with torch.random.fork_rng([d.index or 0 for d in devices], device_type=kinds.pop() if kinds else "cuda"):
        try:
            yield
        finally:
            random.setstate(python)
            if numpy:
                numpy.random.set_state(numbers)
            for generator, state in own:
                generator.set_state(state)


def _seed(seed: int, devices: Sequence[torch.device]) -> None:
    """Seed the generators that are put back: torch's global seed would reach devices that are not in use."""
    torch.default_generator.manual_seed(seed)
    for device in devices:
        with torch.get_device_module(device).device(device):
            torch.get_device_module(device).manual_seed(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
