"""The comparison across workloads: costs, ranks and agreements worked out here, and optimizers missing somewhere."""

import itertools
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from raw_records import raw_phase
from synthetic_study import TUNED, Plan, write_study

from steepest.study.report import ReportError, write_comparison
from steepest.study.report.across import contents as across_contents
from steepest.study.report.across.across import Across, across
from steepest.study.report.across.held import held
from steepest.study.report.charts.palette import style_of
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.stored.reader import read_study

THREE = replace(TUNED, targets=(0.55, 0.8, 0.88), seeds=5, ends={}, skipped={}, epochs=2)
PLANS = {
    "first": replace(THREE, skipped={"Rprop": "no"}, ends={("Momentum", 3): "diverged"}),
    "second": replace(THREE, labels=("SGD", "Adam", "Lion", "Momentum", "Rprop"), scale=1.3),
    "third": replace(THREE, labels=("Adam", "SGD", "Momentum", "Lion", "AdamW"), reference="Adam", scale=0.8),
}
COMMON = ("SGD", "Momentum", "Adam", "Lion")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("three")
    return {
        name: write_study(base / name, replace(plan, overrides={"name": name, "workload": name}))
        for name, plan in PLANS.items()
    }


def _found(folders: Mapping[str, Path]) -> dict[str, Findings]:
    return {name: findings(read_study(folder)) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def compared(folders: dict[str, Path]) -> Across:
    return across(_found(folders))


def _median_results(folder: Path) -> dict[str, float]:
    """Of test accuracies, a diverged one as minus infinity."""
    values: dict[str, list[float]] = {}
    for entry, records, _ in raw_phase(folder, "evaluation"):
        values.setdefault(entry["optimizer"], []).append(records[-1].get("test_accuracy", -math.inf))
    return {label: statistics.median(its) for label, its in values.items()}


def _raw_ranks(folder: Path) -> dict[str, float]:
    medians = {label: value for label, value in _median_results(folder).items() if label in COMMON}
    return {label: 1.0 + sum(other > value for other in medians.values()) for label, value in medians.items()}


def test_ranks_are_those_of_the_medians(compared: Across, folders: dict[str, Path]) -> None:
    assert compared.labels == COMMON
    for name, folder in folders.items():
        assert compared.ranks[name] == _raw_ranks(folder)
    for label in COMMON:
        assert compared.mean_ranks[label] == pytest.approx(
            statistics.fmean(compared.ranks[name][label] for name in folders)
        )


def test_optimizers_missing_somewhere_are_named_with_the_reason(compared: Across) -> None:
    assert compared.absent == {"AdamW": ("second",), "Rprop": ("first", "third")}
    rows = {row[0].text: row[2].text for row in across_contents.tables(compared)["absent"].rows}
    assert rows == {"AdamW": "second: not asked for", "Rprop": "first: no; third: not asked for"}


def test_profiles_are_shares_of_cost_ratios(compared: Across, folders: dict[str, Path]) -> None:
    """Costs are steps to the middle target of three."""
    assert compared.cost == "steps to target"
    medians = {
        name: {row.label: row.median("steps") or 0.0 for row in one.targets[1].rows}
        for name, one in _found(folders).items()
    }
    for band in compared.bands:
        for tau, share in itertools.islice(zip(band.profile.taus, band.profile.shares, strict=True), 0, None, 37):
            within = [its[band.profile.solver] <= tau * min(its[one] for one in COMMON) for its in medians.values()]
            assert share == pytest.approx(sum(within) / 3)
        assert all(low <= high for low, high in zip(band.low, band.high, strict=True))


def test_leaving_one_workload_out_reranks_the_others(compared: Across, folders: dict[str, Path]) -> None:
    change = next(one for one in compared.changes if one.name == "One workload less")
    assert [one.change for one in change.agreements] == list(folders)
    for one in change.agreements:
        rest = [_raw_ranks(folder) for name, folder in folders.items() if name != one.change]
        means = {label: statistics.fmean(ranks[label] for ranks in rest) for label in COMMON}
        assert set(one.first) == {label for label in COMMON if means[label] == min(means.values())}


def test_other_targets_and_searches_are_tried(compared: Across) -> None:
    changes = {change.name: [one.change for one in change.agreements] for change in compared.changes}
    assert changes["Another target, in steps"] == ["easiest target", "hardest target"]
    assert changes["A smaller search, by validation score"] == [
        "no search: the library's defaults",
        "1 point of the search",
        "2 points of the search",
        "4 points of the search",
    ]


def test_without_targets_everywhere_the_cost_is_the_error(tmp_path: Path) -> None:
    calm = replace(THREE, trials=0, timing_rounds=0)
    folders = {
        "with": write_study(tmp_path / "with", calm),
        "without": write_study(tmp_path / "without", replace(calm, targets=())),
    }
    found = across(_found(folders))
    assert found.cost == "result"
    raw = {(e["optimizer"], e["seed"]): r[-1]["test_accuracy"] for e, r, _ in raw_phase(folders["with"], "evaluation")}
    assert found.costs["Adam"][0] == pytest.approx([1 - raw["Adam", seed] for seed in range(5)])
    assert "1 − test accuracy in with" in across_contents.profile_words(found)
    assert [change.name for change in found.changes] == ["One workload less"]


def test_losses_that_are_not_positive_have_no_profile(tmp_path: Path) -> None:
    calm = replace(THREE, labels=("Adam", "SGD"), trials=0, targets=())
    loss = {"metric": {"name": "loss", "direction": "minimize"}}
    folders = {name: write_study(tmp_path / name, replace(calm, overrides=loss)) for name in ("one", "two")}
    path = next((folders["two"] / "trials").iterdir())
    lines = path.read_text().splitlines()
    lines[-1] = json.dumps(json.loads(lines[-1]) | {"test_loss": -0.5})
    path.write_text("\n".join(lines) + "\n")
    found = across(_found(folders))
    assert found.unprofiled == ("two",)
    assert {len(problems) for problems in found.costs.values()} == {1}
    assert "as not all errors there are positive: two" in across_contents.profile_words(found)
    assert set(found.ranks) == {"one", "two"}


def test_nothing_in_common_is_said(tmp_path: Path) -> None:
    folders = {
        "one": write_study(tmp_path / "one", Plan(labels=("Adam",), seeds=2)),
        "two": write_study(tmp_path / "two", Plan(labels=("SGD",), seeds=2, overrides={"workload": "other"})),
    }
    found = across(_found(folders))
    assert not found.comparable
    assert across_contents.answer(found).startswith("No two optimizers have results in all of these studies")
    assert write_comparison(list(folders.values()), tmp_path / "out").is_file()


def test_a_single_study_is_compared_with_itself_alone(tmp_path: Path) -> None:
    found = across(_found({"one": write_study(tmp_path, Plan(labels=("Adam", "SGD"), seeds=2))}))
    assert "One workload shows nothing about others." in across_contents.cautions(found)
    assert "no other condition" in across_contents.answer(found)


def test_the_page_stands_with_its_files(folders: dict[str, Path], tmp_path: Path) -> None:
    page = write_comparison(list(folders.values()), tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "out" / "index.html"
    for words in ("Performance profiles", "Rank on every workload", "Robustness", "First place", "mean rank"):
        assert words in text
    figures: dict[str, Any] = json.loads(text.split('id="figures">')[1].split("</script>")[0])
    assert set(figures) == {"performance-profiles", "ranks"}
    written = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"ranks.csv", "robustness.tex", "absent.md", "performance-profiles.png", "ranks.svg"} <= written


def test_two_studies_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [write_study(tmp_path / name, _own_task(name, "cosine")) for name in ("a", "b")]
    text = write_comparison(folders, tmp_path / "out").read_text(encoding="utf-8")
    assert f"fashion-mnist quick ({tmp_path / 'a'})" in text
    assert f"fashion-mnist quick ({tmp_path / 'b'})" in text


def _own_task(data: str, schedule: str) -> Plan:
    overrides = {
        "config": {"task": {"source": "my_task.py:fashion-mnist"}, "epochs": 2},
        "data": {"name": "your data", "sha256": {"train": data}},
        "protocol": {"schedule": schedule, "reference": "Adam", "trials": 0},
    }
    return Plan(labels=("Adam", "SGD"), seeds=2, overrides=overrides)


def test_one_workload_under_two_schedules_is_not_two(tmp_path: Path) -> None:
    folders = [write_study(tmp_path / name, _own_task("same", name)) for name in ("cosine", "constant")]
    told = (
        "are studies of one workload, fashion-mnist, with schedule cosine and constant. A comparison across workloads"
    )
    with pytest.raises(ReportError, match=told):
        write_comparison(folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_workload_at_two_sizes_is_not_two(tmp_path: Path) -> None:
    folders = [
        write_study(tmp_path / preset, Plan(labels=("Adam", "SGD"), preset=preset)) for preset in ("quick", "full")
    ]
    with pytest.raises(ReportError, match="of one workload, fashion-mnist, with preset quick and full"):
        write_comparison(folders, tmp_path / "out")


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="No folder was given"):
        write_comparison([], tmp_path)


def test_charts_show_every_rank(compared: Across) -> None:
    styles = {label: style_of(index) for index, label in enumerate(compared.labels)}
    _, ranks = across_contents.charts(compared, styles)
    dots = {series.label: series.x for series in ranks.series if series.kind == "dots"}
    assert dots == {label: tuple(its[label] for its in compared.ranks.values()) for label in COMMON}


def _judged(folder: Path, scale: float, name: str, labels: tuple[str, ...] = ("SGD", "Adam")) -> Path:
    """Write a study in which all but the first optimizer have `scale` times their own test accuracy."""
    plan = Plan(labels=labels, seeds=8, overrides={"name": name, "workload": name})
    write_study(folder, plan)
    for path in (folder / "trials").iterdir():
        lines = path.read_text().splitlines()
        end = json.loads(lines[-1])
        seed = int(path.stem.split("seed")[1].split("-")[0])
        base = 0.5 + 0.001 * seed
        end["test_accuracy"] = base if path.name.startswith("00") else scale * base
        path.write_text("\n".join([*lines[:-1], json.dumps(end)]) + "\n")
    return folder


def test_verdicts_that_hold_on_all_workloads_are_said(tmp_path: Path) -> None:
    folders = {name: _judged(tmp_path / name, 1.5, name) for name in ("one", "two")}
    answer = across_contents.answer(across(_found(folders)))
    assert answer.endswith("Against SGD, Adam is better on all 2 workloads.")


def test_opposite_verdicts_are_said(tmp_path: Path) -> None:
    folders = {name: _judged(tmp_path / name, scale, name) for name, scale in (("one", 1.5), ("two", 0.5))}
    answer = across_contents.answer(across(_found(folders)))
    told = "Against SGD, no optimizer is better, worse or equivalent on all 2 workloads. Adam is better on some"
    assert told in answer


def test_an_optimizer_that_one_study_lacks_does_not_hold_on_all(tmp_path: Path) -> None:
    labels = {"one": ("SGD", "Adam"), "two": ("SGD", "Lion")}
    folders = {name: _judged(tmp_path / name, 1.5, name, its) for name, its in labels.items()}
    assert held(across(_found(folders))).startswith("Against SGD, no optimizer is better, worse or equivalent")


def test_studies_with_different_references_have_nothing_in_common_to_say(compared: Across) -> None:
    assert held(compared) == ""
