"""`steepest study --plan-only` and `steepest rerun`: what is printed, and what is left alone."""

import re
from pathlib import Path
from typing import Any

import pytest

from own_work import TASK, own_files
from steepest.study.planning import estimate
from steepest.study.planning.estimate import Cost

__all__ = ["own_files"]

TUNED = ("study", "mini-batch", "--preset", "smoke", "--trials", "2", "--timing-rounds", "0")


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "cost", lambda plan: Cost(seconds=754.0, disk_bytes=12_300_000))


@pytest.mark.usefixtures("calibrated")
def test_a_plan_is_printed_and_nothing_is_written(steepest: Any, tmp_path: Path) -> None:
    answer = steepest(*TUNED, "-o", "sgd", "-o", "adam", "-o", "sparseadam", "--seeds", "6", "--plan-only")
    assert answer.code == 0
    assert "6 of the search, 12 evaluations" in answer.out
    assert "1 comparison; any verdict needs 6 seeds; 6 find a difference of" in answer.out
    assert re.search(r"skipped: SparseAdam: .*does not support dense", answer.out)
    assert "SGD: lr 0.0001 to 10 (log)" in answer.out
    assert "about 12:34 with one job, 12.3 MB of records" in answer.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("calibrated")
def test_a_plan_shows_the_schedules_and_what_is_searched_of_them(steepest: Any) -> None:
    optimizers = ("-o", "sgd", "-o", "adam[schedule=wsd,cooldown=3]", "-o", "rprop")
    answer = steepest(*TUNED, *optimizers, "--schedule", "linear[final=0.1]", "--search", "lr,warmup", "--plan-only")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert any(line.startswith("  SGD: lr=") and "linear[warmup=0.05,final=0.1]" in line for line in lines)
    assert any("wsd[warmup=0.05,cooldown=3,final=0]" in line for line in lines)
    assert any(line.startswith("  Rprop: lr=") and line.endswith("schedule=constant") for line in lines)
    assert "SGD: lr 0.0001 to 10 (log), warmup 0.01 to 0.2 (log)" in answer.out


@pytest.mark.usefixtures("calibrated")
def test_too_few_seeds_are_told_with_the_number_that_it_takes(steepest: Any) -> None:
    answer = steepest(*TUNED, "-o", "sgd", "-o", "adam", "-o", "adamw", "--seeds", "3", "--plan-only")
    assert "2 comparisons; any verdict needs 7 seeds, 3 can give none (--seeds 7)" in answer.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--trials", "3"), "--trials 3 is no power of two.*--trials 4, or --sampler random"),
        (("--trials", "-1"), "--trials must be at least 0, not -1"),
        (("--sampler", "sobel"), "did you mean 'sobol'"),
        (("--schedule", "cosin"), "did you mean 'cosine'"),
        (("--schedule", "constant[warmup=5]"), "schedule 'constant' has no 'warmup'; cosine, linear, wsd"),
        (("--schedule", "cosine[warmup=9999]"), "SGD: schedule 'cosine.warmup=9999.' does not fit"),
        (
            ("-o", "sgd[schedule=wsd,warmup=2.5]"),
            "warmup of schedule 'wsd' must be a whole number of steps, or a share",
        ),
        (("--reference", "adm"), "unknown reference 'adm'.*SGD"),
        (("--space", "none.toml"), "cannot read the search space none.toml"),
        (("--tuning-seeds", "0"), "--tuning-seeds must be at least 1, not 0"),
        (("--seed-offset", "-1"), "--seed-offset must be at least 0, not -1"),
        (("--seed-offset", "1000000"), "evaluation seeds 1000000.* and tuning seeds 1000000 overlap"),
        (("--match", "second"), "unknown match 'second'; did you mean 'seconds'"),
        (("--match", "seconds", "--timing-rounds", "0"), "--match seconds needs the timing pass"),
        (("--all-train",), "--all-train leaves no validation set to search on"),
    ],
)
def test_a_wrong_argument_is_told(steepest: Any, arguments: tuple[str, ...], told: str) -> None:
    answer = steepest("study", "mini-batch", "--preset", "smoke", "--trials", "2", *arguments)
    assert answer.code == 2
    assert re.search(told, answer.err, re.DOTALL)
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--search", "lr"),
        ("--space", "space.toml"),
        ("--tuning-seeds", "1"),
        ("--search-seed", "1"),
        ("--sampler", "sobol"),
        ("--extend",),
    ],
)
@pytest.mark.parametrize("trials", [("--trials", "0"), ()])
def test_an_option_of_the_search_is_refused_without_one(
    steepest: Any, arguments: tuple[str, ...], trials: tuple[str, ...]
) -> None:
    Path("space.toml").write_text("[sgd]\nlr = [0.1, 0.2]")
    answer = steepest("study", "mini-batch", "--preset", "smoke", *trials, *arguments)
    assert answer.code == 2
    assert f"{arguments[0]} has no effect with --trials 0" in answer.err
    assert not Path("studies").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("-o", "sgd[lr=0.5]", "--space", "sgd.toml"),
            "SGD[lr=0.5] is given lr in brackets and a space to search it in",
        ),
        (("-o", "sgd", "--search", "lr", "--space", "sgd.toml"), "--search has no effect: --space says for every"),
    ],
)
def test_what_is_asked_for_twice_is_refused(steepest: Any, arguments: tuple[str, ...], told: str) -> None:
    Path("sgd.toml").write_text("[sgd]\nlr = [0.1, 0.2]")
    answer = steepest("study", "mini-batch", "--preset", "smoke", "--trials", "2", *arguments)
    assert answer.code == 2
    assert told in answer.err


