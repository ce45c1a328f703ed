"""Small SVG drawings of a series' look for the page's legend."""

from markupsafe import Markup

from steepest.study.report.palette import Look

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


def swatch(look: Look) -> Markup:
    """A line in the series' dash with its marker on it; the page's style chooses the light or the dark colour."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 26 20" width="26" height="20" aria-hidden="true" '
        'style="--light:{};--dark:{}"><path class="rule" d="M0 10h26" stroke-dasharray="{}"/><path d="{}"/></svg>'
    ).format(look.light, look.dark, _DASHES[look.dash], _SHAPES[look.marker])
