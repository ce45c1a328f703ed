"""The verdicts of the page against ones worked out here, from the raw records and by brute force."""

import csv
import io
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from raw_records import raw_phase
from synthetic_study import TUNED, Plan, write_study

from steepest.study.report.charts.palette import style_of
from steepest.study.report.charts.row_charts import verdict_chart
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.tables.answer_tables import verdicts_table
from steepest.study.report.tables.tables import to_csv
from steepest.study.report.text.answer import answer, caution, seen
from steepest.study.statistics.power import seeds_to_detect
from steepest.study.statistics.verdicts import Verdict

CALM = replace(TUNED, ends={}, trials=0, timing_rounds=0, targets=(), skipped={}, restarts={})


def _rows(found: Findings) -> dict[str, dict[str, str]]:
    return {row["Optimizer"]: row for row in csv.DictReader(io.StringIO(to_csv(verdicts_table(found))))}


def _raw_results(folder: Path) -> dict[str, dict[int, float]]:
    """Final test accuracy, NaN for a diverged trial; nothing for a trial without an end, or one that failed."""
    found: dict[str, dict[int, float]] = {}
    for entry, records, _ in raw_phase(folder, "evaluation"):
        status = records[-1].get("status") if records else None
        if status in ("finished", "diverged"):
            value = records[-1].get("test_accuracy", math.nan)
            found.setdefault(entry["optimizer"], {})[entry["seed"]] = value
    return found


def _raw_differences(folder: Path, label: str, reference: str) -> list[float]:
    results = _raw_results(folder)
    pairs = [(results[label][seed], results[reference][seed]) for seed in results[label] if seed in results[reference]]
    return [-math.inf if math.isnan(own) else math.inf if math.isnan(other) else own - other for own, other in pairs]


def _p_value(differences: list[float]) -> float:
    """The share of all sign patterns whose sum is at least as far from 0."""
    observed = abs(sum(differences))
    patterns = list(itertools.product((-1, 1), repeat=len(differences)))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in patterns]
    return sum(total >= observed - 1e-12 for total in sums) / len(patterns)


def _signed_ranks(differences: list[float]) -> list[float]:
    sizes = sorted(abs(d) for d in differences)
    return [math.copysign(sizes.index(abs(d)) + 1, d) for d in differences]  # no ties in these data


def _holm(p_values: dict[str, float]) -> dict[str, float]:
    adjusted, largest = {}, 0.0
    for place, label in enumerate(sorted(p_values, key=lambda label: p_values[label])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[label]))
        adjusted[label] = largest
    return adjusted


def _interval(differences: list[float], level: float) -> tuple[float, float]:
    """All means that the test does not reject: order statistics of the means of all non-empty subsets."""
    n = len(differences)
    means = sorted(
        sum(chosen) / size for size in range(1, n + 1) for chosen in itertools.combinations(differences, size)
    )
    tail = int(2**n * (1 - level) / 2)
    return (means[tail - 1], means[-tail]) if tail else (-math.inf, math.inf)


def test_every_figure_of_the_table_follows_from_the_raw_records(tuned: Findings, tuned_folder: Path) -> None:
    others = ["Momentum", "Adam", "AdamW", "Lion"]
    differences = {label: _raw_differences(tuned_folder, label, "SGD") for label in others}
    finite = {label: all(map(math.isfinite, its)) for label, its in differences.items()}
    p_values = {label: _p_value(its if finite[label] else _signed_ranks(its)) for label, its in differences.items()}
    adjusted, rows = _holm(p_values), _rows(tuned)
    assert list(rows) == others
    for label, its in differences.items():
        row = rows[label]
        assert float(row["Adjusted p"]) == pytest.approx(adjusted[label])
        assert float(row["P(better)"]) == sum(d > 0 for d in its) / len(its)
        assert int(row["Paired seeds"].split()[0]) == len(its)
        if finite[label]:
            assert float(row["Difference"]) == pytest.approx(sum(its) / len(its))
            ends = [float(row["98.8% interval low"]), float(row["98.8% interval high"])]
            assert ends == pytest.approx(_interval(its, 1 - 0.05 / 4))
    assert [rows[label]["Verdict"] for label in others] == ["undecided", "better", "not enough seeds", "better"]