@pytest.mark.usefixtures("calibrated")
def test_what_changes_nothing_is_remarked_on(steepest: Any, own_files: Path) -> None:
    (own_files / "my_task.py").write_text(TASK.replace("my_task(preset)", "my_task()"))
    options = ("--preset", "full", "--data-dir", "d", "--schedule", "cosine", "--search", "momentum", "--trials", "2")
    answer = steepest("study", "my_task.py", *options, "-o", "sgd", "-o", "rprop", "-o", "adam", "--plan-only")
    assert answer.code == 0
    beginnings = (
        "--preset full changes nothing but the folder's name: my_task.py:my_task is a function of nothing",
        "--data-dir d has no effect: the data of my_task.py:my_task are read from no folder",
        "--schedule cosine does not hold for Rprop, which finds its own steps: its rate is constant",
        "Rprop has nothing to search (momentum: given in brackets, or without a declared range)",
        "Adam has nothing to search",
    )
    lines = answer.err.splitlines()
    assert all(line.startswith(f"note: {told}") for line, told in zip(lines, beginnings, strict=True))


@pytest.mark.usefixtures("calibrated")
def test_a_setting_that_torch_lacks_is_remarked_on(steepest: Any) -> None:
    answer = steepest("study", "fashion-mnist", "--preset", "smoke", "-o", "torch.optim:RMSprop", "--plan-only")
    assert "torch.optim.RMSprop runs without the workload's eps_in_sqrt of rmsprop: it has no such option" in answer.err


@pytest.mark.usefixtures("calibrated")
def test_a_plan_follows_every_option_of_the_run(steepest: Any) -> None:
    options = ("--out", "here", "-j", "2", "--time-limit", "1.5", "--timing-rounds", "0")
    answer = steepest(*TUNED, "-o", "sgd", "--plan-only", *options)
    assert "folder     here" in answer.out
    assert "cost       about 6:17 with 2 jobs" in answer.out
    assert "limit      a trial that takes longer than 1.5 minutes counts as worst" in answer.out
    assert "on the CPU with 1 thread" in answer.out


@pytest.mark.usefixtures("calibrated")
def test_a_plan_shows_its_seeds(steepest: Any) -> None:
    answer = steepest(*TUNED, "-o", "sgd", "--seeds", "2", "--seed-offset", "7", "--search-seed", "1", "--plan-only")
    assert "seeds 7, 8" in answer.out
    assert "mini-batch-smoke-2-trials-seeds-from-7-search-1" in answer.out


def test_a_trial_is_repeated_by_name(steepest: Any, no_report: None) -> None:
    steepest(*TUNED, "-o", "sgd")
    folder = "studies/mini-batch-smoke-2-trials"
    answer = steepest("rerun", folder, "sgd-evaluation")
    assert answer.code == 0
    assert re.fullmatch(r"bit-equal: \d+ records of sgd-evaluation-seed0-[0-9a-f]{8}\n", answer.out)
    path = next(Path(folder, "trials").glob("sgd-evaluation*"))
    path.write_text(path.read_text().replace('"step":3', '"step":33'))
    answer = steepest("rerun", folder, "sgd-evaluation")
    assert answer.code == 1
    assert "different from record" in answer.out


@pytest.mark.parametrize("minutes", ["nan", "inf", "0", "-1"])
def test_a_time_limit_is_a_number_above_zero(steepest: Any, own_files: Path, minutes: str) -> None:
    answer = steepest("study", "digits", "--preset", "smoke", "-o", "sgd", "--time-limit", minutes, "--plan-only")
    assert answer.code == 2
    assert "--time-limit must be a number of minutes above 0, not " in answer.err


@pytest.mark.usefixtures("calibrated")
def test_a_plan_of_looks_is_printed(steepest: Any) -> None:
    options = ("--seeds", "6", "--more-seeds", "20", "--plan-only")
    answer = steepest(*TUNED, "-o", "sgd", "-o", "adam", *options)
    assert "looks      at 6, 12, 18, 20 seeds, as long as a comparison is undecided; the first that can" in answer.out
    assert "20 find a difference of" in answer.out
    assert "cost       at most about" in answer.out


@pytest.mark.parametrize("most", ["6", "5", "1000"])
def test_a_maximum_of_seeds_that_makes_no_sense_is_told(steepest: Any, most: str) -> None:
    answer = steepest(*TUNED, "-o", "sgd", "--seeds", "6", "--more-seeds", most)
    assert answer.code == 2
    assert f"--more-seeds {most} is the largest number of seeds that a study with 6 at first may grow to" in answer.err
