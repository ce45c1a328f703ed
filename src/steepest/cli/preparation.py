"""Preparation of studies, with its messages and remarks on stderr."""

from steepest.cli import console
from steepest.study.running import preparation, suite_preparation
from steepest.study.running.preparation import Arguments, Prepared
from steepest.study.running.suite_preparation import Part, SuiteArguments


def prepare(arguments: Arguments, command: str) -> Prepared:
    """Return a study that is ready to run, and print remarks on options without effect."""
    with console.messages():
        prepared = preparation.prepare(arguments, command)
    for remark in prepared.remarks:
        console.note(remark)
    return prepared


def prepare_suite(arguments: SuiteArguments, command: str) -> tuple[Part, ...]:
    """Return the studies of a suite that are ready to run, and print remarks on options without effect."""
    with console.messages():
        parts = suite_preparation.prepare(arguments, command)
    for remark in suite_preparation.remarks_of(parts):
        console.note(remark)
    return parts