def test_a_diverged_trial_is_an_infinite_difference_and_a_failed_one_is_missing(tuned: Findings) -> None:
    rows = {row.label: row for row in tuned.verdicts.rows}
    assert dict(rows["Momentum"].differences)[3] == -math.inf
    assert {5, 6}.isdisjoint(dict(rows["AdamW"].differences))
    pairs = {label: row["Paired seeds"] for label, row in _rows(tuned).items()}
    assert pairs["Momentum"] == "8 (1 diverged)"
    assert pairs["AdamW"] == "6 of 8 (1 failed, 1 interrupted)"


def test_the_reference_diverging_favours_the_others(found: Callable[[Plan], Findings]) -> None:
    its = found(replace(CALM, ends={("SGD", 2): "diverged"}))
    assert all(dict(row.differences)[2] == math.inf for row in its.verdicts.rows)


def test_less_is_better_for_a_metric_to_minimise(found: Callable[[Plan], Findings], tmp_path: Path) -> None:
    its = found(replace(CALM, overrides={"metric": {"name": "loss", "direction": "minimize"}}))
    values = {(e["optimizer"], e["seed"]): r[-1]["test_loss"] for e, r, _ in raw_phase(tmp_path, "evaluation")}
    row = next(row for row in its.verdicts.rows if row.label == "Adam")
    assert dict(row.differences) == pytest.approx({s: values["SGD", s] - values["Adam", s] for s in range(8)})


def test_alike_runs_are_equivalent_within_a_margin_only(found: Callable[[Plan], Findings], tmp_path: Path) -> None:
    its = found(replace(CALM, labels=("Adam", "AdaMax"), margin=0.9, reference="Adam"))
    assert [one.verdict for one in its.verdicts.comparisons] == [Verdict.EQUIVALENT]
    assert "AdaMax (lr=0.01) is equivalent (within 0.9) to Adam (lr=0.01)." in answer(
        its.study, its.verdicts, its.summaries
    )
    without = found(replace(CALM, labels=("Adam", "AdaMax"), margin=0.0, reference="Adam"))
    assert without.verdicts.comparisons[0].verdict is not Verdict.EQUIVALENT


def test_the_reference_is_the_plans_and_not_the_first(found: Callable[[Plan], Findings]) -> None:
    its = found(replace(CALM, reference="Adam"))
    assert its.verdicts.reference == "Adam"
    assert "Adam" not in [row.label for row in its.verdicts.rows]


def test_an_optimizer_whose_search_found_nothing_is_named_without_a_verdict(found: Callable[[Plan], Findings]) -> None:
    lost: dict[tuple[str, int | str], str] = {("Lion", point): "diverged" for point in ("defaults", 0, 1)}
    its = found(replace(TUNED, trials=2, search_ends=lost))
    assert _rows(its)["Lion"]["Verdict"] == "not evaluated: no point of its search finished on every seed"
    assert len(its.verdicts.comparisons) == 3


def test_the_answer_is_the_verdict_and_not_the_highest_mean(tuned: Findings) -> None:
    sentence = answer(tuned.study, tuned.verdicts, tuned.summaries)
    assert sentence.startswith(
        "So far, on test accuracy at the end of training, over 8 paired seeds: Adam (lr=0.007145"
    )
    chosen = tuned.study.chosen["Lion"].options["lr"]
    words = f"Lion (lr={chosen:g}, weight_decay=0; by 0.052, interval 0.032 to 0.077) are better than SGD (lr="
    assert words in sentence
    assert "is undecided against SGD; AdamW is without a verdict, for too few seeds." in sentence
    means = {one.label: one.spreads["test_accuracy"].mean or 0 for one in tuned.summaries}
    assert max(means, key=lambda label: means[label]) == "AdamW"
    assert seen(tuned.verdicts, tuned.summaries).startswith("In these runs AdamW had the highest mean test accuracy")


@pytest.mark.parametrize("seeds", [1, 2, 6])
def test_too_few_seeds_give_no_verdict_and_say_how_many_would(found: Callable[[Plan], Findings], seeds: int) -> None:
    its = found(replace(CALM, seeds=seeds))
    sentence = answer(its.study, its.verdicts, its.summaries)
    assert sentence.startswith("No verdict: for 5 comparisons with SGD, 8 paired seeds are needed, and there ")
    assert not any(word in sentence for word in ("better", "worse", "highest"))


