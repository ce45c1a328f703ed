"""`steepest race`: places at equal counts, plain lines and a live table, Ctrl-C, mistakes."""

import io
import math
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from own_work import TASK
from steepest.cli import console, race_table, racing
from steepest.cli.race_table import Race, RaceTable, Runner
from steepest.landscapes import trace
from steepest.landscapes.surfaces import surfaces
from steepest.study import workloads
from steepest.study.declaration import Experiment

FEW = ("--budget", "20", "--rates", "2")


def race(*runners: Runner, is_higher_better: bool = False) -> Race:
    return Race("loss", "steps", 10, is_higher_better, {each.label: each for each in runners})


def drawn(made: Race, **options: Any) -> str:
    screen = Console(file=io.StringIO(), width=100, **options)
    screen.print(RaceTable(made))
    return screen.file.getvalue()  # type: ignore[attr-defined]


def test_places_are_compared_where_all_have_been() -> None:
    fast = Runner("fast", points=[(0, 5.0), (4, 3.0), (9, 1.0)], at=9)
    slow = Runner("slow", points=[(0, 5.0), (4, 2.0)], at=4)
    made = race(fast, slow)
    assert made.position == 4
    assert made.line() == "steps 4/10: 1 slow 2, 2 fast 3"
    slow.ended = "diverged"
    assert made.position == 9
    assert made.line() == "steps 9/10: 1 fast 1, 2 slow 2"


def test_equal_values_share_a_place_and_lost_ones_are_last() -> None:
    ends = {"a": 2.0, "b": 1.0, "c": 1.0, "d": float("nan")}
    made = race(*(Runner(label, points=[(0, value)], at=1) for label, value in ends.items()))
    assert made.line() == "steps 1/10: 1 b 1, 1 c 1, 3 a 2, 4 d lost"
    made.is_higher_better = True
    assert made.line() == "steps 1/10: 1 a 2, 2 b 1, 2 c 1, 4 d lost"


def test_arrows_say_who_moved_since_the_mark_before() -> None:
    a, b = Runner("a", points=[(0, 2.0)]), Runner("b", points=[(0, 1.0)])
    made = race(a, b)
    assert not made.reaches_mark()
    for at, value in ((1, 2.0), (2, 0.5)):
        a.points.append((at, value))
        a.at = b.at = at
        assert made.reaches_mark()
        assert not made.reaches_mark()
    lines = drawn(made).splitlines()
    assert re.match(r"1 ▲ +a +0\.5", lines[1])
    assert re.match(r"2 ▼ +b +1", lines[2])


def test_sparklines_show_equal_counts_of_all_runners() -> None:
    every = Runner("every", points=[(count, 100.0 - count) for count in range(101)])
    seldom = Runner("seldom", points=[(0, 100.0), (25, 60.0), (50, 0.0)])
    late = Runner("late", points=[(60, 50.0), (90, math.inf)])
    made = Race("loss", "gradients", 100, False, {each.label: each for each in (every, seldom, late)})
    for at, length in ((0, 1), (1, 2), (50, 13), (99, 24), (100, 24)):
        for runner in made.runners.values():
            runner.at = at
        counts = made.counts()
        assert (len(counts), counts[-1]) == (length, at)
        assert set(map(len, sparklines(made))) == {length}
    assert sparklines(made) == ["██▇▇▇▇▆▆▆▅▅▅▄▄▄▃▃▃▃▂▂▂▁▁", "██████▅▅▅▅▅▅▁▁▁▁▁▁▁▁▁▁▁▁", " " * 14 + "▅▅▅▅▅▅▅×××"]


def sparklines(made: Race) -> list[str]:
    curves = [[each.value(count) for count in made.counts()] for each in made.runners.values()]
    return [race_table.sparkline(curve, 0.0, 100.0, is_log=False) for curve in curves]


