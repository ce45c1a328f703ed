"""The film of a trace: the same figure, with paths that grow by equal counts of evaluations."""

from pathlib import Path as File
from typing import Final

from matplotlib.animation import AbstractMovieWriter, writers

from steepest.landscapes.figures import pictures
from steepest.landscapes.records import Paths
from steepest.study.errors import UsageError
from steepest.study.report.charts.matplotlib_renderer import own_style

FRAMES: Final = 48
PER_SECOND: Final = 12
STILL: Final = 12
"""Frames for which the last picture stays."""
DPI: Final = 90

WRITERS: Final = {
    ".gif": ("pillow", "Pillow, which is not installed: pip install pillow; or save .mp4"),
    ".mp4": ("ffmpeg", "ffmpeg, which is not on the PATH: install it with your system's package manager; or save .gif"),
}
"""By suffix matplotlib's name of the writer, and the words for its absence."""


def save(traced: Paths, file: File) -> None:
    """Write the film into a file: GIF with Pillow, MP4 with ffmpeg. Raise UsageError if that is not installed."""
    name, absence = WRITERS[file.suffix.lower()]
    if not writers.is_available(name):
        raise UsageError(f"{file} needs {absence}")
    _write(traced, file, writers[name](fps=PER_SECOND))


def _write(traced: Paths, file: File, writer: AbstractMovieWriter) -> None:
    count = min(FRAMES, traced.budget)
    shown = [traced.budget * place / count for place in range(count + 1)] + [float(traced.budget)] * STILL
    with own_style():
        picture = pictures.Picture(traced)
        figure = picture.onto_an_image(DPI)
        with writer.saving(figure, str(file), DPI):
            for until in shown:
                picture.show(until)
                writer.grab_frame()