def test_one_optimizer_has_nothing_to_be_compared_with(found: Callable[[Plan], Findings]) -> None:
    its = found(Plan(labels=("Adam",)))
    sentence = answer(its.study, its.verdicts, its.summaries)
    assert sentence.startswith("Adam has a mean test accuracy of ")
    assert sentence.endswith("there is no other optimizer to compare it with.")
    assert verdicts_table(its).rows == ()


def test_without_finished_trials_there_is_no_answer(found: Callable[[Plan], Findings]) -> None:
    its = found(Plan(labels=("Adam",), seeds=2, ends={("Adam", seed): "not started" for seed in range(2)}))
    assert (
        answer(its.study, its.verdicts, its.summaries) == "No trial has finished yet, so there is nothing to compare."
    )


def test_all_diverged_is_said(found: Callable[[Plan], Findings]) -> None:
    its = found(Plan(labels=("Adam",), seeds=2, ends={("Adam", seed): "diverged" for seed in range(2)}))
    assert answer(its.study, its.verdicts, its.summaries) == "Every trial that ended diverged."


def test_two_that_diverge_on_every_seed_are_not_equivalent(found: Callable[[Plan], Findings]) -> None:
    ends = {(label, seed): "diverged" for label in ("Adam", "SGD") for seed in range(12)}
    its = found(Plan(labels=("SGD", "Adam"), seeds=12, margin=0.5, ends=ends))
    assert [one.verdict for one in its.verdicts.comparisons] == [Verdict.BOTH_DIVERGED]
    sentence = answer(its.study, its.verdicts, its.summaries)
    assert sentence.endswith("over 12 paired seeds: Adam and SGD (the reference) both diverged on every paired seed.")
    assert _rows(its)["Adam"]["Verdict"] == "both diverged"
    assert _rows(its)["Adam"]["Paired seeds"] == "12 (12 diverged; 12 with the reference's)"
    verdict_chart(its, {label: style_of(index) for index, label in enumerate(its.study.labels)})


def test_a_pair_that_diverged_together_never_counts_towards_equivalence(found: Callable[[Plan], Findings]) -> None:
    ends = {(label, 3): "diverged" for label in ("Adam", "AdaMax")}
    its = found(replace(CALM, labels=("Adam", "AdaMax"), margin=0.9, reference="Adam", ends=ends))
    assert its.verdicts.comparisons[0].verdict is not Verdict.EQUIVALENT
    words = " ".join(caution(its.study, its.verdicts, its.searches))
    assert "Seeds on which Adam has no finite result either: AdaMax (1)." in words


def test_a_metric_without_any_finite_value_is_an_error_of_the_metric(
    found: Callable[[Plan], Findings], tmp_path: Path
) -> None:
    folder = write_study(tmp_path / "nan", replace(CALM, labels=("SGD", "Adam"), margin=0.5))
    for path in (folder / "trials").iterdir():
        text = re.sub(r'"test_accuracy": [^,}]+', '"test_accuracy": "nan"', path.read_text())
        path.write_text(text)
    its = findings(read_study(folder))
    sentence = answer(its.study, its.verdicts, its.summaries)
    assert sentence.startswith("No verdict: the metric 'accuracy' has no finite value on the test set in any of 16 ")
    assert "(it is nan)" in sentence


def test_a_trial_over_its_time_limit_counts_as_worst_and_is_named(found: Callable[[Plan], Findings]) -> None:
    its = found(replace(CALM, ends={("Adam", 2): "timed out", ("Adam", 5): "timed out"}))
    row = next(row for row in its.verdicts.rows if row.label == "Adam")
    assert (len(row.differences), dict(row.differences)[2], row.lost) == (8, -math.inf, {"timed out": 2})
    assert _rows(its)["Adam"]["Paired seeds"] == "8 (2 timed out)"
    words = " ".join(caution(its.study, its.verdicts, its.searches))
    assert "Trials that took longer than the time limit count as worst, as diverged ones do: Adam (2)." in words


