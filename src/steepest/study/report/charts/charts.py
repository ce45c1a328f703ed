"""A study's findings -> the figure-data of every chart. Pure data; nothing is drawn here."""

from steepest.study.report.charts.chart import Figures
from steepest.study.report.charts.curve_charts import learning_charts, step_chart
from steepest.study.report.charts.palette import style_of
from steepest.study.report.charts.row_charts import cost_chart, seed_chart, target_charts, verdict_chart
from steepest.study.report.charts.tuning_charts import budget_chart, sensitivity_chart
from steepest.study.report.findings.findings import Findings


def build_figures(found: Findings) -> Figures:
    """Every chart of the report."""
    styles = {label: style_of(index) for index, label in enumerate(found.study.labels)}
    return Figures(
        verdicts=verdict_chart(found, styles),
        seeds=seed_chart(found, styles),
        learning=learning_charts(found, styles),
        steps=step_chart(found.study, styles),
        targets=target_charts(found, styles),
        tuning=(sensitivity_chart(found, styles), budget_chart(found, styles)),
        cost=cost_chart(found, styles),
    )
