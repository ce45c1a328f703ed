"""Checks of the kind of equal cost that a study's verdicts compare at."""

from typing import get_args

from steepest.study.errors import UsageError
from steepest.study.records.format import SECONDS, STEPS, Match
from steepest.study.suggest import choices


def check(match: str, timing_rounds: int, all_train: bool, more_seeds: int | None) -> None:
    """Raise UsageError for an unknown kind of equal cost, and for a study that cannot compare at it."""
    if match not in get_args(Match):
        raise UsageError(choices("match", match, get_args(Match)))
    if match == STEPS:
        return
    if match == SECONDS and not timing_rounds:
        raise UsageError("--match seconds needs the timing pass; give --timing-rounds 3, or leave both out")
    if all_train:
        raise UsageError(
            f"--match {match} compares on the validation set, and --all-train leaves none; leave out one of the two"
        )
    if more_seeds is not None:
        raise UsageError(
            f"--match {match} has a budget that the whole study decides, and the looks of --more-seeds need results "
            "that later trials cannot change; give one of the two"
        )
