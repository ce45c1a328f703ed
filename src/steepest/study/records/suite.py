"""The record of a study of several workloads: `suite.json`, next to one study folder for each of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from steepest.study.errors import StoreError
from steepest.study.records.disk import flush, reading_from, writing_to
from steepest.study.records.format import FormatError, read
from steepest.study.records.records import encode_document

FILE: Final = "suite.json"
SCHEMA: Final = 1


@dataclass(frozen=True, kw_only=True)
class SuiteEntry:
    """A workload as the command line names it, and the folder of its study inside the suite's."""

    source: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class SuiteDocument:
    """The whole of `suite.json`: the workloads in order, and the command."""

    schema: int = SCHEMA
    name: str
    workloads: tuple[SuiteEntry, ...]
    command: str


def read_suite(folder: Path) -> SuiteDocument | None:
    """Return the document of a folder that holds a study of several workloads, None for any other folder.

    Raises:
        StoreError: it cannot be read, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    with reading_from(path):
        content = path.read_bytes()
    try:
        document = json.loads(content)
        if isinstance(document, dict) and document.get("schema") != SCHEMA:
            raise StoreError(f"{path} has schema {document.get('schema')!r}; this version of Steepest reads {SCHEMA}")
        return read(SuiteDocument, document)
    except (ValueError, FormatError) as error:
        raise StoreError(f"{path} is damaged ({error}); move it away, then run the study's command again") from error


def write_suite(folder: Path, document: SuiteDocument) -> None:
    """Replace the document. A reader sees the old one or the new one, never a part."""
    path, temporary = folder / FILE, folder / f".{FILE}.new"
    with writing_to(path):
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(encode_document(document))
            flush(file)
        temporary.replace(path)
