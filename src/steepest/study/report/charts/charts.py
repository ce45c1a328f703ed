"""Every chart of a study's report, in one tuple.

To add a chart, write a function that makes a `Chart` of the findings and name it in `CHARTS`. The chart's `section`
says where the page shows it; page, printed figures and list of files follow from it.
The sections of verdicts, targets and tuning stand only where their table has rows.
"""

from collections.abc import Callable
from typing import Final

from steepest.study.report.charts.behaviour_charts import behaviour_charts, log_charts
from steepest.study.report.charts.chart import Chart
from steepest.study.report.charts.cost_chart import cost_chart
from steepest.study.report.charts.curve_charts import learning_charts, step_chart
from steepest.study.report.charts.palette import Styles, styles_of
from steepest.study.report.charts.row_charts import seed_chart, target_charts, verdict_chart
from steepest.study.report.charts.tuning_charts import budget_chart, sensitivity_chart
from steepest.study.report.findings.findings import Findings

Builder = Callable[[Findings, Styles], Chart | tuple[Chart, ...]]
CHARTS: Final[tuple[Builder, ...]] = (
    verdict_chart,
    seed_chart,
    learning_charts,
    step_chart,
    behaviour_charts,
    log_charts,
    target_charts,
    sensitivity_chart,
    budget_chart,
    cost_chart,
)
"""All charts, in the page's order."""


def build_charts(findings: Findings) -> tuple[Chart, ...]:
    """Return every chart of the report."""
    styles = styles_of(findings.study.sources)
    return tuple(chart for build in CHARTS for chart in _several(build(findings, styles)))


def _several(built: Chart | tuple[Chart, ...]) -> tuple[Chart, ...]:
    return (built,) if isinstance(built, Chart) else built
