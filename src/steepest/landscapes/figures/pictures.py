"""The picture of a trace: paths on the surface, values over evaluations, and a legend with the rates."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path as File
from typing import Any, Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from steepest.landscapes.figures import parts
from steepest.landscapes.records import Paths
from steepest.study.report.charts.matplotlib_renderer import QUIET, own_style

TOGETHER: Final = 6
"""Up to so many optimizers are drawn on one surface; more get a small one each."""
COLUMNS: Final = 4
LETTERS: Final = 150
"""Letters in a line across the whole figure."""
LINE: Final = 0.16
"""Height of a line of the notes, in inches."""
DPI: Final = 160


class Picture:
    """The figure of a trace, with the paths as far as a count of evaluations; to be used inside of `own_style`."""

    def __init__(self, traced: Paths) -> None:
        self._traced = traced
        self._styles = parts.styles_of(traced)
        self._notes = _notes(traced)
        self._drawn: list[Artist] = []
        self._panels: dict[str, Axes] = {}
        self._values: Axes
        self.figure: Figure
        if len(self._styles) > TOGETHER:
            self._small_multiples()
        else:
            self._together()
        self._caption()

    def show(self, until: float = math.inf) -> None:
        """Draw the paths as far as a count of evaluations, in place of what was drawn before."""
        for artist in self._drawn:
            artist.remove()
        budget = self._traced.budget
        self._drawn = [
            artist
            for path in self._traced.paths
            for artist in (
                *parts.draw_path(self._panels[path.label], path, self._styles[path.label], budget, until),
                *parts.draw_value(self._values, path, self._styles[path.label], self._traced, until),
            )
        ]

    def onto_an_image(self, dpi: float) -> Figure:
        """Make an image of all that stays, and return a figure in which paths are drawn upon it, fast."""
        self.figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        made = Figure(figsize=tuple(self.figure.get_size_inches()), dpi=dpi)
        FigureCanvasAgg(made)
        image = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
        made.figimage(np.array(image), zorder=-1)
        upon = {axes: _upon(made, axes) for axes in dict.fromkeys((*self._panels.values(), self._values))}
        self._panels = {label: upon[axes] for label, axes in self._panels.items()}
        self._values = upon[self._values]
        self.figure = made
        return made

    def _together(self) -> None:
        self.figure = empty(10.4, 4.9 + LINE * len(self._notes))
        surface, self._values = self.figure.subplots(1, 2, width_ratios=(1.25, 1))
        self._panels = dict.fromkeys(self._styles, surface)
        parts.draw_ground(surface, self._traced)
        parts.scale_values(self._values, self._traced)
        self._write_formula(surface)

    def _small_multiples(self) -> None:
        rows = -(-len(self._styles) // COLUMNS)
        self.figure = empty(10.4, 2.3 * rows + 4.2 + LINE * len(self._notes))
        grid = self.figure.add_gridspec(rows + 1, COLUMNS, height_ratios=[1.0] * rows + [1.2])
        for place, (label, style) in enumerate(self._styles.items()):
            axes = self._panels[label] = self.figure.add_subplot(grid[divmod(place, COLUMNS)])
            parts.draw_ground(axes, self._traced)
            axes.set(xlabel="", ylabel="")
            axes.set_title("\n".join(textwrap.wrap(label, 26)), color=style.light)
        self._values = self.figure.add_subplot(grid[rows, :])
        parts.scale_values(self._values, self._traced)

    def _write_formula(self, axes: Axes) -> None:
        if self._traced.surface.formula:
            text = axes.set_title(f"${self._traced.surface.formula}$", fontsize=9, fontweight="normal")
            text.set_parse_math(True)

    def _caption(self) -> None:
        """Write the title above, the legend and the notes below."""
        made = self.figure
        made.suptitle(self._traced.surface.title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        lines, words = parts.handles(self._traced, self._styles)
        write_below(made, lines, words, self._notes)


def _upon(made: Figure, axes: Axes) -> Axes:
    """Return invisible axes at the place and with the scales of others."""
    own: Axes = made.add_axes(axes.get_position().bounds, yscale=axes.get_yscale())
    own.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    own.set_axis_off()
    return own


def figure(traced: Paths) -> Figure:
    """Return the figure of a trace, which pyplot does not know."""
    with own_style():
        picture = Picture(traced)
        picture.show()
        return picture.figure


def save(traced: Paths, file: File) -> None:
    """Write the figure into a file: PNG, SVG or PDF."""
    write(figure(traced), file, file.suffix.lower().removeprefix("."))


def write(made: Figure, target: Any, kind: str) -> None:
    """Write a figure into a file or a stream. Equal figures give equal bytes."""
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with own_style():
        made.savefig(target, format=kind, dpi=DPI, metadata=undated[kind])


def empty(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def write_below(made: Figure, lines: Sequence[Line2D], words: Sequence[str], notes: Sequence[str]) -> None:
    """Write the legend and below it the notes at the bottom of a figure, and keep the place free."""
    height = float(made.get_figheight())
    below = (LINE * len(notes) + 0.06) / height
    made.text(0.01, 0.04 / height, "\n".join(notes), fontsize=8, color=QUIET, va="bottom").set_in_layout(False)
    legend = made.legend(
        lines,
        [f"series {place}" for place in range(len(lines))],  # labels with a leading underscore would vanish
        loc="lower center",
        bbox_to_anchor=(0.5, below),
        ncols=max(1, min(4, LETTERS // (max(map(len, words)) + 8))),
        handlelength=3.2,
    )
    for text, word in zip(legend.get_texts(), words, strict=True):
        text.set_text(textwrap.fill(word, LETTERS - 10))
    legend.set_in_layout(False)
    share = below + legend.get_window_extent().height / made.bbox.height + 0.04 / height
    made.set_layout_engine("constrained", rect=(0, share, 1, 1 - share))


def _notes(traced: Paths) -> list[str]:
    """Return the lines under the figure: the surface's note, what was skipped or stopped, and what the plane shows."""
    notes = [traced.surface.note] if traced.surface.note else []
    notes += [f"{label} skipped: {reason}" for label, reason in traced.skipped]
    stopped = [path for path in traced.paths if path.ended and not path.is_lost]
    notes += dict.fromkeys(f"{path.label} stops: {path.ended}" for path in stopped)
    if traced.plane is not None and traced.surface.size > 2:
        notes.append(
            f"plane of the two directions in which the paths of all optimizers vary most: {traced.plane.share:.0%} "
            "of their squared distances from the origin"
        )
    return [line for note in notes for line in textwrap.wrap(note, LETTERS)]
