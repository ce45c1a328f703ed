"""docs/workloads.md says what the declarations say, and its examples run."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from steepest.study import Workload, workloads
from steepest.study.declaration import PRESETS, Declared

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "workloads.md").read_text(encoding="utf-8")


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join([row(head), row("---" for _ in head), *map(row, rows)])


def spelled(numbers: Iterable[float]) -> str:
    """Return the numbers with a slash between them; one number if all are equal."""
    return " / ".join(dict.fromkeys(f"{number:,g}" if number < 1e6 else str(number) for number in numbers))


def what(declared: Declared) -> tuple[str, ...]:
    presets = [declared(preset) for preset in PRESETS]
    one = presets[-1]
    arrow = {"maximize": "↑", "minimize": "↓"}[one.metric.direction]
    batch = spelled(each.batch_size for each in presets)
    return (
        f"`{declared.name}`",
        one.title,
        one.network,
        f"{one.metric.name} {arrow}",
        f"{one.margin:g}",
        batch,
        ", ".join(one.needs),
    )


def size(declared: Declared, preset: str) -> tuple[str, ...]:
    made: Workload = declared(preset)
    assert made.sizes is not None
    sizes = " + ".join(f"{count:,}" for count in (made.sizes.train, made.sizes.validation, made.sizes.test))
    return (
        f"`{declared.name}`",
        sizes,
        f"{made.horizon} x {made.evaluations}",
        spelled(made.targets),
        f"{made.trials}, {made.seeds}",
    )


WHAT = ("workload", "task", "network", "metric", "margin", "batch", "needs")
SIZE = ("workload", "training + validation + test", "epochs x evaluations", "targets", "trials, seeds")


def tables() -> list[str]:
    found = list(workloads.workloads().values())
    sizes = [table(SIZE, (size(declared, preset) for declared in found)) for preset in ("quick", "full")]
    return [table(WHAT, map(what, found)), *sizes]


@pytest.mark.parametrize("place", range(3))
def test_the_tables_are_what_the_declarations_say(place: int) -> None:
    expected = tables()[place]
    assert expected in PAGE, f"docs/workloads.md differs from the declarations; this is what they say:\n{expected}"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_of_a_file_runs_as_it_stands(steepest: Callable[..., Any], no_report: None) -> None:
    for block in blocks()[:2]:
        name = re.match(r"# (\w+\.py)\n", block)
        assert name is not None
        Path(name[1]).write_text(block, encoding="utf-8")
    command = re.search(r"^ +(steepest study my_task\.py .*)$", PAGE, re.MULTILINE)
    assert command is not None
    given = command[1].partition("#")[0].split()[1:]
    smaller = ["--preset", "smoke", "--trials", "2", "--seeds", "2", "--timing-rounds", "0", "--out", "study"]
    answer = steepest(*given, *smaller)
    assert (answer.code, answer.err) == (0, "")
    document = json.loads(Path("study/study.json").read_text())
    assert document["title"] == "Two spirals"
    assert [entry["label"] for entry in document["optimizers"]] == ["AdamW", "SGD", "my_rules.SignDescent"]
    assert document["protocol"]["targets"] == [0.7, 0.8, 0.95]


def test_the_example_of_loaders_runs_as_it_stands(steepest: Callable[..., Any], no_report: None) -> None:
    Path("my_stream.py").write_text(blocks()[2], encoding="utf-8")
    smaller = ["--steps", "20", "--trials", "0", "--seeds", "1", "--timing-rounds", "0", "--out", "study"]
    answer = steepest("study", "my_stream.py", "-o", "adamw", *smaller)
    assert (answer.code, answer.err) == (0, "")
    assert json.loads(Path("study/study.json").read_text())["config"]["unit"] == "steps"


def test_the_examples_from_python_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("steepest.study.report.write_report", lambda folder: folder / "report" / "index.html")
    names: dict[str, Any] = {}
    for block in blocks()[3:]:
        exec(compile(block, "docs/workloads.md", "exec"), names)
        assert set(names["answer"].statuses) == {"finished"}
    assert list(names["answer"].workloads) == ["Waves smoke", "linear-regression smoke"]
