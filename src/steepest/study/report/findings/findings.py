"""Everything that a report says of a study, computed once; tables, charts and words only show it."""

from dataclasses import dataclass

from steepest.study.report.findings.cost import Cost, costs
from steepest.study.report.findings.summary import Summary, summarize
from steepest.study.report.findings.time_to_target import Target, targets
from steepest.study.report.findings.tuning import Search, searches
from steepest.study.report.findings.verdicts import Verdicts, verdicts
from steepest.study.report.stored.study import Study


@dataclass(frozen=True)
class Findings:
    """A study and what follows from its records."""

    study: Study
    summaries: tuple[Summary, ...]
    verdicts: Verdicts
    targets: tuple[Target, ...]
    searches: tuple[Search, ...]
    costs: tuple[Cost, ...]


def findings(study: Study) -> Findings:
    """Compute everything."""
    return Findings(study, summarize(study), verdicts(study), targets(study), searches(study), costs(study))
