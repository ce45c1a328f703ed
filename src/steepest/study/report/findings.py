"""Everything that a report says of a study, computed once; tables, charts and words only show it."""

from dataclasses import dataclass

from steepest.study.report.cost import Cost, costs
from steepest.study.report.judging import Verdicts, verdicts
from steepest.study.report.reaching import Target, targets
from steepest.study.report.study import Study
from steepest.study.report.summary import Summary, summarize
from steepest.study.report.tuning import Search, searches


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
