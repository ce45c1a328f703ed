"""Figures inside a notebook: the ones for papers, each as an image that needs no file and no network."""

import base64

from markupsafe import Markup

from steepest.study.report.charts.chart import Figure
from steepest.study.report.charts.matplotlib_renderer import figure_images


def inline(figure: Figure) -> Markup:
    """Return the figure as an image element that holds its SVG, with the charts' notes below.

    An image is a document of its own, so that its ids and styles touch nothing on the page that it stands in.
    """
    image = base64.b64encode(figure_images(figure, kinds=("svg",))["svg"]).decode()
    notes = dict.fromkeys(chart.note.strip() for chart in figure.charts if chart.note)
    return Markup(
        '<figure style="margin: 1em 0"><img style="max-width: 100%" alt="{}" src="data:image/svg+xml;base64,{}">'
        '<figcaption style="font-size: 0.9em">{}</figcaption></figure>'
    ).format(" ".join(chart.alt for chart in figure.charts), image, " ".join(notes))
