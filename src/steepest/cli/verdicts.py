"""The difference that a study can detect, in words for a terminal."""

from steepest.cli import text
from steepest.study.planning.estimate import DetectableEffect
from steepest.study.planning.plan import Plan
from steepest.study.report.findings.looks import first_decisive_look


def in_words(effect: DetectableEffect | None) -> str:
    """Return a sentence on the difference that the seeds of a study can detect."""
    if effect is None:
        return "one optimizer, nothing to compare it with"
    comparisons = text.count(effect.comparisons, "comparison")
    needed = f"any verdict needs {effect.seeds_needed} seeds"
    if not effect.enough:
        return f"{comparisons}; {needed}, {effect.seeds} can give none (--seeds {effect.seeds_needed})"
    if effect.detectable is None:
        return f"{comparisons}; {needed}"
    difference = f"{effect.detectable:.2g} standard deviations of the paired differences"
    return f"{comparisons}; {needed}; {effect.seeds} find a difference of {difference} with 80 % power"


def looks_in_words(plan: Plan) -> str:
    """Return a sentence on the looks of a sequential study."""
    looks, comparisons = plan.document.protocol.looks, len(plan.configs) - 1
    at = f"at {', '.join(map(str, looks))} seeds, as long as a comparison is undecided"
    if not comparisons:
        return at
    first = first_decisive_look(looks, comparisons, plan.document.protocol.alpha)
    if first is None:
        return f"{at}; none of them can decide"
    return f"{at}; the first that can decide is at {first}; a little less is found than with {looks[-1]} at once"
