"""The table at the end of a study."""

from rich.table import Table
from rich.text import Text

from steepest.cli import text
from steepest.study.summary import Figure, Line


def table(lines: list[Line], metric: str) -> Table:
    """Return one row per optimizer: mean and standard deviation over seeds."""
    name = text.words(metric)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("optimizer", overflow="fold")
    for heading in (f"test {name}", "validation", "train loss", "examples/s"):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("trials")
    for line in lines:
        grid.add_row(
            Text(line.label),  # as it is: rich would read its brackets as markup
            _score(line.test, metric),
            _score(line.validation, metric),
            text.number(_mean(line.train_loss)),
            text.speed(_mean(line.speed)),
            ", ".join(f"{count} {status}" for status, count in line.statuses.items()),
        )
    return grid


def _mean(figure: Figure | None) -> float | None:
    return figure.mean if figure else None


def _score(figure: Figure | None, metric: str) -> str:
    if figure is None or figure.spread is None:
        return text.score(_mean(figure), metric)
    if metric == "accuracy":
        return f"{100 * figure.mean:.2f} ± {100 * figure.spread:.2f}%"
    return f"{figure.mean:.4f} ± {figure.spread:.4f}"
