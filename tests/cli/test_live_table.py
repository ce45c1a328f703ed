"""The table on a terminal: within its height, around what runs, and without colours where they are not wanted."""

import io
import re
from functools import partial
from types import SimpleNamespace

import pytest
from rich.console import Console

from steepest.cli.live import LiveTable, window
from steepest.study import workloads
from steepest.study.data import adapt
from steepest.study.planning.plan import make_plan
from steepest.study.planning.request import Request
from steepest.study.running.progress import Progress, Row
from steepest.study.running.store import StudyFolder
from steepest.study.trials.trial import Event, run_trial


def rows(finished: int, running: int, waiting: int) -> list[Row]:
    states = ["finished"] * finished + ["running"] * running + ["waiting"] * waiting
    return [Row(f"row {number}", "evaluation", number, 100, status) for number, status in enumerate(states)]


@pytest.mark.parametrize("height", [3, 5, 20])
@pytest.mark.parametrize("done", range(27))
def test_the_window_is_full_and_shows_what_runs(height: int, done: int) -> None:
    everything = rows(done, 1, 26 - done)
    shown = window(everything, height)
    assert len(shown) == height
    assert everything[done] in shown
    if done < 26:
        assert everything[done + 1] in shown or height < 4


def test_a_short_list_is_shown_whole() -> None:
    everything = rows(2, 1, 3)
    assert window(everything, 6) == everything


def test_the_end_is_shown_when_all_is_done() -> None:
    everything = rows(27, 0, 0)
    assert window(everything, 5) == everything[-5:]


def progress(tmp_path, seeds: int) -> Progress:
    workload = workloads.find("digits")
    request = Request(workload, "smoke", ("sgd", "adam[eps=0.5]"), seeds_wanted=seeds)
    plan = make_plan(request, adapt.load(workload().data), "command")
    watched = Progress(plan, StudyFolder(tmp_path))
    trials = [trial.spec for trial in plan.evaluation_trials(plan.given)]
    watched.stage_started(trials)
    watched.trial_started(trials[0])
    run_trial(trials[0], plan.task, partial(watched.trial_event, trials[0]))
    watched.trial_started(trials[1])
    events: list[Event] = []
    run_trial(trials[1], plan.task, events.append)
    for event in events[:3]:
        watched.trial_event(trials[1], event)
    return watched


def render(watched: Progress, height: int, terminal: bool = True) -> str:
    screen = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=100,
        height=height,
        color_system="standard" if terminal else None,
    )
    screen.print(LiveTable(watched))
    return screen.file.getvalue()  # type: ignore[attr-defined]


def test_a_row_for_every_trial(tmp_path) -> None:
    text = render(progress(tmp_path, 2), 40, terminal=False)
    lines = [line.rstrip() for line in text.splitlines()]
    assert re.split(r"  +", lines[0])[:5] == ["optimizer", "phase", "seed", "epoch", "loss"]
    assert lines[1].split()[:4] == ["SGD", "evaluation", "0", "1/1"]
    assert lines[1].endswith("finished")
    assert lines[2].startswith("Adam[eps=0.5]")
    assert lines[2].endswith("running")
    assert lines[3].endswith("waiting")
    assert lines[5].startswith("1 finished, 1 running, 2 waiting; time left about 0:0")


def test_a_narrow_terminal_has_names_and_figures_whole() -> None:
    long = "my_rules.an_optimizer_with_a_rather_long_name[momentum=0.9]"
    watched = SimpleNamespace(unit="epoch", metric="accuracy", epochs=30, seconds_left=lambda: None)
    watched.rows = {
        label: Row(label, "evaluation", 0, 9, status="timed out", loss=0.12345, validation=0.87)
        for label in ("SGD", long)
    }
    screen = Console(file=io.StringIO(), width=80, height=40)
    screen.print(LiveTable(watched))  # type: ignore[arg-type]
    heading, first, second, *_ = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert heading.split() == ["optimizer", "phase", "seed", "epoch", "loss", "accuracy"]
    assert first.split() == ["SGD", "evaluation", "0", "0/30", "0.1235", "87.00%", "timed", "out"]
    name, *figures = second.split()
    assert figures == first.split()[1:]
    beginning, end = name.split("…")
    assert long.startswith(beginning)
    assert long.endswith(end)
    assert len(second) <= 80


def test_many_trials_stay_within_the_height(tmp_path) -> None:
    watched = progress(tmp_path, 50)
    for height in (10, 24):
        assert len(render(watched, height).splitlines()) < height
    assert "of 100 rows hidden" in render(watched, 24)


def test_no_color_is_respected(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = progress(tmp_path, 1)
    assert "\x1b[32m" in render(watched, 24)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in render(watched, 24)
