"""How a series looks: colour, dash and marker together, so that no reader depends on colour alone.

Nine colours after Okabe and Ito's set, with lightness moved apart until every pair stays distinct under simulated
protanopia, deuteranopia and tritanopia, in a light and a dark variant. Dashes repeat every four and markers every
twelve, so the first 36 series have 36 different combinations of colour and dash.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Look:
    """Colour on light and on dark ground, dash and marker of one series."""

    light: str
    dark: str
    dash: str
    marker: str


def look(index: int) -> Look:
    """The look of the series at this position of the study's display order."""
    colour = index % len(LIGHT)
    return Look(LIGHT[colour], DARK[colour], DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)])
