"""Recipes: an optimizer with a schedule of its own, whose options are given, searched and told with the optimizer's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from steepest.fields import Search
from steepest.study.declaration import Declared
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import OptimizerConfig, parse_config
from steepest.study.planning import remarks
from steepest.study.planning.plan import Plan
from steepest.study.planning.request import Request
from steepest.study.planning.search import Choice, Dimension, Range, read_spaces
from steepest.study.records.format import SearchedValues
from steepest.study.report.findings.findings import findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.tables.contents import settings_table
from steepest.study.report.text.fairness import fairness
from steepest.study.report.text.methods import methods
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder

from .small import planned, small
from .support import Silent, evaluations, stored

RATE: Dimension = Range(Search(1e-3, 1e-1))
SHARE: Dimension = Range(Search(0.05, 0.3))

NAMESAKES = """
import torch


class WarmsUp(torch.optim.SGD):
    def __init__(self, params, lr=0.1, warmup=5):
        super().__init__(params, lr=lr)


def any_option(params, **options):
    return torch.optim.SGD(params, **options)
"""


@pytest.fixture
def namesakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "namesakes.py").write_text(NAMESAKES)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "study", "label", "schedule"),
    [
        ("adamw", "cosine[warmup=100]", "AdamW", "cosine[warmup=100]"),
        ("adamw[schedule=cosine,warmup=100]", "constant", "AdamW[schedule=cosine,warmup=100]", "cosine[warmup=100]"),
        ("sgd[lr=0.1,schedule=wsd]", "cosine", "SGD[lr=0.1,schedule=wsd]", "wsd"),
        ("adamw[schedule=linear,warmup=0.1]", "cosine", "AdamW[schedule=linear,warmup=0.1]", "linear[warmup=0.1]"),
        ("adamw[schedule=linear,warmup=0.05]", "cosine", "AdamW[schedule=linear]", "linear"),
        ("adamw[schedule=cosine]", "cosine", "AdamW", "cosine"),  # as the label leaves out a workload's own rate
        ("adamw[schedule=cosine]", "cosine[warmup=9]", "AdamW[warmup=0.05]", "cosine"),
        ("adamw[warmup=7]", "cosine[final=0.1]", "AdamW[warmup=7]", "cosine[warmup=7,final=0.1]"),
        ("adamw[schedule='wsd[cooldown=3]']", "cosine", "AdamW[schedule=wsd,cooldown=3]", "wsd[cooldown=3]"),
        ("torch.optim:SGD[schedule=constant]", "cosine", "torch.optim.SGD[schedule=constant]", "constant"),
        ("lbfgs", "cosine[warmup=100]", "LBFGS", "constant"),
    ],
)
def test_a_recipe_has_a_label_and_a_schedule(text: str, study: str, label: str, schedule: str) -> None:
    one = parse_config(text, {}, study)
    assert (one.label, one.schedule) == (label, schedule)
    again = OptimizerConfig.read(json.loads(json.dumps(one.document())))
    assert (again.label, again.schedule, again.options) == (label, schedule, one.options)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("adamw[schedule=cosin]", "unknown schedule 'cosin'; did you mean 'cosine'?"),
        ("adamw[schedule=none]", "unknown schedule 'None'"),
        ("adamw[schedule=[1,2]]", "schedule '[1, 2]': cannot read"),
        ("adamw[warmup=3]", "schedule 'constant' has no 'warmup'; cosine, linear, wsd, inverse_sqrt have it"),
        ("adamw[schedule=cosine,cooldown=3]", "'cosine' has no 'cooldown'; wsd has it (cosine has: warmup, final)"),
        ("adamw[schedule='cosine[warm=3]']", "'cosine' has no 'warm'; did you mean 'warmup'?"),
        (
            "adamw[schedule=wsd,warmup=1.5]",
            "must be a whole number of steps, or a share of the steps in [0, 1), not 1.5",
        ),
        ("adamw[schedule=wsd,warmup=1.0]", "not 1.0"),
        ("adamw[schedule=wsd,warmup=-1]", "not -1"),
        ("adamw[schedule=wsd,warmup=-0.1]", "not -0.1"),
        ("adamw[schedule=wsd,cooldown=true]", "cooldown of schedule 'wsd' must be a whole number of steps"),
        ("adamw[schedule=cosine,final=1]", "final of schedule 'cosine' must be a number >= 0 and < 1, not 1"),
        ("adamw[schedule=cosine,final=low]", "must be a number >= 0 and < 1, not 'low'"),
        ("adamw[schedule='cosine[warmup=3]',warmup=4]", "warmup is given twice"),
        (
            "rprop[schedule=cosine,warmup=3]",
            "Rprop finds its own steps and takes no schedule; leave out schedule, warmup",
        ),
        ("adamw[shedule=cosine]", "its schedule is given by schedule, warmup, cooldown, final"),
        ("torch.optim:SGD[shedule=cosine]", "its schedule is given by schedule, warmup, cooldown, final"),
    ],
)
def test_a_wrong_recipe_is_told(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        parse_config(text, {})


@pytest.mark.usefixtures("namesakes")
def test_an_option_of_the_optimizer_wins_over_the_schedule_s() -> None:
    one = parse_config("namesakes.py:WarmsUp[warmup=7]", {}, "cosine")
    assert (one.options, one.schedule) == ({"warmup": 7}, "cosine")
    both = parse_config("namesakes.py:WarmsUp[warmup=7,schedule='wsd[warmup=3]']", {}, "cosine")
    assert (both.options, both.schedule) == ({"warmup": 7}, "wsd[warmup=3]")
    assert both.label == "namesakes.WarmsUp[warmup=7,schedule=wsd[warmup=3]]"
    assert one.with_options({"warmup": 2}).options == {"warmup": 2}
    other = parse_config("namesakes.py:any_option[lr=0.1,schedule=wsd,warmup=3]", {})
    assert (other.options, other.schedule) == ({"lr": 0.1}, "wsd[warmup=3]")


@pytest.mark.usefixtures("namesakes")
def test_an_option_that_wins_is_remarked_on() -> None:
    (told,) = remarks.remarks(request("namesakes.py:WarmsUp[warmup=7]", trials_wanted=0))
    assert told.startswith("warmup in the brackets of namesakes.WarmsUp[warmup=7] is the optimizer's own option")
    assert "schedule='cosine[warmup=0.1]'" in told


def test_a_schedule_for_nobody_is_remarked_on() -> None:
    given = request("sgd[schedule=wsd]", "rprop", schedule_wanted="linear", trials_wanted=0)
    assert "--schedule linear has no effect: every optimizer has a schedule of its own" in remarks.remarks(given)


def request(*optimizers: str, **wanted: Any) -> Request:
    workload = small()
    declared = Declared("small", lambda: workload, "small", workload.model)
    return Request(declared, None, optimizers, **{"trials_wanted": 4, **wanted})


def tuned(*optimizers: str, **wanted: Any) -> Plan:
    return planned(small(), *optimizers, **{"trials_wanted": 4, **wanted})


def test_a_searched_warm_up_is_drawn_with_the_rate() -> None:
    plan = tuned("adamw[schedule=cosine]", "sgd[schedule=wsd]", "rprop", searched_wanted=("lr", "warmup", "cooldown"))
    assert {label: list(space) for label, space in plan.spaces.items()} == {
        "AdamW": ["lr", "warmup"],
        "SGD[schedule=wsd]": ["lr", "warmup", "cooldown"],
        "Rprop": ["lr"],  # it takes no schedule
    }
    assert all(len(points) == 1 + 4 for points in plan.candidates.values())
    assert {one.config.schedule for one in plan.candidates["Rprop"]} == {"constant"}
    for defaults, *points in (plan.candidates[label] for label in ("AdamW", "SGD[schedule=wsd]")):
        assert defaults.config.schedule in ("cosine", "wsd")
        assert len({point.config.schedule for point in points}) == 4
        assert len({point.config.options["lr"] for point in points}) == 4
    entry = stored(plan.document)["optimizers"][0]
    assert all(0.01 <= point["options"]["warmup"] <= 0.2 for point in entry["points"][1:])
    assert entry["schedule"] == "cosine"


def test_all_means_the_optimizer_s_own_hyperparameters() -> None:
    assert "warmup" not in tuned("adamw", searched_wanted=("all",)).spaces["AdamW"]
    assert "warmup" in tuned("adamw", searched_wanted=("all", "warmup")).spaces["AdamW"]


def test_a_schedule_is_drawn_with_its_options() -> None:
    space = {"schedule": Choice(("constant", "wsd[final=0.1]")), "warmup": SHARE, "cooldown": Choice((0.1, 0.4))}
    plan = tuned("sgd", spaces={"sgd": space}, trials_wanted=8, schedule_wanted="cosine[final=0.2]")
    defaults, *points = (one.config.schedule for one in plan.candidates["SGD"])
    assert defaults == "cosine[final=0.2]"  # the study's, with the default of what is searched
    assert points.count("constant") == 4
    for text in set(points) - {"constant"}:
        assert re.fullmatch(r"wsd\[warmup=0\.\d+,cooldown=0\.[14],final=0\.1\]", text)
    entry = plan.document.optimizers[0]
    assert entry.space["schedule"] == SearchedValues(("constant", "wsd[final=0.1]"))
    shown = [set(point.options) - {"lr"} for point in entry.points if point.options.get("schedule") == "constant"]
    assert shown == [{"schedule"}] * 4  # a constant rate has no warm-up to tell
    assert sum(point.options.get("schedule") == "wsd[final=0.1]" for point in entry.points) == 4


def test_recipes_of_one_optimizer_share_a_space_as_far_as_it_goes() -> None:
    space = {"lr": RATE, "cooldown": SHARE}
    plan = tuned("sgd[schedule=wsd]", "sgd[schedule=linear]", "torch.optim:SGD[schedule=wsd]", spaces={"sgd": space})
    found = {label: list(space) for label, space in plan.spaces.items()}
    assert found == {
        "SGD[schedule=wsd]": ["lr", "cooldown"],
        "SGD[schedule=linear]": ["lr"],
        "torch.optim.SGD[schedule=wsd]": ["lr", "cooldown"],
    }


def test_a_given_option_of_a_schedule_stays() -> None:
    plan = tuned("sgd[schedule=wsd,warmup=2]", searched_wanted=("lr", "warmup", "cooldown"))
    (space,) = plan.spaces.values()
    assert list(space) == ["lr", "cooldown"]
    assert all("warmup=2" in one.config.schedule for one in plan.candidates["SGD[schedule=wsd,warmup=2]"])


@pytest.mark.parametrize(
    ("optimizers", "wanted", "told"),
    [
        (
            ("sgd",),
            {"searched_wanted": ("cooldown",)},
            "no optimizer of the study has a schedule with cooldown to search",
        ),
        (("rprop",), {"searched_wanted": ("warmup",)}, "(cosine, linear, wsd, inverse_sqrt have it)"),
        (("sgd",), {"searched_wanted": ("warm",)}, "unknown hyperparameter 'warm'; did you mean 'warmup'?"),
        (
            ("sgd",),
            {"searched_wanted": ("warmup",), "schedule_wanted": "cosine[warmup=2]"},
            "--schedule cosine[warmup=2] gives warmup, which --search is to search",
        ),
        (
            ("sgd",),
            {"spaces": {"sgd": {"cooldown": SHARE}}},
            "cooldown, which no schedule there has (wsd has it): SGD has the schedule cosine",
        ),
        (("rprop",), {"spaces": {"rprop": {"warmup": SHARE}}}, "Rprop has the schedule constant"),
        (
            ("rprop",),
            {"spaces": {"rprop": {"schedule": Choice(("wsd",))}}},
            "which no schedule there has, and takes no",
        ),
        (("sgd",), {"spaces": {"sgd": {"schedule": Choice(("wds",))}}}, "unknown schedule 'wds'; did you mean 'wsd'?"),
        (("sgd",), {"spaces": {"sgd": {"schedule": RATE}}}, 'list schedules: schedule = ["cosine", "wsd"]'),
        (
            ("sgd",),
            {"spaces": {"sgd": {"schedule": Choice(("wsd[cooldown=0.1]",)), "cooldown": SHARE}}},
            "sets cooldown in schedule 'wsd[cooldown=0.1]' and draws it too",
        ),
        (
            ("sgd[schedule=wsd]",),
            {"spaces": {"sgd": {"schedule": Choice(("cosine",))}}},
            "is given schedule in brackets and a space",
        ),
    ],
)
def test_a_wrong_search_of_schedules_is_told(optimizers: tuple[str, ...], wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        request(*optimizers, **wanted)


def test_a_range_of_steps_is_refused() -> None:
    with pytest.raises(UsageError, match=r"SGD cannot run with warmup=.*share of the steps in \[0, 1\).*search space"):
        tuned("sgd", spaces={"sgd": {"warmup": Range(Search(2, 8))}})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sgd[schedule=cosine,warmup=11]", "does not fit: warmup=11 take 11 steps, and a trial has 10"),
        ("sgd[schedule=wsd,warmup=0.5,cooldown=6]", "warmup=0.5 and cooldown=6 take 11 steps, and a trial has 10"),
    ],
)
def test_a_schedule_longer_than_a_trial_is_told(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        planned(small(), text)
    drawn = {"sgd": {"schedule": Choice((parse_config(text, {}).schedule,))}}
    with pytest.raises(UsageError, match=re.escape(told)):
        tuned("sgd", spaces=drawn)


@pytest.mark.parametrize("text", ["sgd[schedule=cosine,warmup=10]", "sgd[schedule=wsd,warmup=0.8,cooldown=0.2]"])
def test_a_schedule_as_long_as_a_trial_runs(text: str, tmp_path: Path, silent: Silent) -> None:
    plan = planned(small(), text)
    assert plan.subject.steps == 10
    assert engine.run(plan, StudyFolder(tmp_path / "study"), silent).ended == {"finished": 1}


def test_a_space_in_a_file_may_draw_schedules(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text('[sgd]\nschedule = ["cosine", "wsd"]\nwarmup = [1, 2]\ncooldown = { low = 0.1, high = 0.3 }\n')
    plan = tuned("sgd", spaces=read_spaces(path), trials_wanted=8)
    texts = {one.config.schedule for one in plan.candidates["SGD"]}
    assert {text.partition("[")[0] for text in texts} == {"cosine", "wsd"}
    assert any("warmup=2" in text for text in texts)


def test_two_recipes_of_one_optimizer_are_told_apart(tmp_path: Path, silent: Silent) -> None:
    folder = StudyFolder(tmp_path / "study")
    plan = planned(small(), "adamw[schedule=cosine,warmup=3]", "adamw[schedule=wsd]")
    engine.run(plan, folder, silent)
    labels = ["AdamW[schedule=cosine,warmup=3]", "AdamW[schedule=wsd]"]
    assert [(entry["label"], entry["schedule"]) for entry in stored(folder)["optimizers"]] == [
        (labels[0], "cosine[warmup=3]"),
        (labels[1], "wsd"),
    ]
    records = [folder.read_trial(trial.id).lines for trial in evaluations(plan)]
    losses = [[line["loss"] for line in lines if line["kind"] == "step"] for lines in records]
    assert losses[0][0] == losses[1][0]  # the same weights and batch, before any rate
    assert losses[0] != losses[1]
    results = findings(read_study(folder.path))
    words = "cosine (warmup=3) for AdamW[schedule=cosine,warmup=3]; wsd for AdamW[schedule=wsd]."
    assert f"Learning-rate schedules: {words}" in methods(results)
    assert f"Learning-rate schedules differ: {words}" in fairness(results).uncontrolled


def test_a_schedule_that_the_search_chose_is_told(
    tmp_path: Path, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_score", lambda trial, *_: float(trial.point == 1))
    folder = StudyFolder(tmp_path / "study")
    space: dict[str, Dimension] = {"lr": RATE, "schedule": Choice(("linear", "wsd")), "warmup": SHARE}
    engine.run(tuned("sgd", "adam[schedule=cosine]", spaces={"sgd": space}), folder, silent)
    chosen = stored(folder)["chosen"]
    assert "schedule" not in chosen["Adam"]
    schedule = chosen["SGD"]["schedule"]
    evaluated = next(one["id"] for one in stored(folder)["trials"] if one["phase"] == "evaluation")
    assert folder.read_trial(evaluated).lines[0]["spec"]["optimizer"]["schedule"] == schedule
    results = findings(read_study(folder.path))
    assert "(the search chose it for SGD)" in " ".join(fairness(results).uncontrolled)
    row = next(row for row in settings_table(results.study).rows if row[0].text == "SGD")
    assert row[3].text == schedule
    assert f"warmup={chosen['SGD']['options']['warmup']:g}" in row[2].text


@pytest.mark.parametrize("name", ["adamwschedulefree", "sgdschedulefree", "radamschedulefree"])
def test_averages_take_the_place_of_a_schedule_unless_one_is_asked_for(name: str) -> None:
    assert parse_config(name, {}, "cosine").schedule == "constant"
    assert parse_config(f"{name}[schedule=cosine]", {}, "linear").schedule == "cosine"
    assert parse_config(f"{name}[r=1.0]", {}, "cosine").schedule == "constant"
    assert "lr" in parse_config(name, {}, "cosine").origin.ranges
