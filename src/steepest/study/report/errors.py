"""The one error of this package."""


class ReportError(ValueError):
    """A report cannot be written; the message says what was given, what is needed and what to do."""
