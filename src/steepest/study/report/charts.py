"""A study's findings -> the figure-data of every chart. Pure data; nothing is drawn here."""

from steepest.study.report.chart import Figures
from steepest.study.report.curve_charts import learning_charts, step_chart
from steepest.study.report.findings import Findings
from steepest.study.report.palette import look
from steepest.study.report.row_charts import cost_chart, seed_chart, target_charts, verdict_chart
from steepest.study.report.tuning_charts import budget_chart, sensitivity_chart


def build_figures(found: Findings) -> Figures:
    """Every chart of the report."""
    looks = {label: look(index) for index, label in enumerate(found.study.labels)}
    return Figures(
        verdicts=verdict_chart(found, looks),
        seeds=seed_chart(found, looks),
        learning=learning_charts(found, looks),
        steps=step_chart(found.study, looks),
        targets=target_charts(found, looks),
        tuning=(sensitivity_chart(found, looks), budget_chart(found, looks)),
        cost=cost_chart(found, looks),
    )
