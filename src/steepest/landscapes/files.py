"""The files that landscapes are written into."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from steepest.study.errors import UsageError
from steepest.study.suggest import choices


def kind_of(file: Path, kinds: Sequence[str], what: str = "kind of file") -> str:
    """Return a file's kind, its suffix without the point. Raise UsageError for one that is not among `kinds`."""
    kind = file.suffix.lower().removeprefix(".")
    if kind not in kinds:
        raise UsageError(f"{file}: {choices(what, kind, kinds)}")
    return kind


@contextmanager
def writing(file: Path, what: str) -> Iterator[None]:
    """Raise UsageError for an error of the system inside the block; `what` is written."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"the {what} {file} cannot be written: {error}") from error
