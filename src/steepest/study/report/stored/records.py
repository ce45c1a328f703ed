"""Lines of a record file -> records. A torn line is cut and reported."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from steepest.study.records.records import Record

_TELLING: Final = re.compile(rb'"kind": ?"(?:trial|epoch|end)"')


def read_all(path: Path, notices: list[str]) -> list[Record]:
    """Return the records of a file up to its first unreadable line; a cut is reported in ``notices``."""
    lines = _lines(path)
    if not lines:
        return []
    records = _all_at_once(lines)
    if records is None:
        records = _up_to_the_torn_line(lines)
        notices.append(_torn(path, len(records), len(lines)))
    return records


def read_ends(path: Path, notices: list[str]) -> list[Record]:
    """Return a file's first record and those at its end: from the last evaluation on, without the steps.

    A search has many trials of many steps, of which nothing but the last evaluation is shown. So the lines of steps are
    passed over unread; a tear among them goes unnoticed, as it changes nothing.
    """
    lines = _lines(path)
    if not lines:
        return []
    found = list(_from_the_end(lines[1:]))
    first = _parsed(lines[0])
    if first is None or None in found:
        notices.append(_torn(path, len(lines) - 1, len(lines)))
    whole = [record for record in reversed(found) if record is not None]
    return [first, *whole] if first is not None else []


def _lines(path: Path) -> list[bytes]:
    if not path.is_file():
        return []
    return [line for line in path.read_bytes().split(b"\n") if line.strip()]


def _from_the_end(lines: Sequence[bytes]) -> Iterator[Record | None]:
    """Return the records other than steps, last first, up to an evaluation; None for a torn last line."""
    for place, line in enumerate(reversed(lines)):
        if not _TELLING.search(line) and (place or line.endswith(b"}")):
            continue
        record = _parsed(line)
        yield record
        if record is not None and record.get("kind") in ("epoch", "trial"):
            return


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _all_at_once(lines: Sequence[bytes]) -> list[Record] | None:
    """Parse whole lines as one array: several times quicker than one by one. None if any line is not one object."""
    try:
        records = json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        return None
    whole = len(records) == len(lines) and all(isinstance(record, dict) for record in records)
    return records if whole else None


def _up_to_the_torn_line(lines: Sequence[bytes]) -> list[Record]:
    records: list[Record] = []
    for line in lines:
        record = _parsed(line)
        if record is None:
            break
        records.append(record)
    return records


def _torn(path: Path, kept: int, total: int) -> str:
    lost = total - kept
    name = f"{path.parent.name}/{path.name}"
    what = "the last line" if lost == 1 else f"line {kept + 1} and the {lost - 1} after it"
    return f"{name}: {what} could not be read and {'was' if lost == 1 else 'were'} left out ({kept} good lines kept)."
