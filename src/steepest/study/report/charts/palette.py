"""Styles of series: colour, dash and marker together, so that no reader depends on colour only.

The nine colours follow Okabe and Ito's set, in a light and a dark variant. Their lightness is moved apart until every
pair stays distinct under simulated protanopia, deuteranopia and tritanopia. Dashes repeat every four and markers every
twelve, so the first 36 series have 36 different combinations of colour and dash.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

LIGHT = ("#0b6fb8", "#cf4f0a", "#0a9a72", "#d469b0", "#bf8a00", "#359bd9", "#52309a", "#85301f", "#3d434c")
DARK = ("#3d93e0", "#ff8545", "#1fb587", "#f29ad0", "#f7d154", "#93d6ff", "#8f63f5", "#c4664f", "#f2f0ea")
DASHES = ("solid", "dash", "dashdot", "dot")
MARKERS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "cross",
    "triangle-down",
    "pentagon",
    "star",
    "hexagon",
    "triangle-left",
    "x",
    "triangle-right",
)
COMBINATIONS = 36
"""Different combinations of colour, dash and marker."""
_DASHES = {"solid": "", "dash": "6 3", "dashdot": "6 2.5 1.5 2.5", "dot": "1.8 2.4"}
_SHAPES = {
    "circle": "M13 6a4 4 0 1 1 -.01 0z",
    "square": "M9.5 6.5h7v7h-7z",
    "diamond": "M13 5l5 5-5 5-5-5z",
    "triangle-up": "M13 5l5 9h-10z",
    "cross": "M11.5 5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
    "triangle-down": "M13 15l5-9h-10z",
    "pentagon": "M13 5.2l5 3.7-1.9 5.9h-6.2l-1.9-5.9z",
    "star": "M13 4.6l1.5 3.5 3.8.3-2.9 2.5.9 3.7-3.3-2-3.3 2 .9-3.7-2.9-2.5 3.8-.3z",
    "hexagon": "M13 5.2l4.3 2.4v4.8l-4.3 2.4-4.3-2.4v-4.8z",
    "triangle-left": "M8 10l9-5v10z",
    "x": "M10.2 5l2.8 2.8 2.8-2.8 2.2 2.2-2.8 2.8 2.8 2.8-2.2 2.2-2.8-2.8-2.8 2.8-2.2-2.2 2.8-2.8-2.8-2.8z",
    "triangle-right": "M18 10l-9-5v10z",
}


@dataclass(frozen=True)
class SeriesStyle:
    """Colour on light and on dark ground, dash and marker of one series."""

    light: str
    dark: str
    dash: str
    marker: str


Styles = Mapping[str, SeriesStyle]
"""Styles by label."""


def style_of(index: int) -> SeriesStyle:
    """Return the style at this place of the ring of all styles."""
    colour = index % len(LIGHT)
    return SeriesStyle(LIGHT[colour], DARK[colour], DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)])


def styles_of(sources: Mapping[str, str]) -> Styles:
    """Return the style of every label of a figure, by its optimizer.

    An optimizer has its colour in all figures of the project, whatever else they show, except where an earlier label
    has the same colour. It then gets one that is free. Among nine labels no colour and no marker is there twice; among
    36 no colour with the same dash.

    Args:
        sources: the optimizer's source for each label, in display order. Its last part counts: `torch.optim:SGD` has
            the colour of `sgd`.
    """
    rings = {label: _ring(source.rpartition(":")[2].lower()) for label, source in sources.items()}
    first: dict[str, str] = {}
    for label, ring in rings.items():
        first.setdefault(ring[0].light, label)
    styles: dict[str, SeriesStyle] = {}
    for label in sorted(rings, key=lambda label: label not in first.values()):
        own = [style for style in rings[label] if style.light == rings[label][0].light]
        allowed = own if label in first.values() else rings[label]
        styles[label] = min(allowed, key=lambda style: _likeness(style, styles.values()))
    return {label: styles[label] for label in sources}


def _ring(name: str) -> list[SeriesStyle]:
    """Return all styles in the order in which an optimizer of this name chooses."""
    begin = zlib.crc32(name.encode())
    return [style_of((begin + step) % COMBINATIONS) for step in range(COMBINATIONS)]


def _likeness(style: SeriesStyle, others: Iterable[SeriesStyle]) -> int:
    """Return how much a style is like others: above all the colour must differ, or else the dash; then the marker."""
    alike = [(style.light == other.light, style.dash == other.dash, style.marker == other.marker) for other in others]
    return sum(10_000 * colour + 100 * (colour and dash) + marker for colour, dash, marker in alike)


def swatch(style: SeriesStyle) -> Markup:
    """Draw a line in the series' dash with its marker, as SVG; the page's style chooses light or dark."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 26 20" width="26" height="20" aria-hidden="true" '
        'style="--light:{};--dark:{}"><path class="rule" d="M0 10h26" stroke-dasharray="{}"/><path d="{}"/></svg>'
    ).format(style.light, style.dark, _DASHES[style.dash], _SHAPES[style.marker])