def test_a_race_of_line_searches_draws_as_many_blocks_as_one_of_steps(
    steepest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = watched(monkeypatch)
    assert steepest("race", "rosenbrock", "-o", "adam", "-o", "lbfgs", *FEW, "--speed", "10000").code == 0
    last = file.getvalue()[file.getvalue().rindex("optimizer") :]
    assert [len(blocks) for blocks in re.findall("[▁▂▃▄▅▆▇█]+", last)] == [21, 21]


def test_plain_lines_are_the_values_of_the_traced_paths(steepest: Any) -> None:
    answer = steepest("race", "ravine", "-o", "sgd", "-o", "lbfgs", "-o", "muon", *FEW)
    assert answer.code == 0, answer.err
    head, *lines = answer.out.splitlines()
    assert head.endswith("20 gradients; for each the best of its default rate and 2 others, tried for as many")
    assert "note: Muon is skipped: Muon only supports 2D parameters" in answer.err
    traced = trace("ravine", ["sgd", "lbfgs"], budget=20, rates=2)
    standings = [line for line in lines if line.startswith("gradients ")]
    assert [line.partition("/")[0] for line in standings] == [f"gradients {2 * part}" for part in range(1, 11)]
    for line in standings:
        count = int(re.findall(r"\d+", line)[0])
        for path in traced.paths:
            value = path.values[path.evaluations <= count][-1]
            assert f"{path.label} {max(value, 1e-12):.3g}" in line
    assert any(line.startswith("1 ") and "rate" in line for line in lines[-2:])


def watched(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal to write on."""
    file = io.StringIO()
    made = Console(file=file, force_terminal=True, width=120, height=20, highlight=False, color_system=None)
    monkeypatch.setattr(console, "out", lambda: made)
    return file


def test_the_live_table_ends_as_the_race_does(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = watched(monkeypatch)
    answer = steepest("race", "bowl", "-o", "sgd[lr=0.1]", "-o", "sgd[lr=100]", "--budget", "12", "--speed", "1000")
    assert answer.code == 0, answer.err
    shown = file.getvalue()
    assert "gradients 1/12" not in shown.replace("to gradients", "")
    last = shown[shown.rindex("optimizer") :]
    assert "to gradients 12/12" in last
    assert re.search(r"1 +SGD\[lr=0\.1\]", last)
    assert re.search(r"2 +SGD\[lr=100\] +lost", last)
    assert "not finite" in last or "beyond" in last


def test_ctrl_c_leaves_the_table_as_it_stands(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file, slept = watched(monkeypatch), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(racing.time, "sleep", sleep)
    answer = steepest("race", "bowl", "-o", "sgd", *FEW, "--speed", "50")
    assert answer.code == 130
    assert answer.err.startswith("Interrupted at gradients 7/20: 1 SGD ")
    assert "to gradients 7/20" in file.getvalue()[file.getvalue().rindex("optimizer") :]
    assert slept == [0.02] * 7


def test_a_race_of_short_trainings(steepest: Any) -> None:
    Path("my_task.py").write_text(TASK, encoding="utf-8")
    answer = steepest("race", "my_task.py", "-o", "sgd[lr=0.5]", "-o", "adam[lr=0.02]", "--epochs", "3")
    assert answer.code == 0, answer.err
    head, *lines = answer.out.splitlines()
    assert re.fullmatch(r"My own task: \d+ steps, one seed, rates as declared or given", head)
    assert "note: a race is not a study" in answer.err
    assert re.match(r"1 +.+ +(0\.\d+|1) +[▁▂▃▄▅▆▇█]+ +rate 0\.\d+, finished", lines[-2])
    assert {"SGD[lr=0.5]", "Adam[lr=0.02]"} == set(re.findall(r"SGD\[lr=0.5\]|Adam\[lr=0.02\]", "\n".join(lines[-2:])))
    assert not Path("studies").exists()


def test_ctrl_c_ends_short_trainings(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my_task.py").write_text(TASK, encoding="utf-8")
    event = racing._Watcher.trial_event

    def interrupted(self: Any, trial: Any, told: Any) -> None:
        event(self, trial, told)
        if told.record.get("step") == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(racing._Watcher, "trial_event", interrupted)
    answer = steepest("race", "my_task.py", "-o", "sgd", "-o", "adam")
    assert answer.code == 130
    assert "Interrupted at steps " in answer.err
    assert answer.out.splitlines()[-3].split()[0] == "optimizer"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ravin",), "unknown surface or workload 'ravin'; did you mean 'ravine'?"),
        (("digit",), "did you mean 'digits'?"),
        (("missing.py",), "missing.py"),
        (("mine.py:other",), "mine.py has no function 'other'"),
        (("ravine[conditio=3]",), "did you mean 'condition'?"),
        (("ravine", "-o", "adm"), "did you mean 'adam'?"),
        (("digits", "-o", "adm"), "did you mean 'adam'?"),
        (("ravine", "--speed", "0"), "--speed must be a number of gradients per second above 0, not 0"),
        (("ravine", "--epochs", "3"), "--epochs has no effect on ravine, which is a surface; leave it out"),
        (("digits", "--budget", "3", "--lr", "1"), "--budget, --lr has no effect on digits, which is a workload"),
        (("digits", "--preset", "smok"), "did you mean 'smoke'?"),
        (("ravine", "--budget", "0"), "budget must be a whole number of at least 1"),
    ],
)
def test_mistakes(steepest: Any, arguments: tuple[str, ...], words: str) -> None:
    Path("mine.py").write_text("def bowl(p):\n    return (p * p).sum()\n", encoding="utf-8")
    answer = steepest("race", *arguments)
    assert answer.code == 2
    assert words in answer.err


def test_a_function_and_a_workload_of_a_file_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "both.py"
    file.write_text(TASK + "\n\ndef bowl(p):\n    return (p * p).sum()\n", encoding="utf-8")
    assert racing.place(f"{file}:bowl").name == "both:bowl"
    found = racing.place(f"{file}:my_task")
    assert not isinstance(found, Experiment)
    assert found == racing.place(str(file))
    assert not {*surfaces()} & {*workloads.workloads()}
