"""`steepest report`, `steepest export`, `steepest rerun`, `steepest data fetch` and `steepest doctor`."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.text import Text

from steepest.cli import console, reporting, run_suite, text
from steepest.study import doctor as doctors
from steepest.study.data import fashion_mnist
from steepest.study.errors import UsageError
from steepest.study.records.suite import read_suite
from steepest.study.running import rerun as repeats
from steepest.study.running.memory import keep_freed_memory
from steepest.study.running.store import StudyFolder
from steepest.study.suggest import choices

COMPARISON: Final = Path("studies", "comparison")
DATA_SETS: Final = {fashion_mnist.NAME: fashion_mnist}


def report(paths: list[Path], out: Path | None) -> None:
    """Write a study's report anew, or the comparison of several, and print where it is."""
    suite = read_suite(paths[0]) if len(paths) == 1 else None
    if suite is not None:
        console.out().print(f"report: {run_suite.write_report(paths[0], suite, out)}", markup=False)
        return
    paths = [study for path in paths for study in _members(path)]
    for path in paths:
        _check_is_study(path)
    if len(paths) == 1 and out is not None:
        raise UsageError("--out is for the comparison of several studies; one study's report goes into its folder")
    page = reporting.write(paths[0]) if len(paths) == 1 else reporting.write_comparison(paths, out or COMPARISON)
    console.out().print(f"report: {page}", markup=False)


def watch(paths: list[Path], every: float) -> None:
    """Write a study's page anew whenever its records have changed, until Ctrl-C; then the whole report."""
    if len(paths) != 1 or read_suite(paths[0]) is not None:
        raise UsageError("--watch is for the folder of one study")
    (path,) = paths
    _check_is_study(path)

    def write() -> None:
        console.out().print(f"{time.strftime('%H:%M:%S')}  {reporting.write_page(path, every)}", markup=False)

    _on_changes(path, every, write)
    console.out().print(f"report: {reporting.write(path)}", markup=False)


def _on_changes(path: Path, every: float, act: Callable[[], None]) -> None:
    """Call `act` now and whenever a study's records have changed, until Ctrl-C."""
    if not every > 0:
        raise UsageError(f"--every takes a number of seconds above 0, not {every:g}")
    seen: dict[Path, tuple[int, int]] = {}
    with suppress(KeyboardInterrupt):
        while True:
            now = {file: (each.st_size, each.st_mtime_ns) for file, each in _records(path)}
            if now != seen:
                act()
                seen = now
            time.sleep(every)


def _records(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files that a report or an export is made from, with their sizes and times."""
    for file in sorted([path / "study.json", *path.glob("t*/**/*")]):
        with suppress(FileNotFoundError):  # a record that has just been replaced
            yield file, file.stat()


@dataclass(frozen=True)
class Export:
    """An export that was asked for: formats of files by name, and loggers by name or by their place.

    With `search` loggers get the trials of the search too.
    """

    path: Path
    formats: Sequence[str]
    loggers: Sequence[str]
    out: Path
    search: bool


def export(asked: Export) -> None:
    """Write a study's tables and curves for other programs, and print where they are."""
    _check_is_study(asked.path)
    if asked.search and not asked.loggers:
        raise UsageError("--search is for --tensorboard, --mlflow, --wandb and --logger; name one, or leave it out")
    if asked.formats or not asked.loggers:
        files = reporting.export(asked.path, asked.formats or ["csv"], asked.out)
        console.out().print(f"export: {asked.out} ({len(files)} files)", markup=False)
    for source in asked.loggers:
        place, logged = reporting.log(asked.path, source, asked.out, search=asked.search)
        console.out().print(f"export: {place} ({text.count(len(logged), 'trial')} new or changed)", markup=False)


def watch_export(asked: Export, every: float) -> None:
    """Export a study whenever its records have changed, until Ctrl-C; then once more."""
    _check_is_study(asked.path)
    _on_changes(asked.path, every, lambda: export(asked))
    export(asked)


def _members(path: Path) -> list[Path]:
    """Return the studies in the folder of a study of several workloads; any other folder as it is."""
    suite = read_suite(path)
    return [path] if suite is None else [path / entry.folder for entry in suite.workloads]


def fetch(name: str, data_dir: Path | None) -> None:
    """Get a data set and print where it is."""
    if name not in DATA_SETS:
        raise UsageError(choices("data set", name, DATA_SETS))
    with console.messages():
        folder = DATA_SETS[name].obtain(data_dir)
        data = DATA_SETS[name].read(folder)
    sizes = f"{len(data.train):,} training and {len(data.test):,} test examples, SHA-256 right"
    console.out().print(f"{name}: {folder} ({sizes})", markup=False)


def rerun(path: Path, trial: str, data_dir: Path | None) -> int:
    """Run a trial again and print how it compares with its record. Return the exit code."""
    keep_freed_memory()
    folder, screen = StudyFolder(path), console.out()
    name = repeats.find(folder, trial)
    comparison = repeats.rerun(folder, name, data_dir)
    if comparison.bit_equal:
        screen.print(f"bit-equal: {comparison.lines:,} records of {name}", markup=False)
        return 0
    lines = (
        f"{name} is different from record {comparison.different} on",
        f"  there  {comparison.there}",
        f"  here   {comparison.here}",
    )
    screen.print("\n".join(lines), markup=False)
    return 1


def doctor() -> int:
    """Print every check of the installation. Return 0, because a warning is not a failure."""
    screen = console.out()
    for check in doctors.examine(Path.cwd()):
        mark = Text("OK  ", style="green") if check.good else Text("warn", style="yellow")
        screen.print(mark, f"{check.name}: {check.found}" + ("" if check.good else f" ({check.advice})"), markup=False)
    return 0


def _check_is_study(path: Path) -> None:
    """Raise UsageError for a folder without a study."""
    if StudyFolder(path).read_document() is None:
        raise UsageError(f"{path} is not a study folder: it has no study.json. {_studies(path)}")


def _studies(near: Path) -> str:
    folders = [near, near.parent, Path("studies")]
    studies = sorted({str(document.parent) for folder in folders for document in folder.glob("*/study.json")})
    return f"Studies nearby: {', '.join(studies[:8])}" if studies else "`steepest study WORKLOAD` makes one."
