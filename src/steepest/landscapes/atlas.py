"""Maps of optimizers on a surface: basins, and speed over pairs of options."""

from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, Final

from steepest.landscapes import sources
from steepest.landscapes.declaration import Surface
from steepest.landscapes.files import kind_of, writing
from steepest.landscapes.maps import BasinMap, SpeedMap, basin_map, speed_map
from steepest.landscapes.traced import PICTURES
from steepest.landscapes.tracing import BUDGET, RATES, Optimizers, check_counts, chosen_of, read_optimizers
from steepest.study.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOGETHER: Final = 121
SINGLE: Final = 15
COUNT: Final = 16


@dataclass(frozen=True, eq=False)
class Basins:
    """Maps of the minimum in which each optimizer ends, from every start of a grid.

    Attributes:
        surface: the surface.
        maps: a map for each optimizer.
        skipped: label and reason of the optimizers that cannot walk on the surface.
        budget: gradients of every path.
    """

    surface: Surface
    maps: tuple[BasinMap, ...]
    skipped: tuple[tuple[str, str], ...]
    budget: int

    def figure(self) -> "Figure":
        """Return a matplotlib figure with a map for each optimizer."""
        from steepest.landscapes.figures.charts import basins_figure  # drawing needs a large package

        return basins_figure(self.surface, self.maps, self.skipped, self.budget)

    def save(self, path: str | File) -> File:
        """Write the figure into a file: .png, .svg or .pdf. Raise UsageError for another suffix."""
        return _save(self, File(path))


@dataclass(frozen=True, eq=False)
class Speeds:
    """Maps of the evaluations that each optimizer needs over its rate and another option.

    Attributes:
        maps: a map for each optimizer.
    """

    maps: tuple[SpeedMap, ...]

    def figure(self) -> "Figure":
        """Return a matplotlib figure with a map for each optimizer."""
        from steepest.landscapes.figures.charts import speeds_figure

        return speeds_figure(self.maps)

    def save(self, path: str | File) -> File:
        """Write the figure into a file: .png, .svg or .pdf. Raise UsageError for another suffix."""
        return _save(self, File(path))


def _save(maps: Basins | Speeds, file: File) -> File:
    kind = kind_of_picture(file)
    from steepest.landscapes.figures import pictures

    with writing(file, "figure"):
        pictures.write(maps.figure(), file, kind)
    return file


def kind_of_picture(file: File) -> str:
    """Return the kind of a file that a map is written into. Raise UsageError for any other."""
    return kind_of(file, PICTURES, "kind of picture")


def basins(
    surface: Any,
    optimizers: Optimizers,
    *,
    budget: int = BUDGET,
    lr: float | None = None,
    rates: int = RATES,
    seed: int = 0,
    together: int = TOGETHER,
    single: int = SINGLE,
) -> Basins:
    """Return for every optimizer a map of the minimum in which it ends, and after how many evaluations.

    Rates are chosen as `trace` chooses them, from all of the surface's own starts. See `basin_map` for `together` and
    `single`, the numbers of starts along each side.

    Raises:
        UsageError: as `trace`; or the surface has not two numbers, minima and a window.
    """
    found = sources.find(surface)
    check_counts(budget=budget, rates=rates, together=together, single=single)
    read, skipped = read_optimizers(optimizers)
    maps = tuple(
        basin_map(found, chosen, choice, budget=budget, together=together, single=single, seed=seed)
        for chosen, choice in chosen_of(
            found, read, found.starts, skipped, budget=budget, rates=rates, seed=seed, lr=lr
        )
    )
    return Basins(found, maps, tuple(skipped), budget)


def speeds(
    surface: str, optimizers: Optimizers, over: str, *, budget: int = BUDGET, count: int = COUNT, seed: int = 0
) -> Speeds:
    """Return for every optimizer a map of the evaluations to a thousandth of the start's height above the minimum.

    Args:
        surface: the name of one of the library's surfaces, perhaps with options.
        optimizers: as `trace` takes them.
        over: the option that is drawn over the rate: one of the optimizers, such as `"momentum"`, or of the surface,
            such as `"condition"`.
        budget: gradients of every path.
        count: values along each side.
        seed: the seed of the noise.

    Raises:
        UsageError: as `trace`; or an optimizer has no range of rates, or nobody has the other option.
    """
    declared, given = sources.declared(surface)
    check_counts(budget=budget, count=count)
    read, skipped = read_optimizers(optimizers)
    if skipped:
        label, reason = skipped[0]
        raise UsageError(f"{label} cannot be drawn: {reason}")
    return Speeds(tuple(speed_map(declared, given, config, over, budget, count, seed) for config in read))
