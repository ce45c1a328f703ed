"""The difference that a study can detect, in words for a terminal."""

from steepest.cli import text
from steepest.study.planning.estimate import DetectableEffect


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