@pytest.mark.parametrize("defaults", ["finished", "diverged"])
def test_a_search_of_which_every_point_diverged_is_told(found: Callable[[Plan], Findings], defaults: str) -> None:
    lost: dict[tuple[str, int | str], str] = {("Lion", point): "diverged" for point in (0, 1)}
    lost |= {("Lion", "defaults"): "diverged"} if defaults == "diverged" else {}
    its = found(replace(TUNED, trials=2, ends={}, search_ends=lost))
    words = " ".join(caution(its.study, its.verdicts, its.searches))
    assert "No point of the search of Lion finished (2 diverged): it " in words
    assert ("ran with the library's defaults and was not tuned" in words) == (defaults == "finished")
    assert "diverged on fresh ones" not in words
    sentence = answer(its.study, its.verdicts, its.summaries)
    assert ("Lion was not evaluated" in sentence) == (defaults == "diverged")


def test_cautions_name_what_was_lost_skipped_and_at_the_edge(tuned: Findings) -> None:
    sentences = " ".join(caution(tuned.study, tuned.verdicts, tuned.searches))
    assert (
        "count as worst in the verdicts and cannot enter a mean; seeds with an infinite difference: Momentum (1)."
        in (sentences)
    )
    assert "Of 40 trials, 1 diverged, 1 failed and 1 interrupted" in sentences
    assert "Rprop could not take part" in sentences
    assert "for SGD (upper end, 0.5623) and Momentum (upper end, 0.6339)" in sentences
    assert "--extend" in sentences
    assert "Nothing was tuned" not in sentences
    cliff = "Settings that finished on 2 tuning seeds and diverged on fresh ones: Momentum (1). They lie where"
    assert cliff in sentences


def test_fixed_settings_are_called_untuned(mixed_folder: Path, found: Callable[[Plan], Findings]) -> None:
    its = found(Plan(labels=("Adam", "SGD")))
    assert "Nothing was tuned" in " ".join(caution(its.study, its.verdicts, its.searches))


def test_the_chart_shows_every_pair_and_the_interval(tuned: Findings) -> None:
    chart = verdict_chart(tuned, {label: style_of(index) for index, label in enumerate(tuned.study.labels)})
    for row in tuned.verdicts.rows:
        dots = [one for one in chart.series if one.label == row.label and one.kind == "dots"]
        assert sorted(dots[0].x) == sorted(value for _, value in row.differences if math.isfinite(value))
    intervals = {one.label: one for one in chart.series if one.kind == "interval"}
    adam = next(one for one in tuned.verdicts.comparisons if one.label == "Adam")
    assert intervals["Adam"].reach == ((adam.interval.low,), (adam.interval.high,))
    assert intervals["AdamW"].reach is None
    stops = [one for one in chart.series if one.kind == "stop"]
    assert [(one.label, one.notes) for one in stops] == [("Momentum", ("seed 3: Momentum has no finite result",))]
    assert chart.x.bounds is not None
    assert chart.x.bounds[0] < stops[0].x[0] < min(min(one.x) for one in chart.series if one.kind == "dots")
    assert [(guide.low, guide.high) for guide in chart.guides] == [(-0.01, 0.01), (0.0, 0.0)]


def test_reading_twice_gives_the_same_verdicts(tuned: Findings, tuned_folder: Path) -> None:
    from steepest.study.report.findings.findings import findings

    assert findings(read_study(tuned_folder)).verdicts == tuned.verdicts


def test_open_comparisons_say_how_many_seeds_would_decide_them(tmp_path: Path) -> None:
    plan = replace(CALM, reference="Adam", margin=0.0)
    found = findings(read_study(write_study(tmp_path / "study", plan)))
    open_ones = [c for c in found.verdicts.comparisons if c.verdict is Verdict.UNDECIDED]
    assert open_ones
    (sentence,) = [s for s in caution(found.study, found.verdicts, ()) if s.startswith("Seeds that would decide")]
    for comparison in open_ones:
        effect, count = comparison.effect_size or 0.0, len(found.verdicts.comparisons)
        wanted = seeds_to_detect(effect, count)
        assert f"{comparison.label} {f'about {wanted}' if wanted else 'more than 200'}" in sentence
    decided = [c.label for c in found.verdicts.comparisons if c not in open_ones]
    assert not any(f"{label} about" in sentence or f"{label} more" in sentence for label in decided)
