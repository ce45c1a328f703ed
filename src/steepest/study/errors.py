"""Errors that a study reports to its user: failures of the surroundings, and requests that make no sense."""


class StudyError(Exception):
    """Something outside the program stopped the work; the message says what, and what to do (exit code 1)."""


class UsageError(StudyError, ValueError):
    """A request that cannot be carried out as given; the message names the allowed values (exit code 2)."""


class DataError(StudyError):
    """A data file is missing, damaged or not what its name says."""


class MetricError(StudyError):
    """The workload's metric is not finite in any trial, so there is nothing to compare."""


class StoreError(StudyError):
    """A study folder cannot be read or written."""
