"""Charts as the tests look at them: found by key, and drawn without writing a file."""

from collections.abc import Iterable

from matplotlib.figure import Figure as Drawing

from steepest.study.report.charts.chart import Chart, Figure
from steepest.study.report.charts.matplotlib_renderer import draw, own_style


def chart_named(charts: Iterable[Chart], key: str) -> Chart:
    return next(chart for chart in charts if chart.key == key)


def matplotlib_figure(figure: Figure) -> Drawing:
    with own_style():
        return draw(figure)
