"""The result of a trace: paths, what was skipped, and the files that show them."""

import base64
import importlib
import io
from dataclasses import dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from steepest.landscapes.files import kind_of, writing
from steepest.landscapes.records import Paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES: Final = ("png", "svg", "pdf")
FILMS: Final = ("gif", "mp4")
PAGES: Final = ("html",)
KINDS: Final = (*PAGES, *PICTURES, *FILMS)


@dataclass(frozen=True, eq=False, repr=False)
class Traced(Paths):
    """The paths of some optimizers on a surface: printed, drawn, or shown in a notebook.

    See `Paths` for the attributes.
    """

    def __repr__(self) -> str:
        """The surface, a line for every path, and remarks."""
        lines = [
            f"{row['optimizer']}: {path.choice.words}, value {row['value']:.3g} after {row['evaluations']} evaluations"
            + (f", {path.ended}" if path.ended else "")
            for row, path in zip(self.rows, self.paths, strict=True)
        ]
        return "\n".join([f"{self.surface.title} ({self.surface.label})", *lines, *self.remarks])

    def to_dataframe(self) -> Any:
        """Return the figures of every path as a pandas DataFrame.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        pandas: Any = importlib.import_module("pandas")
        return pandas.DataFrame(self.rows)

    def figure(self) -> "Figure":
        """Return a matplotlib figure: the paths on the surface, and the values over the evaluations."""
        from steepest.landscapes.figures.pictures import figure  # drawing needs a large package

        return figure(self)

    def save(self, path: str | File) -> File:
        """Write the figure into a file by its suffix.

        An interactive page, complete in itself, is .html; pictures are .png, .svg and .pdf; films are .gif and .mp4.

        Raises:
            UsageError: another suffix, or a film without the program that writes it.
        """
        file = File(path)
        kind = kind_of(file, KINDS)
        from steepest.landscapes.figures import films, pictures
        from steepest.landscapes.page import page

        writers = {**dict.fromkeys(PAGES, page), **dict.fromkeys(PICTURES, pictures), **dict.fromkeys(FILMS, films)}
        with writing(file, "figure"):
            writers[kind].save(self, file)
        return file

    def _repr_html_(self) -> str:
        """Return the figure as an image for a notebook, complete in itself."""
        from steepest.landscapes.figures import pictures

        made = io.BytesIO()
        pictures.write(self.figure(), made, "svg")
        image = base64.b64encode(made.getvalue()).decode()
        return Markup('<img style="max-width: 100%" alt="{}" src="data:image/svg+xml;base64,{}">').format(
            repr(self), image
        )
