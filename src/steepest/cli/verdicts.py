"""What a study can show and what it showed, in the words of a terminal."""

from steepest.cli import text
from steepest.study.planning.estimate import DetectableEffect


def in_words(found: DetectableEffect | None) -> str:
    """Return what the seeds of a study can show."""
    if found is None:
        return "one optimizer, nothing to compare it with"
    comparisons = text.count(found.comparisons, "comparison")
    needed = f"any verdict needs {found.seeds_needed} seeds"
    if not found.enough:
        return f"{comparisons}; {needed}, {found.seeds} can give none (--seeds {found.seeds_needed})"
    if found.detectable is None:
        return f"{comparisons}; {needed}"
    found_with = f"{found.detectable:.2g} standard deviations of the paired differences"
    return f"{comparisons}; {needed}; {found.seeds} find a difference of {found_with} with 80 % power"
