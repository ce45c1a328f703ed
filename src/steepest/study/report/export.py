"""A study's numbers for other programs: tables and curves as CSV, Parquet, Markdown or LaTeX."""

import csv
import importlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from steepest.study.records.format import FIGURES
from steepest.study.report.errors import ReportError
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.stored.study import Epoch, Study
from steepest.study.report.tables.tables import Table, to_csv, to_latex, to_markdown
from steepest.study.report.write import all_tables, replace_file

Row = tuple[Any, ...]

CURVES: Final = ("trial", "optimizer", "seed", "step", "epoch", "seconds", "figure", "value")
LOSSES: Final = ("trial", "optimizer", "seed", "step", "loss")
BEHAVIOUR: Final = ("trial", "optimizer", "seed", "step", "parameter", *FIGURES)
LOGS: Final = ("trial", "optimizer", "seed", "step", "epoch", "figure", "value")


def export(folder: Path, formats: Sequence[str], out: Path) -> list[Path]:
    """Write a study's tables and curves into `out` in each of the formats, names of `FORMATS`. Return the files.

    Markdown and LaTeX are for the report's tables. CSV and Parquet have in addition `curves`, a row for every figure of
    every evaluation, `losses`, a row for every step whose loss is stored, `behaviour`, a row for every parameter at
    every sampled step (and one without a name for all together), and `logs`, a row for every figure that `run.log` was
    given. All are of the trials that the report is about: those of the evaluation.

    Raises:
        ReportError: the folder has no study, a file cannot be written, or a package is missing.
    """
    found = findings(read_study(folder))
    return [path for name in formats for path in FORMATS[name](found, out)]


def _rows_of_curves(study: Study) -> Iterator[Row]:
    for trial in study.trials:
        for epoch in trial.epochs:
            place = (epoch.step, epoch.epoch, epoch.seconds)
            for figure, value in _figures(epoch):
                yield trial.id, trial.optimizer, trial.seed, *place, figure, value


def _figures(epoch: Epoch) -> list[tuple[str, float]]:
    """Return the figures of an evaluation, but for its place, which has columns of its own."""
    return [(figure, value) for figure, value in epoch.values.items() if figure != "epoch"]


def _rows_of_losses(study: Study) -> Iterator[Row]:
    for trial in study.trials:
        for step, loss in zip(trial.steps.tolist(), trial.losses.tolist(), strict=True):
            yield trial.id, trial.optimizer, trial.seed, int(step), loss


def _rows_of_behaviour(study: Study) -> Iterator[Row]:
    for trial in study.trials:
        for sample in trial.samples:
            for parameter, layer in sample.every("").items():
                yield trial.id, trial.optimizer, trial.seed, sample.step, parameter, *layer


def _rows_of_logs(study: Study) -> Iterator[Row]:
    for trial in study.trials:
        for entry in trial.logs:
            for figure, value in entry.values.items():
                yield trial.id, trial.optimizer, trial.seed, entry.step, entry.epoch, figure, value


LONG: Final[Mapping[str, tuple[Row, Callable[[Study], Iterator[Row]]]]] = {
    "curves": (CURVES, _rows_of_curves),
    "losses": (LOSSES, _rows_of_losses),
    "behaviour": (BEHAVIOUR, _rows_of_behaviour),
    "logs": (LOGS, _rows_of_logs),
}


def _texts(found: Findings, out: Path, ending: str, spelled: Callable[[Table], str]) -> list[Path]:
    tables = all_tables(found)
    return [_written(out / f"{key}.{ending}", spelled(table)) for key, table in tables.items()]


def _csv(found: Findings, out: Path) -> list[Path]:
    made = _texts(found, out, "csv", to_csv)
    for name, (columns, rows) in LONG.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows(found.study))
        made.append(_written(out / f"{name}.csv", text.getvalue()))
    return made


def _markdown(found: Findings, out: Path) -> list[Path]:
    return _texts(found, out, "md", to_markdown)


def _latex(found: Findings, out: Path) -> list[Path]:
    return _texts(found, out, "tex", to_latex)


def _parquet(found: Findings, out: Path) -> list[Path]:
    pandas = _package("pandas", "--parquet")
    _package("pyarrow", "--parquet")
    made = []
    tables = {key: pandas.read_csv(io.StringIO(to_csv(table))) for key, table in all_tables(found).items()}
    for name, (columns, rows) in LONG.items():
        tables[name] = pandas.DataFrame(list(rows(found.study)), columns=list(columns))
    for name, frame in tables.items():
        content = io.BytesIO()
        frame.to_parquet(content, engine="pyarrow", index=False)
        made.append(_written(out / f"{name}.parquet", content.getvalue()))
    return made


def _package(name: str, option: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ReportError(f"{option} needs {name}, which is not installed: pip install {name}.") from error


def _written(path: Path, content: str | bytes) -> Path:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    replace_file(path, data, again="steepest export")
    return path


FORMATS: Final[Mapping[str, Callable[[Findings, Path], list[Path]]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "markdown": _markdown,
    "latex": _latex,
}
"""The formats by name: functions that write the files and return their paths."""
