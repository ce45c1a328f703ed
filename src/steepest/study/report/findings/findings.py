"""Everything that a report says of a study, computed once; tables, charts and words only show it."""

from dataclasses import dataclass

from steepest.study.report.findings.behaviour import Behaviour, behaviour
from steepest.study.report.findings.cost import Cost, costs
from steepest.study.report.findings.matching import Matched, main, matches
from steepest.study.report.findings.summary import Summary, summarize
from steepest.study.report.findings.time_to_target import Target, targets
from steepest.study.report.findings.tuning import Search, searches
from steepest.study.report.findings.verdicts import Verdicts
from steepest.study.report.stored.study import Study


@dataclass(frozen=True)
class Findings:
    """A study and what follows from its records.

    `verdicts` are those at the kind of equal cost that the plan names, `matches` those at every kind.
    """

    study: Study
    summaries: tuple[Summary, ...]
    verdicts: Verdicts
    targets: tuple[Target, ...]
    searches: tuple[Search, ...]
    costs: tuple[Cost, ...]
    matches: tuple[Matched, ...]
    behaviour: Behaviour


def findings(study: Study) -> Findings:
    """Compute everything."""
    found, summaries = matches(study), summarize(study)
    return Findings(
        study,
        summaries,
        main(study, found),
        targets(study),
        searches(study),
        costs(study),
        found,
        behaviour(study, summaries),
    )
